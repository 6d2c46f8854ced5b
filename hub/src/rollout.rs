//! Rollouts: how a bundle spreads over its targets, wave by wave, and when it stops. Pure: a plan, a state and what was
//! counted go in, the next state and what to do come out.
//!
//! - W1. A wave is released when the one before is through and its pause is over; the first at once.
//! - W2. A job failed that ended as anything but a success, or that was handed out `verify_s` ago and is not answered. A
//!   droplet that never asked is absent: it is neither a success nor a failure, and holds no wave up for longer than
//!   `verify_s`. Its job waits for it, as long as the rollout is not aborted.
//! - W3. Nothing is judged on fewer than `min_sample` answers: at a share of `pause_at` the rollout pauses until an
//!   operator resumes or aborts it, at `abort_at` it is aborted, and what was not handed out is withdrawn.
//! - W4. A wave too small to be judged that ends with a failure in it pauses too, and so does one of which nobody has
//!   answered: somebody looks before more have it.
//! - W5. What an operator has resumed over does not pause it again, and the next wave comes at once where the one before
//!   is through; more failures do pause it, and W3's abort always counts.
//! - W6. An abort brings the rollback, if one was signed with the bundle, to those droplets that were given the bundle.

use genesis_shared::timestamp::Timestamp;
use serde::{Deserialize, Serialize};

mod plan;
pub use plan::{Plan, PlanError};

/// Where a rollout is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "phase", rename_all = "snake_case")]
pub enum Phase {
    /// The wave of this number, from 0, is under way.
    Running,
    /// The next wave comes then.
    Pausing {
        /// When.
        #[schema(value_type = String, format = "date-time")]
        until: Timestamp,
    },
    /// An operator has to resume or abort it.
    Paused {
        /// Why, for people.
        why: String,
    },
    /// It goes no further.
    Aborted {
        /// Why, for people.
        why: String,
    },
    /// Every wave is through.
    Finished,
}

/// What a rollout has come to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The phase.
    pub phase: Phase,
    /// The wave that was released last, from 0.
    pub wave: u32,
    /// When.
    pub released_at: Timestamp,
    /// Failures that an operator has resumed over.
    pub tolerated: u32,
}

/// What was counted over the waves that are released.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Counts {
    /// Jobs of these waves.
    pub released: u32,
    /// Not handed out yet, to droplets that are there or may come still.
    pub waiting: u32,
    /// Not handed out, to droplets that were not heard of for `verify_s`.
    pub absent: u32,
    /// Handed out and not answered, for less than `verify_s`.
    pub running: u32,
    /// Handed out and not answered, for longer.
    pub missing: u32,
    /// Ended well.
    pub succeeded: u32,
    /// Ended otherwise.
    pub failed: u32,
    /// Withdrawn, or expired before they were handed out.
    pub withdrawn: u32,
}

impl Counts {
    fn bad(&self) -> u32 {
        self.failed.saturating_add(self.missing)
    }

    fn answered(&self) -> u32 {
        self.bad().saturating_add(self.succeeded)
    }

    /// Failures per answer; 0 before the first.
    pub fn failure_share(&self) -> f64 {
        if self.answered() == 0 { 0.0 } else { f64::from(self.bad()) / f64::from(self.answered()) }
    }

    /// Whether nothing is to be expected of the released waves any more, for now.
    fn is_through(&self) -> bool {
        self.waiting == 0 && self.running == 0
    }
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Release this wave.
    Release(u32),
    /// Withdraw what was not handed out.
    Withdraw,
    /// Push the rollback to those who were given the bundle.
    RollBack,
    /// Tell that it paused, was aborted, or is through: code and words.
    Tell(&'static str, String),
}

/// What an operator wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// No further wave.
    Pause,
    /// Go on, over what has failed so far.
    Resume,
    /// Withdraw what was not handed out, and roll back.
    Abort,
}

/// A wish that makes no sense where the rollout is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the rollout is {0} already")]
pub struct Senseless(pub &'static str);

impl Phase {
    /// Its name on the wire.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Pausing { .. } => "pausing",
            Self::Paused { .. } => "paused",
            Self::Aborted { .. } => "aborted",
            Self::Finished => "finished",
        }
    }

    /// Whether nothing comes after it.
    pub fn is_over(&self) -> bool {
        matches!(self, Self::Aborted { .. } | Self::Finished)
    }
}

impl State {
    /// The first wave is released.
    pub fn begin(now: Timestamp) -> (Self, Vec<Act>) {
        let state = Self { phase: Phase::Running, wave: 0, released_at: now, tolerated: 0 };
        (state, vec![Act::Release(0)])
    }

