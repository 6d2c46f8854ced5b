//! What may happen next, drawn from a seed.

use std::time::Duration;

use genesis_agent::ports::Entropy;
use genesis_agent::sim::SimEntropy;
use genesis_agent::sim::n8n::{Answer, CHANGE, Fault, Kind, Phase};
use serde_json::json;

use super::droplet::Disk;
use super::network::Weather;
use super::wish::{CREDENTIALS, WORKFLOWS, Wish};

/// A bundle that admission must refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forgery {
    /// Signed by a key that no trust root knows.
    UnknownKey,
    /// Changed after it was signed.
    Tampered,
    /// Destroys, and is signed by one.
    TooFewSigners,
    /// Its time is over.
    Expired,
    /// Signed for another tenant.
    ForOther,
    /// Accepted before, under another job.
    Replayed,
}

/// Where a clock jumps to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Jump {
    /// 1970, as without a battery.
    Epoch,
    /// Ten years ahead.
    Ahead,
    /// The right time.
    Right,
}

/// What a tenant does in n8n behind the agent's back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meddling {
    /// Edits a managed workflow.
    Edit,
    /// Switches a managed workflow off.
    Deactivate,
    /// Deletes a managed workflow.
    DeleteWorkflow,
    /// Deletes a managed credential.
    DeleteCredential,
    /// Makes a workflow of its own.
    Own,
}

/// One thing that happens. The number is the droplet's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transition {
    /// An operator pushes a bundle.
    Submit(usize, Vec<Wish>),
    /// The same, and the agent dies at the n-th port call or journal write from then.
    SubmitAndCrash(usize, Vec<Wish>, u64),
    /// Somebody pushes, or a stolen hub delivers, what must be refused.
    Forge(usize, Forgery),
    /// The way to the hub is cut.
    Cut(usize),
    /// The way to the hub is as it should be.
    Mend(usize),
    /// The way to the hub is bad.
    Storm(usize, Weather),
    /// The hub dies and comes back after so many seconds.
    RestartHub(u64),
    /// The hub is stopped in order and comes back after so many seconds.
    StopHub(u64),
    /// The agent is killed at whatever it waits for.
    Kill(usize),
    /// The agent dies at the n-th port call or journal write from now.
    CrashAt(usize, u64),
    /// n8n answers badly.
    Fault(usize, Fault),
    /// n8n stops, starts, runs.
    Phase(usize, Phase),
    /// The disk fills up, or has space again.
    Fill(usize, Disk),
    /// The droplet's clock jumps.
    Jump(usize, Jump),
    /// The tenant meddles.
    Meddle(usize, Meddling, u64),
}

/// Draws transitions.
pub struct Generator {
    entropy: SimEntropy,
    droplets: usize,
    version: u64,
}

impl Generator {
    /// The sequence of a seed.
    pub fn new(seed: u64, droplets: usize) -> Self {
        Self { entropy: SimEntropy::new(seed), droplets, version: 10 }
    }

    fn below(&self, bound: usize) -> usize {
        usize::try_from(self.entropy.number() % bound as u64).unwrap_or(0)
    }

