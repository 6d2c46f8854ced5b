//! Asks the hub for commands and admits them. What is admitted is in the journal before the hub hears of it.

use std::time::Duration;

use data_encoding::HEXLOWER;
use genesis_shared::bundle::Bundle;
use genesis_shared::chain::Chain;
use genesis_shared::command::{Action, Class};
use genesis_shared::id::{Digest, JobId};
use genesis_shared::limits::{
    JOURNAL_RESERVE_MB, OPEN_COMMANDS_MAX, OUTBOX_BYTES_MAX, OUTBOX_RECORDS_MAX, POLL_COMMANDS_MAX, POLL_WAIT_S_MAX,
};
use genesis_shared::report::{CommandResult, OutcomeState, Record};
use genesis_shared::trust::TrustRoot;
use genesis_shared::wire::LeasedCommand;

use super::by_hand::unable;
use super::{Agent, Fatal, UNAUTHORISED};
use crate::core::admit::{Admitted, Delivery, Handed, Refusal, Rule, Situation, Verdict, admit};
use crate::core::audit;
use crate::exec::outbox::{Delivered, deliver};
use crate::exec::result::fit;
use crate::journal::{JournalError, Lane, NewCommand};
use crate::ports::{Clock, EffectError, Entropy, ErrorKind, Host, HubLink, World};

impl<W: World> Agent<W> {
    /// Polls for ever.
    pub(super) async fn link(&self) -> Result<(), Fatal> {
        let mut attempt = 0;
        loop {
            match self.poll_once().await? {
                Ok(()) => attempt = 0,
                Err(error) => {
                    attempt += 1;
                    self.pause_for_hub("ask for commands", &error, attempt).await;
                }
            }
        }
    }

    async fn poll_once(&self) -> Result<Result<(), EffectError>, Fatal> {
        if let Err(error) = self.has_space().and(self.has_room()?) {
            return Ok(Err(error));
        }
        let token = match self.token_or_enrol().await? {
            Ok(token) => token,
            Err(error) => return Ok(Err(error)),
        };
        self.deposit()?;
        // The hub takes a poll for the word that whatever it handed out before and was not confirmed got lost.
        loop {
            match deliver(&self.journal, self.world.hub(), &token).await? {
                Delivered::Empty => break,
                Delivered::Some => {}
                // What the hub will never take must not keep it from being asked.
                Delivered::NotNow(error) if error.kind == ErrorKind::Permanent && error.code != UNAUTHORISED => {
                    self.note_refusal(&error)?;
                    break;
                }
                Delivered::NotNow(error) => {
                    self.forget_refused_token(&token, &error);
                    return Ok(Err(error));
                }
            }
        }
        if let Err(error) = self.is_heard()? {
            return Ok(Err(error));
        }
        let nonce = {
            let mut bytes = [0; 16];
            self.world.entropy().fill(&mut bytes);
            HEXLOWER.encode(&bytes)
        };
        let wait = Duration::from_secs(self.pace.get().poll_wait_s.min(POLL_WAIT_S_MAX));
        match self.world.hub().poll(&token, wait, &nonce).await {
            Ok(answer) => {
                self.note_quarantine(answer.quarantined)?;
                if let Err(error) = self.catch_up_trust(&token, answer.trust_root_version).await? {
                    return Ok(Err(error));
                }
                // More than this no honest hub hands out; what is left is handed out again.
                for leased in answer.commands.iter().take(POLL_COMMANDS_MAX) {
                    if let Err(error) = self.has_room()? {
                        // Not acknowledged: it stays with the hub.
                        tracing::warn!(job = %leased.job_id, code = error.code, "left with the hub: {error}");
                        break;
                    }
                    self.take(leased, &nonce)?;
                }
                Ok(Ok(()))
            }
            Err(error) => {
                self.forget_refused_token(&token, &error);
                Ok(Err(error))
            }
        }
    }

