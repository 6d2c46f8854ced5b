//! The only state machine of execution. One total function folds the journal's events, live and after a crash alike.

use genesis_shared::limits::RESUMES_MAX;
use serde::{Deserialize, Serialize};

use crate::core::step::{Before, StepError, StepOutput};

/// One row of the journal about a command that is being run. `step` counts from 0.
///
/// IMPORTANT: on disk in running droplets; only add variants and optional fields.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(clippy::large_enum_variant, reason = "there are some dozens of them at a time")]
pub enum Event {
    /// The step is about to act; from here on it may have happened.
    Started {
        /// Which.
        step: usize,
        /// What was there before.
        before: Before,
    },
    /// The step has happened.
    Done {
        /// Which.
        step: usize,
        /// What it achieved.
        output: StepOutput,
    },
    /// The step will not happen; what it may have left is undone next.
    Failed {
        /// Which.
        step: usize,
        /// Why.
        error: StepError,
    },
    /// The step is about to be undone.
    UndoStarted {
        /// Which.
        step: usize,
    },
    /// Nothing of the step remains.
    UndoDone {
        /// Which.
        step: usize,
    },
    /// The step can be neither kept nor undone.
    UndoFailed {
        /// Which.
        step: usize,
        /// Why.
        error: StepError,
    },
    /// The agent started anew and takes the command up again.
    Resumed,
}

/// How far one step has come.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "there are some dozens of them at a time")]
pub enum StepState {
    /// Not begun.
    Pending,
    /// Begun; may have happened.
    Started(Before),
    /// Happened.
    Done(Before, StepOutput),
    /// Will not happen.
    Failed(Option<Before>, StepError),
    /// Being undone.
    Undoing(Option<Before>),
    /// Taken back.
    Undone,
}

impl StepState {
    /// What it achieved, if it is done.
    pub fn output(&self) -> Option<&StepOutput> {
        if let Self::Done(_, output) = self { Some(output) } else { None }
    }

    /// What was there before, if its undo has begun.
    pub fn undoing(&self) -> Option<&Before> {
        if let Self::Undoing(before) = self { before.as_ref() } else { None }
    }
}

/// Where the command stands.
#[derive(Clone, Debug, PartialEq)]
pub enum Phase {
    /// Step `next` is to be done.
    Running {
        /// Which.
        next: usize,
    },
    /// Step `next` is to be undone.
    Undoing {
        /// Which.
        next: usize,
        /// Why the command failed.
        cause: StepError,
    },
    /// It has ended.
    Finished(End),
}

/// The three ends of a command that was begun.
#[derive(Clone, Debug, PartialEq)]
pub enum End {
    /// All of it happened.
    Succeeded,
    /// None of it remains.
    Failed(StepError),
    /// Neither.
    Stuck(StepError),
}

/// A command being run: the fold of its events.
#[derive(Clone, Debug, PartialEq)]
pub struct SagaState {
    /// Where it stands.
    pub phase: Phase,
    /// Its steps in order.
    pub steps: Vec<StepState>,
    /// Steps with an index below it cannot be undone once it was passed; equal to the number of steps if all can.
    pub commit_point: usize,
    /// Resumes since a step last ended.
    pub resumes: u32,
}

/// An event that cannot follow in this state: a damaged journal or a bug.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("event {event} cannot follow in phase {phase}")]
pub struct IllegalEvent {
    event: String,
    phase: String,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// Do this step.
    Do(usize),
    /// Undo this step.
    Undo(usize),
    /// It has ended.
    Finish(End),
}

impl SagaState {
    /// A command of `steps` steps, none begun.
    pub fn new(steps: usize, commit_point: usize) -> Self {
        let phase = if steps == 0 { Phase::Finished(End::Succeeded) } else { Phase::Running { next: 0 } };
        Self { phase, steps: vec![StepState::Pending; steps], commit_point, resumes: 0 }
    }

    /// What to do next.
    pub fn next(&self) -> Next {
        match &self.phase {
            Phase::Running { next } => Next::Do(*next),
            Phase::Undoing { next, .. } => Next::Undo(*next),
            Phase::Finished(end) => Next::Finish(end.clone()),
        }
    }

