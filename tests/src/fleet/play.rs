//! Plays transitions on the fleet, and heals it in the end.

use std::rc::Rc;
use std::time::Duration;

use axum::http::Method;
use genesis_agent::ports::Clock;
use genesis_agent::sim::n8n::{N8n, Phase};
use genesis_shared::wire::JobState;

use super::droplet::Disk;
use super::held::key_of;
use super::model::{Intent, Trouble};
use super::network::Weather;
use super::transition::{Forgery, Jump, Meddling, Transition};
use super::wish::{Desired, WORKFLOWS, Wish};
use super::{Fleet, Held, Member};

/// Ten years in milliseconds.
const TEN_YEARS_MS: i64 = 10 * 365 * 24 * 3600 * 1000;

/// Time between two looks at something that takes a while.
const PATIENCE: Duration = Duration::from_secs(60);

/// Longer than a round of reconciliation, which comes every 15 minutes or up to a tenth later.
const ROUND: Duration = Duration::from_secs(1100);

/// Looks, each a `PATIENCE` apart, until everything must have ended after all was healed: three hours.
const LOOKS_MAX: u32 = 180;

/// The state that every droplet begins with.
fn founding() -> Vec<Wish> {
    let credentials = [Wish::Inject("alpha", 1), Wish::Inject("beta", 1)];
    let workflows = [Wish::Deploy("hook-1", 1, "alpha"), Wish::Deploy("hook-2", 1, "beta"), Wish::Activate("hook-1")];
    [&credentials[..], &workflows[..]].concat()
}

/// Everything at once, whatever was there before.
fn settlement() -> Vec<Wish> {
    let mut wishes = vec![Wish::Inject("alpha", 2), Wish::Inject("beta", 2)];
    wishes.extend(WORKFLOWS.map(|key| Wish::Deploy(key, 2, "beta")));
    wishes.extend(WORKFLOWS.map(Wish::Activate));
    wishes
}

impl Fleet {
    /// Gives every tenant something to begin with.
    pub(super) async fn found_tenants(&self) {
        for n in 0..self.members.len() {
            self.submit(n, founding()).await;
        }
        tokio::time::sleep(PATIENCE).await;
        for member in &self.members {
            let done = member.tenant.borrow().open().next().is_none();
            self.court.hold(if done { Ok(()) } else { Err("a quiet droplet was not set up in a minute".into()) });
        }
    }

    /// Plays one transition.
    pub(super) async fn play(&self, transition: Transition) {
        self.trace.line(format_args!("{transition:?}"));
        match transition {
            Transition::Submit(n, wishes) => self.submit(n, wishes).await,
            Transition::SubmitAndCrash(n, wishes, point) => {
                self.submit(n, wishes).await;
                self.crash_at(n, point);
            }
            Transition::Forge(n, kind) => self.forge(n, kind).await,
            Transition::Cut(n) => self.members[n].droplet.network.set_cut(true),
            Transition::Mend(n) => self.mend(n),
            Transition::Storm(n, weather) => self.members[n].droplet.network.set_weather(weather),
            Transition::RestartHub(seconds) => {
                self.house.crash().await;
                self.start_hub_after(seconds);
            }
            Transition::StopHub(seconds) => self.stop_hub(seconds).await,
            Transition::Kill(n) => {
                self.members[n].tenant.borrow_mut().trouble(|trouble| trouble.crashes += 1);
                self.members[n].droplet.kill();
            }
            Transition::CrashAt(n, point) => self.crash_at(n, point),
            Transition::Fault(n, fault) => {
                self.members[n].disturb();
                self.members[n].droplet.outside.n8n.borrow_mut().faults.push(fault);
            }
            Transition::Phase(n, phase) => {
                self.members[n].disturb();
                self.members[n].droplet.outside.n8n.borrow_mut().phase = phase;
            }
            Transition::Fill(n, disk) => self.members[n].droplet.set_disk(disk),
            Transition::Jump(n, jump) => self.jump(n, jump),
            Transition::Meddle(n, kind, which) => self.members[n].meddle(kind, which),
        }
    }

    fn crash_at(&self, n: usize, point: u64) {
        self.members[n].tenant.borrow_mut().trouble(|trouble| trouble.crashes += 1);
        self.members[n].droplet.outside.crash.plan(Some(point));
    }

    fn mend(&self, n: usize) {
        let network = &self.members[n].droplet.network;
        network.set_cut(false);
        network.set_weather(Weather::default());
    }

    fn jump(&self, n: usize, jump: Jump) {
        let clock = &self.members[n].droplet.outside.clock;
        clock.set_skew_ms(0);
        let skew = match jump {
            Jump::Epoch => -clock.now().millis(),
            Jump::Ahead => TEN_YEARS_MS,
            Jump::Right => 0,
        };
        clock.set_skew_ms(skew);
        self.members[n].tenant.borrow_mut().trouble(|trouble| trouble.clock = true);
    }