    /// Whether commands could be journaled at all.
    pub(super) fn has_space(&self) -> Result<(), EffectError> {
        let free = match self.world.host().free_mb() {
            Some(free) if free < JOURNAL_RESERVE_MB => free,
            Some(_) | None => return Ok(()),
        };
        let message = format!(
            "the disk with {} has {free} MiB left, {JOURNAL_RESERVE_MB} are needed to take commands; free some space, the agent goes on by itself",
            self.settings.data_dir.display()
        );
        Err(EffectError::new(ErrorKind::Transient, "disk_full", message))
    }

    /// Whether one more command may wait here.
    pub(super) fn has_room(&self) -> Result<Result<(), EffectError>, JournalError> {
        let open = self.journal.open_count()?;
        if open < OPEN_COMMANDS_MAX {
            return Ok(Ok(()));
        }
        let message = format!(
            "{open} accepted commands wait to be run, at most {OPEN_COMMANDS_MAX} may; more are asked for when some have ended"
        );
        Ok(Err(EffectError::new(ErrorKind::Transient, "journal_busy", message)))
    }

    /// Whether the hub takes reports: one that hands out bundles and never takes what came of them would fill the
    /// tenant's disk with refusals.
    pub(super) fn is_heard(&self) -> Result<Result<(), EffectError>, JournalError> {
        let (count, bytes) = (self.journal.outbox_state()?.1, self.journal.outbox_bytes()?);
        if count < OUTBOX_RECORDS_MAX && bytes <= OUTBOX_BYTES_MAX {
            return Ok(Ok(()));
        }
        let message =
            format!("{count} reports of {bytes} bytes wait for the hub; no command is taken before it takes some");
        Ok(Err(EffectError::new(ErrorKind::Transient, "outbox_full", message)))
    }

    /// Admits one command and journals what came of it.
    fn take(&self, leased: &LeasedCommand, nonce: &str) -> Result<(), Fatal> {
        let root = self.root.borrow();
        let Some(root) = root.as_ref() else { return Ok(()) };
        let bytes = leased.bundle.as_bytes();
        let delivery = Delivery { token: &leased.delivery_token, nonce, job_id: leased.job_id };
        let verdict = match self.admit(root, bytes, &Handed::ByHub(delivery)) {
            Err(error @ JournalError::Damaged { .. }) => return self.give_up(leased, &error),
            verdict => verdict?,
        };
        match verdict {
            Verdict::Accept(admitted) => {
                let lane = lane(admitted.commands.iter().map(|command| command.action()));
                match (lane, self.may_change()) {
                    (Lane::Change, Err(error)) => {
                        let result = unable(leased.job_id, error.code, error.message, self.world.clock().now());
                        let result = CommandResult { bundle_id: Some(admitted.bundle.get().id), ..result };
                        let note = audit::refused(&result, Digest::of(bytes), false);
                        self.journal.report_noted(&Record::Result(result), &[note], self.world.clock().now())?;
                    }
                    (Lane::Change | Lane::Look, _) => self.accept(&admitted, bytes, leased.job_id).map(drop)?,
                }
            }
            Verdict::Duplicate(bundle_id) => {
                // The hub did not hear, or was restored from an older copy, or the bundle was applied by hand before:
                // tell it what is known, under the job that it asks for.
                let record = match self.journal.outcome(bundle_id) {
                    Ok(Some(result)) => Record::Result(CommandResult { job_id: leased.job_id, ..result }),
                    Ok(None) => Record::Accepted { job_id: leased.job_id },
                    Err(error @ JournalError::Damaged { .. }) => return self.give_up(leased, &error),
                    Err(error) => return Err(error.into()),
                };
                self.journal.confirm(bundle_id, leased.job_id, &record, self.world.clock().now())?;
            }
            Verdict::Reject(refusal) => {
                let result = self.refused(leased.job_id, &refusal);
                let note = audit::refused(&result, Digest::of(bytes), false);
                self.journal.report_noted(&Record::Result(result), &[note], self.world.clock().now())?;
            }
        }
        self.mail.notify_one();
        Ok(())
    }

