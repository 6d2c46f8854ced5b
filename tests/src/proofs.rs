//! The agent dies where it is told to: runs of scenarios with planned crashes, and what is wrong after them.
//!
//! Nothing here panics because an agent is wrong: that a wrong one is found out is itself tested (`mutants.rs`).

use std::panic::AssertUnwindSafe;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use genesis_agent::exec::mutant::{Mutant, mutate};
use genesis_shared::audit::{self, Expected, event};
use genesis_shared::id::JobId;
use genesis_shared::report::{CommandResult, OutcomeState};

use crate::droplet::{Droplet, wait_for};
use crate::scenario::Scenario;

/// Lives after which a command must have ended: two planned crashes and one that runs to the end.
const LIVES_MAX: usize = 3;

/// At which points the agent may die.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// At every one.
    Everything,
    /// At those of calls and writes that change something: what a crash at a look leaves behind is what the crash before
    /// the next change does.
    Changes,
}

/// What one run came to.
#[derive(Debug, Clone)]
pub struct Ran {
    /// Points passed in the life that ended first.
    pub passed: u64,
    /// How many planned crashes took place.
    pub crashed: usize,
    /// Creations that n8n carried out.
    pub creates: u64,
    /// What the hub was told in the end.
    pub result: CommandResult,
}

/// What must never be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wrong {
    /// An accepted command without its outcome, or an outcome without its effects.
    Lost(String),
    /// Something was done, or told, or is there twice.
    Doubled(String),
}

/// Plays a scenario with crashes at the given points of the first lives; call it in a runtime whose time is paused.
///
/// # Errors
/// What is wrong in the end.
pub async fn play(scenario: &Scenario, crashes: &[u64], at: At) -> Result<Ran, Wrong> {
    let droplet = scenario.droplet();
    if at == At::Changes {
        droplet.outside.crash.leave_looks_out();
    }
    let before = scenario.prepare(&droplet).await;
    let job = droplet.push(scenario.commands(&droplet).await);
    let what = format!("{} with crashes at {crashes:?}", scenario.name);
    let (mut passed, mut crashed, mut ended) = (0, 0, false);
    for life in 0..LIVES_MAX {
        droplet.outside.crash.plan(crashes.get(life).copied());
        ended = live(&droplet, job).await;
        if life == 0 {
            passed = droplet.outside.crash.passed();
        }
        if ended || !droplet.outside.crash.has_happened() {
            break;
        }
        crashed += 1;
    }
    droplet.outside.crash.plan(None);
    // What was told more than once is heard by then.
    if !ended {
        return Err(Wrong::Lost(format!("{what}: no outcome in {} lives", crashed + 1)));
    }
    let results = droplet.outside.hub.results(job);
    let [result] = results.as_slice() else {
        return Err(Wrong::Doubled(format!("{what}: {} outcomes", results.len())));
    };
    if result.state != scenario.outcome {
        let text = format!("{what}: {:?}, {}: {}", result.state, result.code, result.message);
        return Err(Wrong::Lost(text));
    }
    scenario.check(&droplet, &before, &what)?;
    check_audit(&droplet, result, &what)?;
    let standin = droplet.outside.n8n.borrow();
    let creates =
        ["/api/v1/credentials", "/api/v1/workflows"].map(|path| standin.count_done("POST", path)).iter().sum();
    Ok(Ran { passed, crashed, creates, result: result.clone() })
}

/// Whatever crashed: the audit is one chain, says each thing once, and the hub has heard it as it is.
fn check_audit(droplet: &Droplet, result: &CommandResult, what: &str) -> Result<(), Wrong> {
    let (entries, heard) = (droplet.audit(), droplet.outside.hub.audit());
    if let Err(broken) = audit::verify(&droplet.chain(), Expected::WHOLE, entries.clone(), &[]) {
        return Err(Wrong::Lost(format!("{what}: the audit is broken: {broken}")));
    }
    if !entries.starts_with(&heard) || heard.is_empty() {
        return Err(Wrong::Lost(format!("{what}: the hub has heard another audit")));
    }
    let bundle = result.bundle_id.map(|id| id.to_string()).unwrap_or_default();
    let of = |event: &str| entries.iter().filter(|e| e.event == event && e.detail.contains(&bundle)).count();
    let end = match result.state {
        OutcomeState::Succeeded => event::COMMAND_SUCCEEDED,
        OutcomeState::Failed => event::COMMAND_FAILED,
        OutcomeState::Rejected => event::COMMAND_REFUSED,
        OutcomeState::Expired => event::COMMAND_EXPIRED,
        OutcomeState::Stuck => event::COMMAND_STUCK,
    };
    match (of(event::COMMAND_ACCEPTED), of(end)) {
        (1, 1) => Ok(()),
        (accepted, ended) if accepted.max(ended) > 1 => {
            Err(Wrong::Doubled(format!("{what}: {accepted} acceptances and {ended} ends in the audit")))
        }
        (accepted, ended) => Err(Wrong::Lost(format!("{what}: {accepted} acceptances, {ended} ends in the audit"))),
    }
}

/// One life of the agent: `true` once the hub has a result, `false` after the planned crash, or if there is no result
/// in the end.
async fn live(droplet: &Droplet, job: JobId) -> bool {
    let crash = droplet.outside.crash.clone();
    let result = || async { droplet.outside.hub.results(job).into_iter().next() };
    let life = droplet.one_life(async {
        tokio::select! {
            biased;
            () = crash.happened() => false,
            _ = wait_for(result) => true,
        }
    });
    life.await.unwrap_or(false)
}