    async fn stop_hub(&self, seconds: u64) {
        // No earlier wait brings it back meanwhile.
        self.restarts.set(self.restarts.get() + 1);
        let in_time = self.house.stop().await;
        let cut = || Err("I2: a hub that was stopped in order has left requests without an answer".to_owned());
        self.court.hold(if in_time { Ok(()) } else { cut() });
        self.start_hub_after(seconds);
    }

    fn start_hub_after(&self, seconds: u64) {
        let turn = self.restarts.get() + 1;
        self.restarts.set(turn);
        let (house, restarts) = (Rc::clone(&self.house), Rc::clone(&self.restarts));
        tokio::task::spawn_local(async move {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            if restarts.get() == turn {
                house.start();
            }
        });
    }

    /// An operator pushes; where there is no hub, or the droplet is not enrolled, there is nothing to push.
    pub(super) async fn submit(&self, n: usize, wishes: Vec<Wish>) {
        let Member { droplet, tenant } = &self.members[n];
        let Some(key) = droplet.network.sealing_key().filter(|_| self.house.is_up()) else { return };
        let signed = self.operators.sign(droplet.workspace, key, &wishes, self.now());
        let answer = self.house.push(&signed.document).await.expect("an honest bundle is queued");
        let again = self.house.push(&signed.document).await;
        self.court.hold(if again.as_ref() == Ok(&answer) {
            Ok(())
        } else {
            Err("I2: pushed twice, queued twice".into())
        });
        let job = answer.job_ids[0];
        self.trace.line(format_args!("{} is asked {job} {wishes:?}", droplet.id));
        let trouble = self.members[n].trouble_now();
        tenant.borrow_mut().queued(job, signed.id, Intent::Honest(wishes), trouble);
    }

    async fn forge(&self, n: usize, kind: Forgery) {
        let Member { droplet, tenant } = &self.members[n];
        let Some(key) = droplet.network.sealing_key().filter(|_| self.house.is_up()) else { return };
        let other = self.members[(n + 1) % self.members.len()].droplet.workspace;
        let accepted = |id| tenant.borrow().tasks.iter().any(|task| task.bundle == id && task.accepted);
        let forged = self.operators.forge(kind, [droplet.workspace, other], key, self.now(), accepted);
        let Some(signed) = forged else { return };
        let (rules, refusal): (&'static [&'static str], _) = match kind {
            Forgery::UnknownKey => (&["a2_unknown_key"], Some("bundle_signature")),
            Forgery::Tampered => (&["a3_signature"], Some("bundle_signature")),
            Forgery::TooFewSigners => (&["a5_signers"], None),
            Forgery::Expired => (&["a8_time"], Some("bundle_expired")),
            Forgery::ForOther => (&["a7_target"], None),
            Forgery::Replayed => (&["a10_replay"], None),
        };
        if let Some(code) = refusal {
            let pushed = self.house.push(&signed.document).await;
            let refused = pushed.as_ref().is_err_and(|found| found == code);
            self.court.hold(if refused {
                Ok(())
            } else {
                Err(format!("I1: the hub answered {kind:?} with {pushed:?}"))
            });
        }
        // The hub is stolen: the droplet has to notice by itself.
        let job = self.house.smuggle(droplet.workspace, &signed.document).await;
        self.trace.line(format_args!("{} is handed {job} {kind:?}", droplet.id));
        let trouble = self.members[n].trouble_now();
        tenant.borrow_mut().queued(job, signed.id, Intent::Refused(rules), trouble);
    }

    /// The right time.
    fn now(&self) -> genesis_shared::timestamp::Timestamp {
        self.right_clock.now()
    }

    /// Everything is as it should be again, and time passes until every job has ended.
    pub(super) async fn heal(&self) {
        self.trace.line("everything is healed");
        self.restarts.set(self.restarts.get() + 1);
        self.house.start();
        for (n, member) in self.members.iter().enumerate() {
            self.mend(n);
            member.droplet.set_disk(Disk::Spacious);
            let mut n8n = member.droplet.outside.n8n.borrow_mut();
            n8n.faults.clear();
            n8n.phase = Phase::Up;
            drop(n8n);
            if member.droplet.outside.clock.now() != self.now() {
                self.jump(n, Jump::Right);
            }
        }
        self.until_all_ended("after everything was healed").await;
        // What a round finds too much of is settled by an operator, and the next round finds the rest.
        tokio::time::sleep(ROUND).await;
        self.settle().await;
        tokio::time::sleep(ROUND).await;
        self.check();
    }

    async fn until_all_ended(&self, when: &str) {
        for _ in 0..LOOKS_MAX {
            tokio::time::sleep(PATIENCE).await;
            if !self.court.is_clean() {
                return;
            }
            self.requeue_the_dead().await;
            if self.members.iter().all(|member| member.tenant.borrow().open().next().is_none()) {
                return;
            }
        }
        for member in &self.members {
            for task in member.tenant.borrow().open() {
                let what = format!("I2: {} {} has no end {when}: {:?}", member.droplet.id, task.job, task.intent);
                self.court.hold(Err(what));
            }
        }
    }

    /// An operator gives dead letters another round.
    async fn requeue_the_dead(&self) {
        for member in &self.members {
            let open: Vec<_> = member.tenant.borrow().open().map(|task| task.job).collect();
            for job in open {
                if self.house.job(job).await.state == JobState::Dead {
                    let path = format!("/api/v1/jobs/{job}/requeue");
                    let _: serde_json::Value = self.house.must(Method::POST, &path, vec![]).await;
                }
            }
        }
    }

    /// Where a command got stuck, or more differs than an agent repairs by itself, an operator deploys everything anew.
    async fn settle(&self) {
        let unsettled = |member: &Member| member.tenant.borrow().doubt || member.tenant.borrow().too_much;
        let settling: Vec<usize> = (0..self.members.len()).filter(|n| unsettled(&self.members[*n])).collect();
        for &n in &settling {
            self.trace.line(format_args!("droplet-{n} is settled"));
            self.members[n].tidy();
            self.submit(n, settlement()).await;
        }
        self.until_all_ended("after it was settled").await;
        for n in settling {
            let desired = Desired::default().after(&settlement()).expect("the settlement is in order").0;
            self.members[n].tenant.borrow_mut().settled(desired);
        }
    }
}