    /// Keeps an admitted bundle and wakes the lane that runs it.
    pub(super) fn accept(&self, admitted: &Admitted, bytes: &[u8], job_id: JobId) -> Result<Lane, JournalError> {
        let bundle = admitted.bundle.get();
        let lane = lane(admitted.commands.iter().map(|command| command.action()));
        let new = NewCommand {
            bundle_id: bundle.id,
            job_id,
            bundle: bytes,
            digest: Digest::of(bytes),
            not_after: bundle.not_after,
            lane,
            signed_at: admitted.signed_at,
        };
        let notes = audit::accepted(admitted, new.digest, job_id);
        self.journal.accept_noted(&new, &notes, self.world.clock().now())?;
        tracing::info!(bundle = %bundle.id, job = %job_id, action = bundle.action_label(), "accepted");
        match lane {
            Lane::Look => self.looks.notify_one(),
            Lane::Change => self.work.notify_one(),
        }
        Ok(lane)
    }

    pub(super) fn admit(&self, root: &TrustRoot, bytes: &[u8], handed: &Handed<'_>) -> Result<Verdict, JournalError> {
        let situation = Situation {
            root,
            workspace_id: self.settings.workspace_id,
            droplet_id: &self.settings.droplet_id,
            labels: &self.settings.labels,
            now: self.world.clock().now(),
            time_floor: self.journal.time_floor()?,
        };
        let mut looked_up = Ok(None);
        let verdict = admit(bytes, handed, &situation, |id| {
            looked_up = self.journal.seen(id);
            looked_up.as_ref().ok().copied().flatten()
        });
        // A journal that cannot say whether it has seen a bundle must not let it pass.
        looked_up.map(|_| verdict)
    }

    /// A bundle that was accepted before, and of which the journal cannot tell any more how it ended: it does not run
    /// again, and somebody must look. Other bundles go on.
    fn give_up(&self, leased: &LeasedCommand, error: &JournalError) -> Result<(), Fatal> {
        tracing::error!(job = %leased.job_id, code = error.code(), "{}", Chain(error));
        let now = self.world.clock().now();
        let mut result = CommandResult {
            job_id: leased.job_id,
            bundle_id: Bundle::reread(leased.bundle.as_bytes()).ok().map(|bundle| bundle.id),
            state: OutcomeState::Stuck,
            code: error.code().to_owned(),
            message: format!(
                "{}; the bundle was accepted before and is not run again, look at what it left in n8n",
                Chain(error)
            ),
            retryable: false,
            started_at: now,
            finished_at: now,
            steps: vec![],
            output: serde_json::Value::Array(vec![]),
        };
        fit(&mut result);
        self.journal.report(&Record::Result(result), now)?;
        self.mail.notify_one();
        Ok(())
    }

    /// A refusal as the result that it is.
    pub(super) fn refused(&self, job_id: JobId, refusal: &Refusal) -> CommandResult {
        let now = self.world.clock().now();
        tracing::warn!(job = %job_id, rule = refusal.rule.code(), "refused: {}", refusal.why);
        let mut result = CommandResult {
            job_id,
            bundle_id: refusal.bundle_id,
            state: OutcomeState::Rejected,
            code: refusal.rule.code().to_owned(),
            message: refusal.why.clone(),
            // A clock that is wrong may be right when the bundle is signed anew.
            retryable: matches!(refusal.rule, Rule::A8Time | Rule::A11Delivery),
            started_at: now,
            finished_at: now,
            steps: vec![],
            output: serde_json::Value::Array(vec![]),
        };
        fit(&mut result);
        result
    }
}

/// Looks only, or one that changes something.
pub(super) fn lane(mut actions: impl Iterator<Item = Action>) -> Lane {
    if actions.all(|action| action.class() == Class::Read) { Lane::Look } else { Lane::Change }
}