    /// What time and answers make of it.
    #[must_use]
    pub fn step(&self, plan: &Plan, counts: &Counts, now: Timestamp) -> (Self, Vec<Act>) {
        if self.phase.is_over() {
            return (self.clone(), Vec::new());
        }
        let judged = counts.answered() >= plan.min_sample;
        let share = counts.failure_share();
        if judged && share >= plan.abort_at {
            let why = format!("{} of {} failed or did not answer", counts.bad(), counts.answered());
            return self.aborted(plan, why);
        }
        let is_new = counts.bad() > self.tolerated;
        match &self.phase {
            Phase::Paused { .. } | Phase::Aborted { .. } | Phase::Finished => (self.clone(), Vec::new()),
            Phase::Running | Phase::Pausing { .. } if judged && share >= plan.pause_at && is_new => {
                self.paused(format!("{} of {} failed or did not answer", counts.bad(), counts.answered()))
            }
            Phase::Pausing { until } if now >= *until => self.next_wave(now),
            Phase::Pausing { .. } => (self.clone(), Vec::new()),
            Phase::Running if !counts.is_through() => (self.clone(), Vec::new()),
            Phase::Running if counts.succeeded == 0 && counts.bad() == 0 => {
                self.paused("nobody of the wave has answered, so nothing is known".into())
            }
            Phase::Running if !judged && is_new => {
                self.paused(format!("{} failed in a wave too small to be judged", counts.bad()))
            }
            Phase::Running if self.wave + 1 >= plan.count() => {
                let told = format!("{} succeeded, {} failed, {} absent", counts.succeeded, counts.bad(), counts.absent);
                (Self { phase: Phase::Finished, ..self.clone() }, vec![Act::Tell("rollout_finished", told)])
            }
            Phase::Running if plan.pause_s == 0 => self.next_wave(now),
            Phase::Running => {
                let until = now.plus_millis(i64::from(plan.pause_s) * 1000);
                (Self { phase: Phase::Pausing { until }, ..self.clone() }, Vec::new())
            }
        }
    }

    /// What an operator's wish makes of it.
    ///
    /// # Errors
    /// [`Senseless`].
    pub fn steer(
        &self,
        plan: &Plan,
        counts: &Counts,
        wish: Wish,
        now: Timestamp,
    ) -> Result<(Self, Vec<Act>), Senseless> {
        match (wish, &self.phase) {
            (_, Phase::Aborted { .. } | Phase::Finished) | (Wish::Pause, Phase::Paused { .. }) => {
                Err(Senseless(self.phase.name()))
            }
            (Wish::Resume, Phase::Running | Phase::Pausing { .. }) => Err(Senseless("running")),
            (Wish::Pause, Phase::Running | Phase::Pausing { .. }) => Ok(self.paused("an operator paused it".into())),
            (Wish::Abort, Phase::Running | Phase::Pausing { .. } | Phase::Paused { .. }) => {
                Ok(self.aborted(plan, "an operator aborted it".into()))
            }
            (Wish::Resume, Phase::Paused { .. }) => {
                let resumed = Self { phase: Phase::Running, tolerated: counts.bad(), ..self.clone() };
                let is_last = self.wave + 1 >= plan.count();
                // Somebody has looked: a wave that is through needs no more answers, and no further pause.
                let (next, mut acts) = match resumed.step(plan, counts, now) {
                    (next, _) if counts.is_through() && !is_last && !next.phase.is_over() => resumed.next_wave(now),
                    stepped => stepped,
                };
                acts.insert(0, Act::Tell("rollout_resumed", format!("over {} failures", counts.bad())));
                Ok((next, acts))
            }
        }
    }

    fn next_wave(&self, now: Timestamp) -> (Self, Vec<Act>) {
        let wave = self.wave + 1;
        (Self { phase: Phase::Running, wave, released_at: now, ..self.clone() }, vec![Act::Release(wave)])
    }

    fn paused(&self, why: String) -> (Self, Vec<Act>) {
        let acts = vec![Act::Tell("rollout_paused", why.clone())];
        (Self { phase: Phase::Paused { why }, ..self.clone() }, acts)
    }

    fn aborted(&self, plan: &Plan, why: String) -> (Self, Vec<Act>) {
        let mut acts = vec![Act::Withdraw, Act::Tell("rollout_aborted", why.clone())];
        if plan.rollback.is_some() {
            acts.push(Act::RollBack);
        }
        (Self { phase: Phase::Aborted { why }, ..self.clone() }, acts)
    }

    /// When time alone may change something; `None` where only answers or operators can.
    pub fn next_at(&self) -> Option<Timestamp> {
        match &self.phase {
            Phase::Pausing { until } => Some(*until),
            Phase::Running | Phase::Paused { .. } | Phase::Aborted { .. } | Phase::Finished => None,
        }
    }
}

#[cfg(test)]
mod tests;