    fn one<T: Copy>(&self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    /// A number from `from` up to and with `to`.
    pub fn between(&self, from: u64, to: u64) -> u64 {
        from + self.entropy.number() % (to - from + 1)
    }

    /// How long until the next thing happens: mostly minutes, sometimes at once.
    pub fn pause(&self) -> Duration {
        match self.below(4) {
            0 => Duration::from_millis(self.between(1, 5_000)),
            1 => Duration::from_secs(self.between(5, 90)),
            _ => Duration::from_secs(self.between(60, 600)),
        }
    }

    /// What happens next.
    pub fn next(&mut self) -> Transition {
        let n = self.below(self.droplets);
        match self.below(100) {
            0..30 => Transition::Submit(n, self.wishes()),
            30..42 => Transition::SubmitAndCrash(n, self.creation(), self.between(1, 40)),
            42..49 => {
                let kinds = [
                    Forgery::UnknownKey,
                    Forgery::Tampered,
                    Forgery::TooFewSigners,
                    Forgery::Expired,
                    Forgery::ForOther,
                    Forgery::Replayed,
                ];
                Transition::Forge(n, self.one(&kinds))
            }
            49..52 => Transition::Cut(n),
            52..56 => Transition::Mend(n),
            56..60 => Transition::Storm(n, self.weather()),
            60..64 => match self.between(0, 300) {
                seconds if seconds.is_multiple_of(2) => Transition::StopHub(seconds),
                seconds => Transition::RestartHub(seconds),
            },
            64..68 => Transition::Kill(n),
            68..74 => Transition::CrashAt(n, self.between(1, 60)),
            74..82 => Transition::Fault(n, self.fault()),
            82..85 => Transition::Phase(n, self.one(&[Phase::Refusing, Phase::Migrating, Phase::Loading])),
            85..88 => Transition::Phase(n, Phase::Up),
            88..91 => Transition::Fill(n, self.one(&[Disk::Full, Disk::Low, Disk::Spacious, Disk::Spacious])),
            91..95 => Transition::Jump(n, self.one(&[Jump::Epoch, Jump::Ahead, Jump::Right, Jump::Right])),
            _ => {
                let kinds = [
                    Meddling::Edit,
                    Meddling::Deactivate,
                    Meddling::DeleteWorkflow,
                    Meddling::DeleteCredential,
                    Meddling::Own,
                ];
                Transition::Meddle(n, self.one(&kinds), self.entropy.number())
            }
        }
    }

    fn weather(&self) -> Weather {
        let chance = |percent| if self.below(2) == 0 { 0 } else { percent };
        Weather {
            lost_before: chance(20),
            lost_after: chance(30),
            repeated: chance(30),
            shuffled: chance(60),
            delay_ms: chance(20_000),
        }
    }

    fn fault(&self) -> Fault {
        let (method, count) = (self.one(&["GET", CHANGE, CHANGE, "POST"]), self.between(1, 12));
        let (kind, count) = match self.below(8) {
            0 => (Kind::Answer(Answer::json(500, &json!({"message": "n8n is not well"}))), count),
            1 => (Kind::Answer(Answer::json(400, &json!({"message": "n8n does not like it"}))), 1),
            2 => (Kind::HalfBody, count),
            3 => (Kind::DropBefore, count),
            4 => (Kind::DropAfter, count),
            5 => (Kind::Delay(Duration::from_millis(self.between(200, 50_000))), count),
            6 => (Kind::Hang, self.between(1, 3)),
            _ => (Kind::HandledLater(u32::try_from(self.between(1, 3)).unwrap_or(1)), 1),
        };
        let skip = u32::try_from(self.below(6)).unwrap_or(0);
        let count = u32::try_from(count).ok();
        Fault { skip, count, ..Fault::once(method, "/api/v1/", kind) }
    }

    /// Something that n8n has to create, often: where a crash may do it twice.
    fn creation(&mut self) -> Vec<Wish> {
        let (credential, workflow) = (self.one(&CREDENTIALS), self.one(&WORKFLOWS));
        self.version += 1;
        let deploy = Wish::Deploy(workflow, self.version, credential);
        match self.below(4) {
            0 => self.wishes(),
            1 => vec![deploy, Wish::Activate(workflow)],
            _ => vec![Wish::DeleteWorkflow(workflow), deploy],
        }
    }

    /// One to three commands, mostly on different things.
    fn wishes(&mut self) -> Vec<Wish> {
        let count = self.one(&[1, 1, 2, 3]);
        let mut wishes: Vec<Wish> = Vec::new();
        for _ in 0..count {
            let wish = self.wish();
            let again = wishes.iter().any(|other| wish.subject().is_some() && other.subject() == wish.subject());
            if !again || self.below(4) == 0 {
                wishes.push(wish);
            }
        }
        wishes
    }

    fn wish(&mut self) -> Wish {
        let (credential, workflow) = (self.one(&CREDENTIALS), self.one(&WORKFLOWS));
        // A value that was there before is as good as a new one.
        let n = if self.below(4) == 0 { self.version } else { self.version + 1 };
        self.version = n;
        match self.below(26) {
            0..4 => Wish::Inject(credential, n),
            4..8 => Wish::Deploy(workflow, n, credential),
            8..10 => Wish::Update(workflow, n, credential),
            10..13 => Wish::Activate(workflow),
            13..15 => Wish::Deactivate(workflow),
            15 => Wish::DeleteWorkflow(workflow),
            16 => Wish::DeleteCredential(credential),
            17 | 18 => Wish::Health,
            19 => Wish::List,
            20 => Wish::Verify,
            21 => Wish::Metrics,
            22 => Wish::Rotate(credential, n),
            _ => Wish::Apply(n, credential, workflow, self.below(2) == 0),
        }
    }
}