    /// Takes in one event.
    ///
    /// # Errors
    /// An event that this state does not allow; the state is then unusable and the command is to be quarantined.
    pub fn apply(mut self, event: &Event) -> Result<Self, IllegalEvent> {
        match (event, self.phase.clone()) {
            (Event::Started { step, before }, Phase::Running { next })
                if *step == next && self.steps[next] == StepState::Pending =>
            {
                self.steps[next] = StepState::Started(before.clone());
            }
            (Event::Done { step, output }, Phase::Running { next }) if *step == next => {
                let StepState::Started(before) = self.steps[next].clone() else { return self.refuse(event) };
                self.steps[next] = StepState::Done(before, output.clone());
                self.resumes = 0;
                self.phase = match next + 1 {
                    last if last == self.steps.len() => Phase::Finished(End::Succeeded),
                    next => Phase::Running { next },
                };
            }
            (Event::Failed { step, error }, Phase::Running { next }) if *step == next => self.fail(next, error),
            (Event::UndoStarted { step }, Phase::Undoing { next, .. }) if *step == next => {
                let before = match &self.steps[next] {
                    // What was as wished already has nothing to take back.
                    StepState::Done(_, output) if output.answer["changed"] == false => None,
                    StepState::Done(before, _) | StepState::Started(before) => Some(before.clone()),
                    StepState::Failed(before, _) => before.clone(),
                    StepState::Undoing(_) | StepState::Pending | StepState::Undone => return self.refuse(event),
                };
                self.steps[next] = StepState::Undoing(before);
            }
            (Event::UndoDone { step }, Phase::Undoing { next, cause }) if *step == next => {
                if !matches!(self.steps[next], StepState::Undoing(_)) {
                    return self.refuse(event);
                }
                self.steps[next] = StepState::Undone;
                self.resumes = 0;
                self.phase = match next.checked_sub(1) {
                    Some(next) => Phase::Undoing { next, cause },
                    None => Phase::Finished(End::Failed(cause)),
                };
            }
            (Event::UndoFailed { step, error }, Phase::Undoing { next, cause }) if *step == next => {
                let message = format!("{}; it was undone because of {}: {}", error.message, cause.code, cause.message);
                self.phase = Phase::Finished(End::Stuck(StepError { message, ..error.clone() }));
            }
            (Event::Resumed, Phase::Running { .. } | Phase::Undoing { .. }) => self.resume(),
            (_, Phase::Running { .. } | Phase::Undoing { .. } | Phase::Finished(_)) => return self.refuse(event),
        }
        Ok(self)
    }

    fn fail(&mut self, next: usize, error: &StepError) {
        let before = if let StepState::Started(before) = &self.steps[next] { Some(before.clone()) } else { None };
        self.steps[next] = StepState::Failed(before, error.clone());
        self.resumes = 0;
        // From the commit point on there is no way back: a step that can never be done leaves the command stuck. The
        // step at the point itself may unwind as long as it has not begun.
        let begun = matches!(self.steps[next], StepState::Failed(Some(_), _));
        self.phase = if next > self.commit_point || (next == self.commit_point && begun) {
            Phase::Finished(End::Stuck(error.clone()))
        } else {
            Phase::Undoing { next, cause: error.clone() }
        };
    }

    /// Counts a resume; a command that is taken up again and again without a step ending ends here, so that a step
    /// which kills the agent cannot do so for ever.
    fn resume(&mut self) {
        self.resumes += 1;
        if self.resumes > RESUMES_MAX {
            self.phase = Phase::Finished(End::Stuck(StepError {
                code: "resumed_too_often".into(),
                message: format!(
                    "the agent restarted {} times within one step; look at its log for the step's last start, then send the command again",
                    self.resumes
                ),
                retryable: true,
            }));
        }
    }

    fn refuse(self, event: &Event) -> Result<Self, IllegalEvent> {
        Err(IllegalEvent { event: name(event), phase: format!("{:?}", self.phase) })
    }
}