impl Member {
    fn trouble_now(&self) -> Trouble {
        let n8n = self.tenant.borrow().disturbed;
        Trouble { n8n, clock: self.droplet.outside.clock.is_off(), crashes: 0 }
    }

    /// Something is wrong with n8n from now on, until it is seen to be as it should.
    pub(super) fn disturb(&self) {
        let mut tenant = self.tenant.borrow_mut();
        tenant.disturbed = true;
        tenant.creates = None;
        tenant.trouble(|trouble| trouble.n8n = true);
    }

    /// Whether n8n answers as it should from here on.
    pub(super) fn n8n_is_well(&self) -> bool {
        let standin = self.droplet.outside.n8n.borrow();
        standin.phase == Phase::Up && !standin.faults.any_left()
    }

    /// What a person does who looks after a command got stuck: managed things that are there twice are removed.
    fn tidy(&self) {
        let mut standin = self.droplet.outside.n8n.borrow_mut();
        let n8n = &mut standin.n8n;
        let mut seen = std::collections::BTreeSet::new();
        n8n.credentials.retain(|credential| seen.insert(credential.name.clone()));
        n8n.workflows.retain(|workflow| key_of(workflow).is_none_or(|key| seen.insert(key.to_owned())));
        let there: Vec<String> = n8n.workflows.iter().map(|workflow| workflow.id.clone()).collect();
        n8n.webhooks.retain(|webhook| there.contains(&webhook.workflow_id));
    }

    fn meddle(&self, kind: Meddling, which: u64) {
        self.disturb();
        let mut standin = self.droplet.outside.n8n.borrow_mut();
        let n8n = &mut standin.n8n;
        let pick = |count: usize| usize::try_from(which % count.max(1) as u64).unwrap_or(0);
        let managed: Vec<usize> = (0..n8n.workflows.len()).filter(|n| key_of(&n8n.workflows[*n]).is_some()).collect();
        let workflow = managed.get(pick(managed.len())).copied();
        match (kind, workflow) {
            (Meddling::Edit, Some(n)) => n8n.workflows[n].nodes[0]["parameters"]["path"] = "meddled".into(),
            (Meddling::Deactivate, Some(n)) => {
                n8n.workflows[n].active_version_id = None;
                let id = n8n.workflows[n].id.clone();
                n8n.webhooks.retain(|webhook| webhook.workflow_id != id);
            }
            (Meddling::DeleteWorkflow, Some(n)) => {
                let gone = n8n.workflows.remove(n);
                n8n.webhooks.retain(|webhook| webhook.workflow_id != gone.id);
            }
            (Meddling::DeleteCredential, _) if !n8n.credentials.is_empty() => {
                n8n.credentials.remove(pick(n8n.credentials.len()));
            }
            (Meddling::Own, Some(n)) => {
                make_own(n8n, n, which);
                self.tenant.borrow_mut().own = Held::of(n8n).own;
            }
            (
                Meddling::Edit
                | Meddling::Deactivate
                | Meddling::DeleteWorkflow
                | Meddling::DeleteCredential
                | Meddling::Own,
                _,
            ) => {}
        }
    }
}

/// A workflow of the tenant's own, made after a managed one.
fn make_own(n8n: &mut N8n, n: usize, which: u64) {
    let mut own = n8n.workflows[n].clone();
    own.id = format!("own-{which:x}");
    own.name = format!("Own {which:x}");
    own.static_data = serde_json::Value::Null;
    own.active_version_id = None;
    n8n.workflows.push(own);
}
