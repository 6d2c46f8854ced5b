//! A bundle that somebody hands over on the droplet: the same admission but for the hub's token, the same journal, the
//! same lanes.

use std::time::Duration;

use genesis_shared::bundle::Bundle;
use genesis_shared::chain::Chain;
use genesis_shared::id::{BundleId, Digest, JobId};
use genesis_shared::report::{CommandResult, N8nStatus, OutcomeState};
use genesis_shared::timestamp::Timestamp;
use serde::{Deserialize, Serialize};

use super::link::lane;
use super::{Agent, Fatal};
use crate::core::admit::{Handed, Verdict, job_by_hand};
use crate::core::audit;
use crate::core::saga::{Next, SagaState};
use crate::core::step::Step;
use crate::exec::result::fit;
use crate::journal::{Journal, JournalError, Lane};
use crate::ports::{Clock, Workflows, World};

/// Code of the refusal on a droplet that has not enrolled: nothing says yet whose signatures count.
const NO_TRUST_ROOT: &str = "no_trust_root";
const NOT_ENROLLED: &str = "this droplet has not enrolled yet, so it does not know whose signatures count";

/// How often it is looked how far a bundle is. Who waits reads a line in about this time.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// An admitted bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// The bundle.
    pub bundle_id: BundleId,
    /// The job under which its result is reported.
    pub job_id: JobId,
    /// Its action names, joined by commas.
    pub action: String,
    /// It only looks, so it does not wait for changes.
    pub read_only: bool,
    /// It was accepted before and is still under way.
    pub resumed: bool,
}

impl Accepted {
    fn new(bundle: &Bundle, job_id: JobId, resumed: bool) -> Self {
        let lane = lane(bundle.actions().unwrap_or_default().into_iter());
        let (action, read_only) = (bundle.action_label(), lane == Lane::Look);
        Self { bundle_id: bundle.id, job_id, action, read_only, resumed }
    }

    fn lane(&self) -> Lane {
        if self.read_only { Lane::Look } else { Lane::Change }
    }
}

/// What was decided on a bundle.
#[derive(Clone, Debug, PartialEq)]
pub enum ByHand {
    /// It is in the journal and will be run.
    Accepted(Accepted),
    /// It is not run; the result says by which rule.
    Refused(Box<CommandResult>),
}

/// How far an accepted bundle is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Progress {
    /// Another one was accepted earlier and is finished first.
    Waits {
        /// The other one.
        behind: BundleId,
        /// Whether n8n answers.
        n8n: N8nStatus,
    },
    /// A step is under way.
    Step {
        /// Which, from 1.
        n: usize,
        /// Of how many.
        of: usize,
        /// What it does.
        name: String,
        /// It is being undone, because a later one failed.
        undo: bool,
        /// Whether n8n answers.
        n8n: N8nStatus,
    },
}

/// What happened next to an accepted bundle.
#[derive(Clone, Debug, PartialEq)]
pub enum News {
    /// It is at another step than before, or n8n has changed.
    Progress(Progress),
    /// It has ended.
    Ended(Box<CommandResult>),
}

impl<W: World> Agent<W> {
    /// Decides on a bundle and keeps it if it may run. The lanes run it, or [`Agent::run_one`] where none does.
    ///
    /// Of a refusal only the audit tells: whoever asked has the answer, and the hub did not ask.
    ///
    /// # Errors
    /// The journal failed.
    pub fn apply(&self, bytes: &[u8]) -> Result<ByHand, Fatal> {
        let digest = Digest::of(bytes);
        let job_id = job_by_hand(&digest);
        let now = self.world.clock().now();
        let refuse = |code: &str, message| Ok(ByHand::Refused(Box::new(unable(job_id, code, message, now))));
        let root = self.root.borrow();
        let Some(root) = root.as_ref() else {
            return refuse(NO_TRUST_ROOT, NOT_ENROLLED.to_owned());
        };
        if let Err(error) = self.has_space() {
            return refuse(error.code, error.message);
        }
        if let Err(error) = self.has_room()? {
            return refuse(error.code, error.message);
        }
        let verdict = match self.admit(root, bytes, &Handed::ByHand) {
            // Whether it was run before cannot be told any more, so it is not run now.
            Err(error @ JournalError::Damaged { .. }) => return refuse(error.code(), Chain(&error).to_string()),
            verdict => verdict?,
        };
        match verdict {
            Verdict::Accept(admitted) => {
                let accepted = Accepted::new(admitted.bundle.get(), job_id, false);
                if let (Lane::Change, Err(error)) = (accepted.lane(), self.may_change()) {
                    let result = unable(job_id, error.code, error.message, now);
                    self.note_refused(&result, digest, now)?;
                    return Ok(ByHand::Refused(Box::new(result)));
                }
                self.accept(&admitted, bytes, job_id)?;
                self.mail.notify_one();
                Ok(ByHand::Accepted(accepted))
            }
            Verdict::Duplicate(bundle_id) => match Bundle::reread(bytes) {
                Ok(bundle) => {
                    let job_id = self.journal.job(bundle_id)?.unwrap_or(job_id);
                    let accepted = Accepted::new(&bundle, job_id, true);
                    match (accepted.lane(), self.may_change()) {
                        (Lane::Change, Err(error)) => refuse(error.code, error.message),
                        (Lane::Change | Lane::Look, _) => Ok(ByHand::Accepted(accepted)),
                    }
                }
                // It was verified a moment ago.
                Err(error) => refuse("a1_shape", Chain(&error).to_string()),
            },
            Verdict::Reject(refusal) => {
                let mut result = self.refused(job_id, &refusal);
                if let Some(earlier) = refusal.bundle_id.map(|id| self.journal.outcome(id)).transpose()?.flatten() {
                    let word = state_word(earlier.state);
                    result.message += &format!("; it ended then as {word} ({})", earlier.code);
                    fit(&mut result);
                }
                self.note_refused(&result, digest, now)?;
                Ok(ByHand::Refused(Box::new(result)))
            }
        }
    }

