//! The interpreter: the only place where journal and ports meet. Journal first, act second, report third.
//!
//! It runs the oldest open command to its end. A step that was started and has no end is looked at before it is
//! repeated: `perform` observes before every act, so that the second try after a crash, a timeout or a half answer
//! finds what the first one did.

mod adopt;
mod audit;
mod converge;
mod domains;
mod logs;
mod look;
pub mod mutant;
mod observe;
pub mod outbox;
mod perform;
pub mod reconcile;
mod replace;
pub(crate) mod result;
mod sealed;
mod stack;
pub mod twice;
mod undo;
mod update;

use std::collections::BTreeMap;
use std::time::Duration;

use genesis_shared::bundle::Bundle;
use genesis_shared::chain::Chain;
use genesis_shared::command::Command;
use genesis_shared::id::WorkspaceId;
use genesis_shared::limits::{STEP_ATTEMPTS_MAX, UNDO_ATTEMPTS_MAX};
use genesis_shared::report::{CommandResult, N8nStatus, OutcomeState};
use genesis_shared::secret::Secret;
use genesis_shared::timestamp::Timestamp;

use crate::core::plan::{Known, Plan, Uses, plan};
use crate::core::saga::{End, Event, Next, SagaState, StepState};
use crate::core::stack::StackSettings;
use crate::core::step::{Before, CredentialRow, Removed, Source, Step, StepError, StepOutput, WorkflowRow};
use crate::core::timer::backoff;
use crate::exec::mutant::Mutant;
use crate::exec::sealed::{redact_addresses, redacted};
use crate::exec::twice::Twice;
use crate::identity::Identity;
use crate::journal::{Ending, Journal, JournalError, Lane, MapChanges, OpenCommand};
use crate::ports::{Clock, EffectError, Entropy, ErrorKind, Workflows, World};
use crate::stack_secrets::StackSecrets;

/// How long n8n gets to finish what it was at when it answers again after a silence.
const SETTLE: Duration = Duration::from_secs(3);

/// How often it is looked whether n8n answers again, before the next try finds out by itself.
const SETTLE_LOOKS_MAX: u32 = 3;

/// The longest pause that another side may ask for.
pub(crate) const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);

/// Runs commands against one droplet.
pub struct Exec<'a, W> {
    /// The ports.
    pub world: &'a W,
    /// The memory.
    pub journal: &'a Journal,
    /// The droplet's keys.
    pub identity: &'a Identity,
    /// This tenant.
    pub workspace_id: WorkspaceId,
    /// How the stack is set up; `None` where the agent looks after no stack.
    pub stack: Option<&'a StackSettings>,
    /// The stack's secrets.
    pub stack_secrets: &'a StackSecrets,
}

/// A command in the middle of its run: everything that is derived from its row.
struct Running {
    command: OpenCommand,
    commands: Vec<Command>,
    /// What was sealed in them and may appear in nothing that leaves the droplet.
    secrets: Vec<Secret<String>>,
    plan: Plan,
    /// The id map without this command.
    base: Known,
    state: SagaState,
    /// Tries per step in this life of the agent, for the trace.
    attempts: BTreeMap<usize, u32>,
}

impl Running {
    /// The id map with what this command has achieved so far.
    fn known(&self) -> Known {
        self.achieved(self.base.clone())
    }

    /// What this command has achieved so far, on top of something.
    fn achieved(&self, mut known: Known) -> Known {
        for step in &self.state.steps {
            if let Some(output) = step.output() {
                known.credentials.extend(output.credential.iter().map(|row| (row.name.clone(), row.clone())));
                known.workflows.extend(output.workflow.iter().map(|row| (row.key.clone(), row.clone())));
                known.generation = output.generation.unwrap_or(known.generation);
                known.stack = output.stack.clone().unwrap_or(known.stack);
                match &output.removed {
                    Some(Removed::Credential(name)) => drop(known.credentials.remove(name)),
                    Some(Removed::Workflow(key)) => drop(known.workflows.remove(key)),
                    None => {}
                }
            }
        }
        known
    }