/// The same in a runtime of its own.
///
/// # Errors
/// What is wrong in the end; that something panicked counts as lost.
pub fn play_alone(scenario: &Scenario, crashes: &[u64], at: At) -> Result<Ran, Wrong> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let played = std::panic::catch_unwind(AssertUnwindSafe(|| runtime.block_on(play(scenario, crashes, at))));
    played.unwrap_or_else(|_| Err(Wrong::Lost(format!("{} with crashes at {crashes:?}: panicked", scenario.name))))
}

/// How far a proof goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Every point.
    Points,
    /// Every pair of changes, of the small scenarios.
    Pairs,
    /// Every pair of changes of every scenario; takes long.
    AllPairs,
}

impl Depth {
    fn at(self) -> At {
        match self {
            Self::Points => At::Everything,
            Self::Pairs | Self::AllPairs => At::Changes,
        }
    }
}

/// What the runs of a proof came to.
#[derive(Debug, Default)]
pub struct Tally {
    /// Scenarios that were played.
    pub scenarios: usize,
    /// Crash points of their first lives.
    pub points: u64,
    /// The same by scenario.
    pub points_of: Vec<(String, u64)>,
    /// Pairs of crashes that took place.
    pub pairs: u64,
    /// Runs after which something was lost.
    pub lost: u64,
    /// Runs after which something was there or was done twice.
    pub doubled: u64,
    /// What was wrong first.
    pub first: Option<Wrong>,
}

impl Tally {
    /// Whether nothing at all was wrong.
    pub fn is_clean(&self) -> bool {
        self.lost + self.doubled == 0
    }

    fn count(&mut self, wrong: Wrong) {
        match wrong {
            Wrong::Lost(_) => self.lost += 1,
            Wrong::Doubled(_) => self.doubled += 1,
        }
        self.first.get_or_insert(wrong);
    }
}

/// Enumerates the crash points of scenarios, singly or in pairs, on every core, and counts what was wrong.
#[derive(Debug)]
pub struct Proof {
    /// Singly or in pairs.
    pub depth: Depth,
    /// Which wrong agent to run instead of the right one.
    pub mutant: Option<Mutant>,
    /// Whether the first thing that is wrong is enough.
    pub ends_at_first: bool,
}

impl Proof {
    /// Of the right agent, to the end.
    pub fn of(depth: Depth) -> Self {
        Self { depth, mutant: None, ends_at_first: false }
    }

    /// Runs it.
    pub fn run(&self, scenarios: &[Scenario]) -> Tally {
        let mut tally = Tally::default();
        let mut crashes = Vec::new();
        {
            let _mutated = self.mutant.map(mutate);
            for scenario in scenarios.iter().filter(|scenario| self.depth != Depth::Pairs || scenario.is_small) {
                tally.scenarios += 1;
                match play_alone(scenario, &[], self.depth.at()) {
                    Ok(whole) => {
                        tally.points += whole.passed;
                        tally.points_of.push((scenario.name.clone(), whole.passed));
                        crashes.extend((1..=whole.passed).map(|first| (scenario, whole.creates, first)));
                    }
                    Err(wrong) => tally.count(wrong),
                }
            }
        }
        let (next, over) = (AtomicUsize::new(0), AtomicBool::new(self.ends_at_first && !tally.is_clean()));
        let tally = Mutex::new(tally);
        let work = || {
            let _mutated = self.mutant.map(mutate);
            while !over.load(Ordering::Relaxed) {
                let Some((scenario, creates, first)) = crashes.get(next.fetch_add(1, Ordering::Relaxed)) else { break };
                let (pairs, wrongs) = self.at(scenario, *creates, *first);
                over.fetch_or(self.ends_at_first && !wrongs.is_empty(), Ordering::Relaxed);
                let mut tally = tally.lock().unwrap();
                tally.pairs += pairs;
                wrongs.into_iter().for_each(|wrong| tally.count(wrong));
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
                scope.spawn(work);
            }
        });
        tally.into_inner().unwrap()
    }

    /// Everything that begins with a crash at this point: how many pairs took place, and what was wrong.
    fn at(&self, scenario: &Scenario, creates: u64, first: u64) -> (u64, Vec<Wrong>) {
        let judged = |crashes: &[u64]| {
            let ran = play_alone(scenario, crashes, self.depth.at())?;
            if ran.creates == creates {
                return Ok(ran);
            }
            let (name, more) = (&scenario.name, ran.creates);
            Err(Wrong::Doubled(format!("{name} with crashes at {crashes:?}: {more} creates in place of {creates}")))
        };
        let mut wrongs = Vec::new();
        if self.depth == Depth::Points {
            match judged(&[first]) {
                Ok(ran) if ran.crashed == 1 => {}
                Ok(_) => wrongs.push(Wrong::Lost(format!("{}: no crash at {first}", scenario.name))),
                Err(wrong) => wrongs.push(wrong),
            }
            return (0, wrongs);
        }
        for second in 1.. {
            match judged(&[first, second]) {
                Ok(ran) if ran.crashed < 2 => return (second - 1, wrongs),
                Ok(_) => {}
                Err(wrong) => wrongs.push(wrong),
            }
            if wrongs.len() >= WRONGS_MAX {
                return (second, wrongs);
            }
        }
        (0, wrongs)
    }
}

/// An agent that is wrong after so many second crashes need not be crashed at every other point too, of which there
/// may be no end if it never ends.
const WRONGS_MAX: usize = 20;
