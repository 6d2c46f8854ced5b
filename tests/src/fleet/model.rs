//! The model: what was asked of each droplet, what it answered, and what must hold of the two.

use std::collections::BTreeMap;

use genesis_shared::id::{BundleId, JobId};
use genesis_shared::limits::{MESSAGE_BYTES_MAX, RESUMES_MAX, STEP_ATTEMPTS_MAX, UNDO_ATTEMPTS_MAX};
use genesis_shared::report::{CommandResult, OutboxRecord, OutcomeState, Record};

use super::wish::{Desired, Wish};

/// What may go wrong with a command without anybody being to blame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trouble {
    /// n8n failed, or somebody meddled with it: it may fail, and even get stuck.
    pub n8n: bool,
    /// The clock was wrong: it may be refused by time, or have expired.
    pub clock: bool,
    /// How often its agent was killed.
    pub crashes: u32,
}

/// What the operator wanted by a bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Intent {
    /// It is in order.
    Honest(Vec<Wish>),
    /// Admission must refuse it, by one of these rules.
    Refused(&'static [&'static str]),
}

/// A job at the hub.
#[derive(Clone, Debug)]
pub struct Task {
    /// The hub's name for it.
    pub job: JobId,
    /// Its bundle.
    pub bundle: BundleId,
    /// What it is for.
    pub intent: Intent,
    /// What went wrong since it was queued.
    pub trouble: Trouble,
    /// Whether the droplet has confirmed it.
    pub accepted: bool,
    /// How it ended.
    pub result: Option<CommandResult>,
}

/// One droplet, as the model sees it.
#[derive(Clone, Debug, Default)]
pub struct Tenant {
    /// What n8n should hold.
    pub desired: Desired,
    /// A command got stuck: until an operator has settled it, nobody knows.
    pub doubt: bool,
    /// n8n failed or was meddled with, and has not been seen as it should be since.
    pub disturbed: bool,
    /// Creations that n8n should have been asked for in all, while nobody but a crash could have confused them.
    pub creates: Option<u64>,
    /// The agent will not repair by itself.
    pub too_much: bool,
    /// The tenant's own workflows.
    pub own: Vec<(String, String)>,
    /// In the order in which they were queued.
    pub tasks: Vec<Task>,
    /// What the hub has stored, by number.
    records: BTreeMap<u64, OutboxRecord>,
}

/// Rules that refuse by time: the bundle's, its signers', the trust root's, the delivery's.
const BY_TIME: &[&str] = &["a6_scope", "a8_time", "a9_trust_root_expired", "a11_delivery"];

impl Tenant {
    /// Notes a job.
    pub fn queued(&mut self, job: JobId, bundle: BundleId, intent: Intent, trouble: Trouble) {
        self.tasks.push(Task { job, bundle, intent, trouble, accepted: false, result: None });
    }

    /// Jobs without an end.
    pub fn open(&self) -> impl Iterator<Item = &Task> {
        self.tasks.iter().filter(|task| task.result.is_none())
    }

    /// Whether something is being changed, as far as one can tell from outside.
    pub fn is_changing(&self) -> bool {
        self.open().any(|task| matches!(&task.intent, Intent::Honest(wishes) if !wishes.iter().all(Wish::looks)))
    }

    /// Something went wrong: it may touch every open job.
    pub fn trouble(&mut self, touch: impl Fn(&mut Trouble)) {
        for task in self.tasks.iter_mut().filter(|task| task.result.is_none()) {
            touch(&mut task.trouble);
        }
    }

    /// The hub has stored a record. Answers the job that ended by it.
    ///
    /// # Errors
    /// What must not be.
    pub fn hear(&mut self, record: &OutboxRecord) -> Result<Option<JobId>, String> {
        if let Some(known) = self.records.get(&record.seq) {
            // The same number must say the same, however often it is delivered.
            let same = known == record;
            return if same { Ok(None) } else { Err(format!("I2: record {} has changed", record.seq)) };
        }
        let last = self.records.last_key_value().map_or(0, |(seq, _)| *seq);
        if record.seq != last + 1 {
            return Err(format!("I2: record {} comes after {last}", record.seq));
        }
        self.records.insert(record.seq, record.clone());
        match &record.record {
            Record::Accepted { job_id } => self.accepted(*job_id).map(|()| None),
            Record::Result(result) => self.ended(result),
            Record::Metrics(_) | Record::Escrow(_) | Record::Audit(_) => Ok(None),
            Record::Event(event) => {
                self.too_much |= event.code == "drift_too_much";
                Ok(None)
            }
        }
    }

