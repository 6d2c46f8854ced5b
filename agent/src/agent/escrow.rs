//! Deposits the stack's secrets for the recovery key: once, and again whenever the key or a secret has changed.

use genesis_shared::report::{Escrow, Record};
use genesis_shared::seal::{Context, seal};

use super::{Agent, Fatal};
use crate::journal::JournalError;
use crate::ports::{Clock, Entropy, World};

/// Key of the journal's single value that tells what was deposited last: the recovery key, and a keyed fingerprint.
const META_ESCROW: &str = "escrow";

impl<W: World> Agent<W> {
    /// Writes the deposit into the outbox where the last one does not hold any more.
    pub(super) fn deposit(&self) -> Result<(), Fatal> {
        let Some(recovery) = self.root.borrow().as_ref().map(|root| root.recovery.clone()) else { return Ok(()) };
        let content = self.stack.escrow();
        let mark = format!("{}\n{}", recovery.public_key, self.identity.fingerprint(&content));
        if self.journal.meta(META_ESCROW)?.as_deref() == Some(mark.as_bytes()) {
            return Ok(());
        }
        let mut ephemeral = [0; 32];
        self.world.entropy().fill(&mut ephemeral);
        let context = Context::escrow(self.settings.workspace_id, &self.settings.droplet_id);
        let sealed = match seal(recovery.public_key, &context, &content, ephemeral) {
            Ok(sealed) => sealed,
            Err(error) => {
                tracing::warn!(recovery = %recovery.kid, "nothing can be sealed to the recovery key: {error}; the secrets of this droplet are not deposited");
                return Ok(());
            }
        };
        self.note_deposit(&Record::Escrow(Escrow { recovery: recovery.kid, sealed }), &mark)?;
        tracing::info!("deposited the stack's secrets for the recovery key");
        self.mail.notify_one();
        Ok(())
    }

    /// The record first: a crash between the two deposits once more, which does no harm.
    fn note_deposit(&self, record: &Record, mark: &str) -> Result<(), JournalError> {
        self.journal.report(record, self.world.clock().now())?;
        self.journal.set_meta(META_ESCROW, mark.as_bytes())
    }
}