/// The event's kind and step, without its content.
fn name(event: &Event) -> String {
    match event {
        Event::Started { step, .. } => format!("Started({step})"),
        Event::Done { step, .. } => format!("Done({step})"),
        Event::Failed { step, .. } => format!("Failed({step})"),
        Event::UndoStarted { step } => format!("UndoStarted({step})"),
        Event::UndoDone { step } => format!("UndoDone({step})"),
        Event::UndoFailed { step, .. } => format!("UndoFailed({step})"),
        Event::Resumed => "Resumed".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    fn started(step: usize) -> Event {
        Event::Started { step, before: Before::default() }
    }
    fn done(step: usize) -> Event {
        Event::Done { step, output: StepOutput::answer(Value::Null) }
    }
    fn error() -> StepError {
        StepError { code: "x".into(), message: "y".into(), retryable: false }
    }
    fn failed(step: usize) -> Event {
        Event::Failed { step, error: error() }
    }
    fn fold(steps: usize, events: &[Event]) -> Result<SagaState, IllegalEvent> {
        events.iter().try_fold(SagaState::new(steps, steps), SagaState::apply)
    }

    #[test]
    fn runs_each_step_once_and_succeeds() {
        let state = fold(2, &[started(0), done(0), started(1), done(1)]).unwrap();
        assert_eq!(state.next(), Next::Finish(End::Succeeded));
    }

    #[test]
    fn a_failure_undoes_the_failed_step_first_and_then_those_before_it() {
        let undo = |step| [Event::UndoStarted { step }, Event::UndoDone { step }];
        let mut events = vec![started(0), done(0), started(1), failed(1)];
        assert_eq!(fold(3, &events).unwrap().next(), Next::Undo(1));
        events.extend(undo(1));
        assert_eq!(fold(3, &events).unwrap().next(), Next::Undo(0));
        events.extend(undo(0));
        assert_eq!(fold(3, &events).unwrap().next(), Next::Finish(End::Failed(error())));
    }

    #[test]
    fn an_undo_that_fails_ends_as_stuck() {
        let events =
            [started(0), failed(0), Event::UndoStarted { step: 0 }, Event::UndoFailed { step: 0, error: error() }];
        let message = "y; it was undone because of x: y".into();
        assert_eq!(fold(1, &events).unwrap().next(), Next::Finish(End::Stuck(StepError { message, ..error() })));
    }

    #[test]
    fn past_the_commit_point_nothing_is_undone() {
        let state =
            [started(0), done(0), started(1), failed(1)].iter().try_fold(SagaState::new(3, 0), SagaState::apply);
        assert_eq!(state.unwrap().next(), Next::Finish(End::Stuck(error())));
    }

    #[test]
    fn too_many_resumes_without_progress_end_as_stuck_and_progress_resets_the_count() {
        let mut events = vec![started(0)];
        events.extend(vec![Event::Resumed; RESUMES_MAX as usize]);
        assert_eq!(fold(2, &events).unwrap().next(), Next::Do(0));
        let mut crash_loop = events.clone();
        crash_loop.push(Event::Resumed);
        assert!(matches!(fold(2, &crash_loop).unwrap().next(), Next::Finish(End::Stuck(_))));
        events.extend([done(0), started(1), Event::Resumed]);
        assert_eq!(fold(2, &events).unwrap().next(), Next::Do(1));
    }

    #[test]
    fn refuses_events_out_of_order() {
        for events in [
            vec![done(0)],
            vec![started(1)],
            vec![started(0), started(0)],
            vec![Event::UndoStarted { step: 0 }],
            vec![started(0), done(0), failed(0)],
            vec![started(0), failed(0), Event::UndoDone { step: 0 }],
            vec![started(0), done(0), Event::Resumed],
        ] {
            assert!(fold(1, &events).is_err(), "{events:?}");
        }
    }

    fn any_event() -> impl Strategy<Value = Event> {
        (0..8u8, 0..4usize).prop_map(|(kind, step)| match kind {
            0 | 1 => started(step),
            2 | 3 => done(step),
            4 => failed(step),
            5 => Event::UndoStarted { step },
            6 => Event::UndoDone { step },
            _ => Event::Resumed,
        })
    }

    proptest! {
        #[test]
        fn apply_is_total_and_never_leaves_the_plan(events in proptest::collection::vec(any_event(), 0..60)) {
            let mut state = SagaState::new(3, 3);
            for event in &events {
                // Illegal events are refused; the state before them stays in use, as after quarantine of one row.
                if let Ok(next) = state.clone().apply(event) { state = next; }
                match state.next() {
                    Next::Do(step) | Next::Undo(step) => prop_assert!(step < 3),
                    Next::Finish(_) => {}
                }
            }
        }
    }
}