    fn task(&mut self, job: JobId) -> Result<usize, String> {
        self.tasks.iter().position(|task| task.job == job).ok_or_else(|| format!("I2: nobody queued job {job}"))
    }

    fn accepted(&mut self, job: JobId) -> Result<(), String> {
        let n = self.task(job)?;
        let task = &mut self.tasks[n];
        if let Intent::Refused(rules) = task.intent {
            return Err(format!("I1: job {job} was accepted, {rules:?} must refuse it"));
        }
        task.accepted = true;
        Ok(())
    }

    fn ended(&mut self, result: &CommandResult) -> Result<Option<JobId>, String> {
        let n = self.task(result.job_id)?;
        let what = format!("job {} ({} {})", result.job_id, name(result.state), result.code);
        within_limits(result).map_err(|why| format!("I9: {what}: {why}"))?;
        if let Some(known) = &self.tasks[n].result {
            // A refusal is made anew each time the job is delivered; its times may differ.
            let same = known == result || (known.state, &known.code) == (result.state, &result.code);
            return if same { Ok(None) } else { Err(format!("I2: {what} was {} before", name(known.state))) };
        }
        if result.state != OutcomeState::Rejected && !self.tasks[n].accepted {
            return Err(format!("I2: {what} was never accepted"));
        }
        self.judge(n, result).map_err(|why| format!("{why}: {what} {}", result.message))?;
        self.tasks[n].result = Some(result.clone());
        Ok(Some(result.job_id))
    }

    /// Whether this end may be, and what follows from it.
    fn judge(&mut self, n: usize, result: &CommandResult) -> Result<(), String> {
        let (trouble, code) = (self.tasks[n].trouble, result.code.as_str());
        let wishes = match &self.tasks[n].intent {
            Intent::Honest(wishes) => wishes.clone(),
            Intent::Refused(rules) => {
                let by_rule = rules.contains(&code) || (trouble.clock && BY_TIME.contains(&code));
                let refused = result.state == OutcomeState::Rejected && by_rule;
                return if refused { Ok(()) } else { Err(format!("I1, {rules:?} must refuse it")) };
            }
        };
        let logical = self.desired.after(&wishes);
        let looks = wishes.iter().all(Wish::looks);
        match result.state {
            OutcomeState::Succeeded => match logical {
                Ok((next, creates)) => {
                    self.desired = next;
                    self.creates = self.creates.map(|before| before + creates).filter(|_| !trouble.n8n);
                    Ok(())
                }
                // Whoever does not know what is there cannot say what is possible.
                Err(_) if self.doubt => Ok(()),
                Err(code) => Err(format!("it must fail with {code}")),
            },
            OutcomeState::Failed => match logical {
                Err(expected) if expected == code => Ok(()),
                _ if trouble.n8n || self.doubt => Ok(()),
                Err(expected) => Err(format!("it must fail with {expected}")),
                Ok(_) => Err("nothing was wrong with it".to_owned()),
            },
            OutcomeState::Rejected if trouble.clock && BY_TIME.contains(&code) => Ok(()),
            OutcomeState::Expired if trouble.clock => Ok(()),
            OutcomeState::Rejected | OutcomeState::Expired => Err("it was in order and in time".to_owned()),
            OutcomeState::Stuck if trouble.n8n || self.doubt || trouble.crashes >= RESUMES_MAX => {
                self.doubt |= !looks;
                Ok(())
            }
            OutcomeState::Stuck => Err("nothing was wrong with it".to_owned()),
        }
    }

    /// An operator has settled everything: from here on the state is known again.
    pub fn settled(&mut self, desired: Desired) {
        (self.desired, self.doubt, self.too_much) = (desired, false, false);
    }
}

fn name(state: OutcomeState) -> &'static str {
    match state {
        OutcomeState::Succeeded => "succeeded",
        OutcomeState::Failed => "failed",
        OutcomeState::Rejected => "rejected",
        OutcomeState::Expired => "expired",
        OutcomeState::Stuck => "stuck",
    }
}

/// I9: what a result says is bounded.
fn within_limits(result: &CommandResult) -> Result<(), String> {
    if result.message.len() > MESSAGE_BYTES_MAX {
        return Err(format!("a message of {} bytes", result.message.len()));
    }
    let attempts_max = STEP_ATTEMPTS_MAX.max(UNDO_ATTEMPTS_MAX);
    match result.steps.iter().find(|step| step.attempts > attempts_max) {
        Some(step) => Err(format!("{} was tried {} times", step.name, step.attempts)),
        None => Ok(()),
    }
}