    /// What was there before a step that is done.
    fn before(&self, step: &Step) -> Option<&Before> {
        let n = self.plan.steps.iter().position(|other| other == step)?;
        if let StepState::Done(before, _) = &self.state.steps[n] { Some(before) } else { None }
    }

    /// The id map after an end in the middle: of what was touched, nobody knows the content any more.
    fn doubtful(&self) -> MapChanges {
        let mut changes = MapChanges::default();
        for (step, state) in self.plan.steps.iter().zip(&self.state.steps) {
            if matches!(state, StepState::Pending | StepState::Undone) {
                continue;
            }
            changes.removed.extend(state.output().and_then(|output| output.removed.clone()));
            if let Step::PutCredential { name, .. } = step {
                // Where it was replaced, the map must name the one that is there now.
                let made = state.output().and_then(|output| output.credential.as_ref());
                changes
                    .credentials
                    .extend(self.base.credentials.get(name).map(|row| doubt_credential(made.unwrap_or(row))));
            }
            if let Step::PutWorkflow { key, .. } = step {
                changes.workflows.extend(self.base.workflows.get(key).map(doubt_workflow));
            }
        }
        changes
    }
}

/// No bundle has this number: nothing can be restored from it.
const NO_SOURCE: Source = Source { bundle: 0, command: 0 };

/// The fingerprint of data that nobody can be sure of: no data have it.
const UNKNOWN_CONTENT: &str = "unknown";

fn doubt_credential(row: &CredentialRow) -> CredentialRow {
    CredentialRow { fingerprint: UNKNOWN_CONTENT.into(), source: NO_SOURCE, ..row.clone() }
}

fn doubt_workflow(row: &WorkflowRow) -> WorkflowRow {
    WorkflowRow { source: NO_SOURCE, ..row.clone() }
}

