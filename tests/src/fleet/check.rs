//! The invariants: after every transition, and at rest.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use genesis_agent::journal::Journal;
use genesis_agent::sim::n8n::Standin;
use genesis_shared::limits::DELIVERY_ATTEMPTS_MAX;
use genesis_shared::report::OutcomeState;
use genesis_shared::wire::JobState;

use super::held::key_of;
use super::model::{Intent, Task, Tenant};
use super::wish::Wish;
use super::{Fleet, Held, Member, Sabotage};
use crate::canary;

/// I3 and I4, where nothing is under way and nothing is wrong: n8n holds what it should, and was asked to create each
/// thing once, whenever the agent died.
pub fn settled_state(tenant: &mut Tenant, standin: &Standin) -> Result<(), String> {
    if tenant.disturbed || tenant.doubt || tenant.too_much || tenant.is_changing() {
        return Ok(());
    }
    let (held, expected) = (Held::of(&standin.n8n), Held::expected(&tenant.desired, &tenant.own));
    if held != expected {
        return Err(format!("I4: n8n holds {held:?}, not {expected:?}"));
    }
    let asked = standin.count("POST", "/api/v1/credentials") + standin.count("POST", "/api/v1/workflows");
    match tenant.creates.replace(asked) {
        Some(needed) if needed != asked => {
            Err(format!("I3: n8n was asked for {asked} creations, needed were {needed}"))
        }
        Some(_) | None => Ok(()),
    }
}

impl Fleet {
    /// After every transition.
    pub(super) fn check(&self) {
        if self.trace.leaked() {
            self.court.hold(Err("I5: a secret is in the log".into()));
        }
        for member in &self.members {
            let well = member.n8n_is_well();
            let mut tenant = member.tenant.borrow_mut();
            let held = Held::of(&member.droplet.outside.n8n.borrow().n8n);
            let quiet = well && !tenant.is_changing() && !tenant.doubt && !tenant.too_much;
            if quiet && held == Held::expected(&tenant.desired, &tenant.own) {
                tenant.disturbed = false;
            }
            let what = |why| format!("{}: {why}", member.droplet.id);
            let settled = settled_state(&mut tenant, &member.droplet.outside.n8n.borrow());
            self.court.hold(settled.map_err(what));
            if held.own != Held::expected(&tenant.desired, &tenant.own).own {
                self.court.hold(Err(what("I4: a workflow of the tenant's own was touched".to_owned())));
            }
        }
    }

    /// At rest: everything was healed, every job has ended, reconciliation has had its turn.
    pub(super) async fn rest(&self) {
        if !self.court.is_clean() {
            return;
        }
        self.trace.line("at rest");
        for member in &self.members {
            self.judge_n8n(member);
            self.judge_hub(member).await;
            member.droplet.stop();
        }
        tokio::time::sleep(Duration::from_secs(10)).await;
        for member in &self.members {
            match member.droplet.journal() {
                Ok(journal) => self.judge_journal(member, &journal),
                Err(error) => self.court.hold(Err(format!("{}: {}", member.droplet.id, error.code()))),
            }
            let leaked = canary::holds(&member.droplet.journal_bytes());
            self.court.hold(if leaked { Err("I5: a secret is in a journal".into()) } else { Ok(()) });
        }
        let leaked = canary::holds(&self.house.bytes()) || self.trace.leaked();
        self.court.hold(if leaked { Err("I5: a secret is at the hub".into()) } else { Ok(()) });
        self.fresh_agents_agree().await;
    }

    /// I4.
    fn judge_n8n(&self, member: &Member) {
        let tenant = member.tenant.borrow();
        let held = Held::of(&member.droplet.outside.n8n.borrow().n8n);
        let expected = Held::expected(&tenant.desired, &tenant.own);
        let doubles = held.doubles();
        if !doubles.is_empty() {
            self.court.hold(Err(format!("I4: {} holds {doubles:?} twice", member.droplet.id)));
        }
        if held != expected {
            self.court.hold(Err(format!("I4: {} holds {held:?}, not {expected:?}", member.droplet.id)));
        }
    }

    /// I2 and I9: the hub says of every job what its droplet said.
    async fn judge_hub(&self, member: &Member) {
        let tasks: Vec<Task> = member.tenant.borrow().tasks.clone();
        for task in tasks {
            let view = self.house.job(task.job).await;
            let what = |why: &str| Err(format!("{} {} is {}: {why}", member.droplet.id, task.job, view.state.name()));
            if view.attempts > DELIVERY_ATTEMPTS_MAX {
                self.court.hold(what("I9: handed out too often"));
            }
            let Some(result) = &task.result else {
                self.court.hold(what("I2: it has not ended"));
                continue;
            };
            if view.state != state_of(result.state) || view.result.as_ref() != Some(result) {
                self.court.hold(what("I2: the hub says something else than the droplet"));
            }
        }
    }

