//! The fold of a command's events -> the result that the operator sees.

use genesis_shared::command::Command;
use genesis_shared::limits::{MESSAGE_BYTES_MAX, RECORD_BYTES_MAX};
use genesis_shared::report::{CommandResult, OutcomeState, Record, StepTrace};
use genesis_shared::timestamp::Timestamp;
use serde_json::{Value, json};

use super::Running;
use crate::core::saga::{End, Event, StepState};
use crate::core::step::Step;

pub(super) fn result(running: &Running, end: &End, now: Timestamp) -> CommandResult {
    let (state, code, message, retryable) = match end {
        End::Succeeded => (OutcomeState::Succeeded, "ok".to_owned(), "done".to_owned(), false),
        End::Failed(error) => {
            let message = format!("{}; what had been done was undone", error.message);
            (OutcomeState::Failed, error.code.clone(), message, error.retryable)
        }
        End::Stuck(error) => (OutcomeState::Stuck, error.code.clone(), error.message.clone(), error.retryable),
    };
    let mut result = CommandResult {
        job_id: running.command.job_id,
        bundle_id: Some(running.command.bundle_id),
        state,
        code,
        message,
        retryable,
        started_at: running.command.events.first().map_or(now, |(at, _)| *at),
        finished_at: now,
        steps: traces(running),
        output: output(running),
    };
    fit(&mut result);
    result
}

/// Makes a result fit the limit of a record, which the hub would refuse for ever otherwise. The id map and the n8n it
/// describes are complete without the answer.
pub(crate) fn fit(result: &mut CommandResult) {
    if result.message.len() > MESSAGE_BYTES_MAX {
        let end = (0..=MESSAGE_BYTES_MAX).rev().find(|at| result.message.is_char_boundary(*at)).unwrap_or(0);
        result.message.truncate(end);
        result.message.push_str(" … (cut)");
    }
    let too_long = |result: &CommandResult| {
        serde_json::to_vec(&Record::Result(result.clone())).map_or(0, |bytes| bytes.len()) > RECORD_BYTES_MAX
    };
    if too_long(result) {
        result.output = json!([{"cut": "the answer was longer than a record may be"}]);
    }
    if too_long(result) {
        result.steps.retain(|step| step.state != "done");
    }
}

fn traces(running: &Running) -> Vec<StepTrace> {
    let trace = |(n, state): (usize, &StepState)| {
        let name = match state {
            StepState::Pending => "pending",
            StepState::Started(_) => "started",
            StepState::Done(..) => "done",
            StepState::Failed(..) => "failed",
            StepState::Undoing(_) => "undoing",
            StepState::Undone => "undone",
        };
        let (first, last) = span(running, n);
        StepTrace {
            name: running.plan.steps[n].title(),
            state: name.to_owned(),
            ms: last.millis_since(first).max(0).unsigned_abs(),
            attempts: running.attempts.get(&n).copied().unwrap_or(0),
        }
    };
    running.state.steps.iter().enumerate().map(trace).collect()
}

/// First and last moment of a step's own doing.
fn span(running: &Running, n: usize) -> (Timestamp, Timestamp) {
    let mut times = running.command.events.iter().filter(|(_, event)| match event {
        Event::Started { step, .. } | Event::Done { step, .. } | Event::Failed { step, .. } => *step == n,
        Event::UndoStarted { .. } | Event::UndoDone { .. } | Event::UndoFailed { .. } | Event::Resumed => false,
    });
    let first = times.next().map_or(Timestamp::default(), |(at, _)| *at);
    (first, times.next_back().map_or(first, |(at, _)| *at))
}

/// One answer per command: what its first answering step said; of a desired state, all that its steps did.
fn output(running: &Running) -> Value {
    let steps = || running.plan.steps.iter().zip(&running.state.steps);
    let answers = |command: usize| {
        let of_command = steps().filter(move |(step, _)| step.command() == command);
        of_command.filter_map(|(step, state)| Some((step, &state.output()?.answer))).filter(|(_, a)| !a.is_null())
    };
    let answer = |(n, command): (usize, &Command)| {
        if let Command::ApplyState(_) = command {
            return applied(answers(n));
        }
        if let Command::Stack(_) = command {
            return super::stack::answer(running, answers(n));
        }
        answers(n).next().map_or(Value::Null, |(_, answer)| answer.clone())
    };
    running.commands.iter().enumerate().map(answer).collect()
}

/// What bringing about a desired state came to: the steps that had to change something, and how many had not.
fn applied<'a>(answers: impl Iterator<Item = (&'a Step, &'a Value)>) -> Value {
    let (mut changed, mut unchanged) = (Vec::new(), 0);
    let (mut note, mut domains) = (json!({}), None);
    for (step, answer) in answers {
        match (step, answer.get("changed")) {
            (Step::NoteGeneration { .. }, _) => note = answer.clone(),
            (Step::Stack { .. }, did_change) => {
                domains = Some(answer);
                if did_change == Some(&Value::Bool(true)) { changed.push(step.title()) } else { unchanged += 1 }
            }
            (_, Some(Value::Bool(true))) => changed.push(step.title()),
            _ => unchanged += 1,
        }
    }
    note["changed"] = json!(changed);
    note["unchanged"] = json!(unchanged);
    if let Some(answer) = domains {
        note["domains"] = answer["domains"].clone();
        note["primary"] = answer["primary"].clone();
    }
    note
}