impl<W: World> Exec<'_, W> {
    /// Runs the oldest open command of a lane to its end; answers whether there was one.
    ///
    /// # Errors
    /// The journal failed; whatever was going on is resumed after the next start.
    pub async fn run_next(&self, lane: Lane) -> Result<bool, JournalError> {
        let command = match self.journal.next_open(lane) {
            Ok(Some(command)) => command,
            Ok(None) => return Ok(false),
            Err(error @ JournalError::Damaged { .. }) => return self.quarantine(lane, &error),
            Err(error) => return Err(error),
        };
        tracing::info!(bundle = %command.bundle_id, job = %command.job_id, resumed = command.plan.is_some(), "command begins");
        match self.prepare(command).await? {
            Some(running) => self.run(running).await?,
            None => return Ok(true),
        }
        Ok(true)
    }

    /// Plans a new command, folds the events of one that was begun. `None` if it ended at once.
    async fn prepare(&self, command: OpenCommand) -> Result<Option<Running>, JournalError> {
        let commands = match read_commands(&command) {
            Ok(commands) => commands,
            Err(error) => return self.end_early(&command, OutcomeState::Stuck, error).map(|()| None),
        };
        let mut base = self.journal.known()?;
        // What was made ready for power-off is awake again after it.
        base.stack.quiesced &= base.stack.is_at_rest(&self.boot());
        let plan = match command.plan.clone() {
            Some(plan) => {
                self.journal.append(command.seq, &Event::Resumed, self.now())?;
                plan
            }
            None => {
                if self.now() > command.not_after {
                    let error = StepError {
                        code: "expired_before_start".into(),
                        message: format!("it had to begin before {}; sign a new bundle", command.not_after),
                        retryable: true,
                    };
                    return self.end_early(&command, OutcomeState::Expired, error).map(|()| None);
                }
                let uses = self.uses(&base);
                match self.open_all(&commands).and_then(|opened| plan(&commands, &base, uses, &opened, self.stack)) {
                    Ok(plan) => {
                        if let Err(error) = self.adopt(&plan, &mut base).await? {
                            return self.end_early(&command, OutcomeState::Failed, error).map(|()| None);
                        }
                        self.journal.planned(command.seq, &plan)?;
                        plan
                    }
                    Err(error) => return self.end_early(&command, OutcomeState::Failed, error).map(|()| None),
                }
            }
        };
        let mut state = SagaState::new(plan.steps.len(), plan.commit_point);
        let resumed = command.plan.as_ref().map(|_| Event::Resumed);
        for event in command.events.iter().map(|(_, event)| event).chain(resumed.as_ref()) {
            state = match state.apply(event) {
                Ok(state) => state,
                Err(illegal) => {
                    let message = format!("{illegal}; the command was set aside, look at what it left in n8n");
                    let error = StepError { code: "journal_damaged".into(), message, retryable: false };
                    return self.end_early(&command, OutcomeState::Stuck, error).map(|()| None);
                }
            };
        }
        let mut secrets = self.secrets(&commands);
        // n8n may as well quote what it holds from an earlier command.
        secrets.extend(self.secrets(&self.former(&commands, &base)));
        Ok(Some(Running { command, commands, secrets, plan, base, state, attempts: BTreeMap::new() }))
    }

    /// Which managed workflows use which credentials, by what they were made from.
    fn uses(&self, base: &Known) -> Uses {
        let mut uses = Uses::new();
        for row in base.workflows.values() {
            let source = self.source(row.source).ok().flatten();
            let deploy = source.as_ref().and_then(|command| command.deployment(&row.key));
            for name in deploy.into_iter().flat_map(|deploy| deploy.credential_map.values()) {
                uses.entry(name.clone()).or_default().insert(row.key.clone());
            }
        }
        uses
    }

    async fn run(&self, mut running: Running) -> Result<(), JournalError> {
        // The life before may have left a request with n8n; what it makes must be there to be undone. A step that is
        // still to be done needs no such wait: what is then there twice is removed in the end.
        if matches!(running.state.next(), Next::Undo(_)) {
            self.settle().await;
        }
        loop {
            match running.state.next() {
                Next::Do(step) => self.do_step(&mut running, step).await?,
                Next::Undo(step) => self.undo_step(&mut running, step).await?,
                Next::Finish(end) => return self.finish(&running, &end),
            }
        }
    }

    async fn do_step(&self, running: &mut Running, n: usize) -> Result<(), JournalError> {
        let mut attempt = 0;
        let mut in_doubt = false;
        loop {
            attempt += 1;
            running.attempts.insert(n, attempt);
            let event = match self.try_step(running, n).await? {
                Ok(mut output) => {
                    redact_addresses(&mut output.answer, &running.secrets);
                    Event::Done { step: n, output }
                }
                Err(error) if error.kind == ErrorKind::Permanent || attempt >= STEP_ATTEMPTS_MAX => {
                    // What may still be carried out must be there to be undone.
                    if in_doubt || error.kind == ErrorKind::Ambiguous {
                        self.settle().await;
                    }
                    Event::Failed { step: n, error: step_error(&error, attempt, &running.secrets) }
                }
                Err(error) => {
                    in_doubt |= error.kind == ErrorKind::Ambiguous;
                    self.wait(running.plan.steps[n].title(), &error, attempt, in_doubt, &running.secrets).await;
                    continue;
                }
            };
            // A last event that ends the command is journaled with its outcome (D3), in `finish`.
            return self.record(running, event);
        }
    }

    /// One try: note what was there before, then act.
    async fn try_step(&self, running: &mut Running, n: usize) -> Result<Result<StepOutput, EffectError>, JournalError> {
        let step = running.plan.steps[n].clone();
        let known = running.known();
        let mut again = matches!(running.state.steps[n], StepState::Started(_));
        let before = if let StepState::Started(before) = &running.state.steps[n] {
            before.clone()
        } else {
            let before = match self.observe(&step, &known).await {
                Ok(before) => before,
                Err(error) => return Ok(Err(error)),
            };
            self.record(running, Event::Started { step: n, before: before.clone() })?;
            before
        };
        if mutant::is(Mutant::ReportBeforeActing) && n + 1 < running.plan.steps.len() {
            let done = Event::Done { step: n, output: StepOutput::answer(serde_json::Value::Null) };
            self.journal.append(running.command.seq, &done, self.now())?;
        }
        let mut output = self.perform(running, &step, &before, &known).await;
        if output.is_ok() && twice::asked(Twice::Steps) {
            again = true;
            output = self.perform(running, &step, &before, &known).await;
        }
        Ok(if again { output.map(in_doubt) } else { output })
    }

    async fn undo_step(&self, running: &mut Running, n: usize) -> Result<(), JournalError> {
        if !matches!(running.state.steps[n], StepState::Undoing(_)) {
            self.record(running, Event::UndoStarted { step: n })?;
        }
        let before: Option<Before> = running.state.steps[n].undoing().cloned();
        let (mut attempt, mut in_doubt) = (0, false);
        loop {
            attempt += 1;
            let step = running.plan.steps[n].clone();
            let mut undone = match &before {
                // Never started, or without an effect: nothing to take back.
                None => Ok(()),
                Some(_) if !step.has_effect() => Ok(()),
                Some(before) => self.undo(&step, before, &running.known()).await,
            };
            if let (Ok(()), Some(before)) = (&undone, &before)
                && twice::asked(Twice::Undos)
            {
                undone = self.undo(&step, before, &running.known()).await;
            }
            let event = match undone {
                Ok(()) => Event::UndoDone { step: n },
                Err(error) if error.kind == ErrorKind::Permanent || attempt >= UNDO_ATTEMPTS_MAX => {
                    Event::UndoFailed { step: n, error: step_error(&error, attempt, &running.secrets) }
                }
                Err(error) => {
                    in_doubt |= error.kind == ErrorKind::Ambiguous;
                    let what = format!("undo of {}", step.title());
                    self.wait(what, &error, attempt, in_doubt, &running.secrets).await;
                    continue;
                }
            };
            return self.record(running, event);
        }
    }

    /// Journals an event and folds it in.
    fn record(&self, running: &mut Running, event: Event) -> Result<(), JournalError> {
        let now = self.now();
        let next = running.state.clone().apply(&event).expect("the interpreter only makes events that can follow");
        let ends = matches!(next.phase, crate::core::saga::Phase::Finished(_));
        if !ends && !mutant::skips(&event) {
            self.journal.append(running.command.seq, &event, now)?;
        }
        running.command.events.push((now, event));
        running.state = next;
        Ok(())
    }

    fn finish(&self, running: &Running, end: &End) -> Result<(), JournalError> {
        let now = self.now();
        let mut result = result::result(running, end, now);
        // The hub may have asked meanwhile for what was applied by hand: it is its job then that is answered.
        result.job_id = self.journal.job(running.command.bundle_id)?.unwrap_or(result.job_id);
        let changes = match end {
            End::Succeeded => {
                // Its own rows only: the other lane may have changed others since this command began.
                let own = running.achieved(Known::default());
                let removed = running.state.steps.iter().filter_map(|step| step.output()?.removed.clone());
                let is_gone = |removed: &Removed| match removed {
                    Removed::Credential(name) => !own.credentials.contains_key(name),
                    Removed::Workflow(key) => !own.workflows.contains_key(key),
                };
                let removed = removed.filter(is_gone).collect();
                MapChanges {
                    removed,
                    credentials: own.credentials.into_values().collect(),
                    workflows: own.workflows.into_values().collect(),
                    generation: (own.generation > running.base.generation).then_some(own.generation),
                    stack: running.state.steps.iter().rev().find_map(|step| step.output()?.stack.clone()),
                }
            }
            End::Failed(_) => MapChanges::default(),
            End::Stuck(_) => running.doubtful(),
        };
        let event = running.command.events.last().map(|(_, event)| event.clone()).filter(|e| *e != Event::Resumed);
        if matches!(end, End::Stuck(_)) {
            self.let_go(&running.plan);
        }
        let told = stack::told(running, end);
        let ending = Ending { seq: running.command.seq, event, result: &result, changes, told };
        self.journal.finish_noted(&ending, &audit::ended(running, end, &result), now)?;
        tracing::info!(job = %result.job_id, code = result.code, state = ?result.state, "command ended");
        Ok(())
    }

    /// Ends a command of which nothing was begun, or whose journal rows are damaged.
    fn end_early(&self, command: &OpenCommand, state: OutcomeState, error: StepError) -> Result<(), JournalError> {
        let now = self.now();
        tracing::warn!(job = %command.job_id, code = error.code, "command ended before its first step");
        let mut result = CommandResult {
            job_id: command.job_id,
            bundle_id: Some(command.bundle_id),
            state,
            code: error.code,
            message: error.message,
            retryable: error.retryable,
            started_at: now,
            finished_at: now,
            steps: vec![],
            output: serde_json::Value::Array(vec![]),
        };
        result::fit(&mut result);
        let mut changes = MapChanges::default();
        if state == OutcomeState::Stuck {
            // What it touched cannot be read any more: everything is in doubt.
            let known = self.journal.known()?;
            changes.credentials = known.credentials.values().map(doubt_credential).collect();
        }
        let ending = Ending { seq: command.seq, event: None, result: &result, changes, told: None };
        self.journal.finish(&ending, now)
    }

    /// Sets a command aside whose rows cannot be read, so that those after it run.
    fn quarantine(&self, lane: Lane, error: &JournalError) -> Result<bool, JournalError> {
        let Some((seq, job_id, bundle_id)) = self.journal.next_open_header(lane)? else { return Ok(false) };
        let (Ok(job_id), Ok(bundle_id)) = (job_id.parse(), bundle_id.parse()) else {
            let message = format!("command {seq}: not even its ids can be read; it was set aside, look at n8n");
            tracing::error!("{message}");
            return self.journal.set_aside(seq, &message, self.now()).map(|()| true);
        };
        let command =
            OpenCommand { seq, job_id, bundle_id, bundle: vec![], not_after: self.now(), plan: None, events: vec![] };
        let message = format!("{}; the command was set aside, look at what it left in n8n", Chain(error));
        let error = StepError { code: error.code().into(), message, retryable: false };
        self.end_early(&command, OutcomeState::Stuck, error).map(|()| true)
    }

    async fn wait(&self, what: String, error: &EffectError, attempt: u32, in_doubt: bool, secrets: &[Secret<String>]) {
        let jittered = backoff(attempt, self.world.entropy().number());
        let pause = error.retry_after.unwrap_or(jittered).clamp(jittered, RETRY_AFTER_MAX.max(jittered));
        let why = redacted(&error.message, secrets);
        tracing::warn!(what, attempt, code = error.code, pause_ms = pause.as_millis(), "{why}; trying again");
        self.world.clock().sleep(pause).await;
        if in_doubt {
            self.settle().await;
        }
    }

    /// Lets n8n finish what it may still be at, before it is looked at: when it answers again, a request that it had
    /// taken before is not always carried out yet.
    async fn settle(&self) {
        for _ in 0..SETTLE_LOOKS_MAX {
            if matches!(self.world.workflows().status().await, N8nStatus::Running | N8nStatus::Locked) {
                break;
            }
            self.world.clock().sleep(SETTLE).await;
        }
        self.world.clock().sleep(SETTLE).await;
    }

    fn now(&self) -> Timestamp {
        self.world.clock().now()
    }
}

/// What a repeated step found as wished may be the work of the try before it, and is to be taken back like that.
fn in_doubt(mut output: StepOutput) -> StepOutput {
    if output.answer["changed"] == false {
        output.answer["changed"] = true.into();
    }
    output
}

fn read_commands(command: &OpenCommand) -> Result<Vec<Command>, StepError> {
    let damaged = |why: String| StepError {
        code: "journal_damaged".into(),
        message: format!("the accepted bundle cannot be read any more: {why}"),
        retryable: false,
    };
    let bundle = Bundle::reread(&command.bundle).map_err(|e| damaged(Chain(&e).to_string()))?;
    bundle.commands.into_iter().map(|wire| wire.into_command().map_err(|e| damaged(e.to_string()))).collect()
}

fn step_error(error: &EffectError, attempts: u32, secrets: &[Secret<String>]) -> StepError {
    let error_text = redacted(&error.message, secrets);
    let message = match attempts {
        1 => error_text,
        _ => format!("{error_text} (after {attempts} tries)"),
    };
    StepError { code: error.code.into(), message, retryable: error.kind != ErrorKind::Permanent }
}