    /// I2, I7, I8: the journal says what was reported, has nothing left to report, and knows what n8n holds.
    fn judge_journal(&self, member: &Member, journal: &Journal) {
        let (id, tenant) = (&member.droplet.id, member.tenant.borrow());
        for task in tenant.tasks.iter().filter(|task| matches!(task.intent, Intent::Honest(_))) {
            let outcome = journal.outcome(task.bundle).unwrap();
            // A refusal is reported and not kept: the journal has accepted nothing.
            let refused = task.result.as_ref().is_some_and(|result| result.state == OutcomeState::Rejected);
            if !refused && outcome != task.result {
                self.court.hold(Err(format!("I2: {id} {} is {outcome:?} in the journal", task.job)));
            }
        }
        let (_, depth) = journal.outbox_state().unwrap();
        if depth != 0 {
            self.court.hold(Err(format!("I7: {id} has {depth} records left")));
        }
        let known = journal.known().unwrap();
        let standin = member.droplet.outside.n8n.borrow();
        let ids = |pairs: Vec<(String, String)>| pairs.into_iter().collect::<BTreeMap<_, _>>();
        let credentials = known.credentials.values().map(|row| (row.name.to_string(), row.n8n_id.clone()));
        let workflows = known.workflows.values().map(|row| (row.key.to_string(), row.n8n_id.clone()));
        let there = standin.n8n.workflows.iter().filter_map(|w| Some((key_of(w)?.to_owned(), w.id.clone())));
        let named = |name: &str| name.strip_prefix("genesis/").unwrap_or(name).to_owned();
        let held = standin.n8n.credentials.iter().map(|c| (named(&c.name), c.id.clone()));
        if ids(credentials.chain(workflows).collect()) != ids(there.chain(held).collect()) {
            self.court.hold(Err(format!("I8: {id} knows other ids than n8n has")));
        }
    }

    /// I8: agents that know nothing but their journals find everything in order.
    async fn fresh_agents_agree(&self) {
        for member in &self.members {
            member.droplet.start_again();
            tokio::task::spawn_local(Rc::clone(&member.droplet).supervise());
        }
        for n in 0..self.members.len() {
            self.submit(n, vec![Wish::Verify, Wish::List]).await;
        }
        tokio::time::sleep(Duration::from_secs(60)).await;
        for member in &self.members {
            let tenant = member.tenant.borrow();
            let result = tenant.tasks.last().and_then(|task| task.result.clone());
            let Some(result) = result else {
                self.court.hold(Err(format!("I8: {} does not answer at rest", member.droplet.id)));
                continue;
            };
            let drifts = result.output[0]["drifts"].as_array().into_iter().flatten();
            let differs: Vec<_> = drifts.filter(|drift| drift["kind"] != "unmanaged_workflow").collect();
            let count = |what: &str| result.output[1][what].as_array().map_or(0, Vec::len);
            let listed = (count("credentials"), count("workflows"));
            let desired = (tenant.desired.credentials.len(), tenant.desired.workflows.len());
            if !differs.is_empty() || listed != desired {
                let what = format!("I8: {} finds {differs:?} and lists {listed:?}", member.droplet.id);
                self.court.hold(Err(what));
            }
        }
        self.check();
    }

    /// Breaks something that the checks at rest must notice.
    pub(super) fn sabotage(&self, sabotage: Sabotage, seed: u64) {
        let member = &self.members[usize::try_from(seed % self.members.len() as u64).unwrap_or(0)];
        let mut standin = member.droplet.outside.n8n.borrow_mut();
        match sabotage {
            Sabotage::None => {}
            Sabotage::Doubled => {
                let mut double = standin.n8n.credentials[0].clone();
                double.id = "double".into();
                standin.n8n.credentials.push(double);
            }
            Sabotage::ForgedOutcome => {
                let mut tenant = member.tenant.borrow_mut();
                let result = tenant.tasks.iter_mut().find_map(|task| task.result.as_mut());
                result.expect("a job has ended").message.push('!');
            }
            Sabotage::Leak => tracing::warn!("the value is {}", canary::canary("leak")),
            Sabotage::Swapped => {
                standin.n8n.credentials[0].data.insert("value".into(), "other".into());
            }
        }
    }
}

fn state_of(outcome: OutcomeState) -> JobState {
    match outcome {
        OutcomeState::Succeeded => JobState::Succeeded,
        OutcomeState::Failed => JobState::Failed,
        OutcomeState::Rejected => JobState::Rejected,
        OutcomeState::Expired => JobState::Expired,
        OutcomeState::Stuck => JobState::Stuck,
    }
}