    /// By hand, too, the outbox cannot be filled: whoever tries has the answer all the same.
    fn note_refused(&self, result: &CommandResult, digest: Digest, now: Timestamp) -> Result<(), JournalError> {
        if self.is_heard()?.is_ok() {
            self.journal.note(audit::refused(result, digest, true), now)?;
            self.mail.notify_one();
        }
        Ok(())
    }

    /// How many reports wait for the hub.
    ///
    /// # Errors
    /// The journal failed.
    pub fn outbox_depth(&self) -> Result<u64, Fatal> {
        Ok(self.journal.outbox_state()?.1)
    }

    /// Waits for what happens next to an accepted bundle; `seen` holds the progress that was told last.
    ///
    /// # Errors
    /// The journal failed.
    pub async fn news(&self, accepted: &Accepted, seen: &mut Option<Progress>) -> Result<News, Fatal> {
        loop {
            let ended = self.ended.notified();
            tokio::pin!(ended);
            ended.as_mut().enable();
            if let Some(result) = self.journal.outcome(accepted.bundle_id)? {
                return Ok(News::Ended(Box::new(result)));
            }
            let look = async {
                self.world.clock().sleep(LOOK_INTERVAL).await;
                // n8n is asked first: it may take its time, and the journal shall tell how it is after that.
                let n8n = self.world.workflows().status().await;
                progress(&self.journal, accepted, n8n)
            };
            let now = tokio::select! {
                () = &mut ended => continue,
                now = look => now?,
            };
            if now.is_some() && now != *seen {
                seen.clone_from(&now);
                if let Some(now) = now {
                    return Ok(News::Progress(now));
                }
            }
        }
    }

    /// Runs an accepted bundle to its end without the lanes, and before it what was accepted earlier: a change that was
    /// begun must be ended before the next one. Reports wait in the outbox.
    ///
    /// # Errors
    /// The journal failed.
    pub async fn run_one(&self, accepted: &Accepted) -> Result<(), Fatal> {
        let exec = self.exec();
        while self.journal.outcome(accepted.bundle_id)?.is_none() && exec.run_next(accepted.lane()).await? {
            self.ended.notify_waiters();
        }
        Ok(())
    }
}

/// The refusal on a droplet that has no journal yet.
pub fn not_enrolled(bundle: &[u8], now: Timestamp) -> CommandResult {
    unable(job_by_hand(&Digest::of(bundle)), NO_TRUST_ROOT, NOT_ENROLLED.to_owned(), now)
}

/// A refusal by no rule of admission: what stands in the way can be mended.
pub(super) fn unable(job_id: JobId, code: &str, message: String, now: Timestamp) -> CommandResult {
    CommandResult {
        job_id,
        bundle_id: None,
        state: OutcomeState::Rejected,
        code: code.to_owned(),
        message,
        retryable: true,
        started_at: now,
        finished_at: now,
        steps: vec![],
        output: serde_json::Value::Array(vec![]),
    }
}

/// Where a bundle stands, by the journal; `None` if it has not begun or its rows cannot be read.
fn progress(journal: &Journal, accepted: &Accepted, n8n: N8nStatus) -> Result<Option<Progress>, JournalError> {
    let open = match journal.next_open(accepted.lane()) {
        Ok(Some(open)) => open,
        Ok(None) | Err(JournalError::Damaged { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    if open.bundle_id != accepted.bundle_id {
        return Ok(Some(Progress::Waits { behind: open.bundle_id, n8n }));
    }
    let Some(plan) = open.plan else { return Ok(None) };
    let mut state = SagaState::new(plan.steps.len(), plan.commit_point);
    for (_, event) in &open.events {
        state = match state.apply(event) {
            Ok(state) => state,
            Err(_) => return Ok(None),
        };
    }
    let (n, undo) = match state.next() {
        Next::Do(n) => (n, false),
        Next::Undo(n) => (n, true),
        Next::Finish(_) => return Ok(None),
    };
    let step = |step: &Step| Progress::Step { n: n + 1, of: plan.steps.len(), name: step.title(), undo, n8n };
    Ok(plan.steps.get(n).map(step))
}

/// An outcome in one word.
pub fn state_word(state: OutcomeState) -> &'static str {
    match state {
        OutcomeState::Succeeded => "succeeded",
        OutcomeState::Failed => "failed",
        OutcomeState::Rejected => "refused",
        OutcomeState::Expired => "expired",
        OutcomeState::Stuck => "stuck",
    }
}
