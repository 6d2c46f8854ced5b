//! The droplet's side of mutual witness: its own checkpoint goes out with each heartbeat, and the hub's are kept here, so
//! that a hub that rewrites its chain is found out by whoever compares.

use genesis_shared::audit::{Checkpoint, Line, Note, event};
use genesis_shared::chain::Chain;
use genesis_shared::id::KeyId;
use genesis_shared::limits::CHECKPOINTS_KEPT;
use serde_json::json;

use super::{Agent, Fatal};
use crate::journal::{Journal, JournalError};
use crate::ports::{Clock, World};

/// Single value: the hub's checkpoints as signed, oldest first.
const META_HUB_CHECKPOINTS: &str = "hub_checkpoints";

/// Name of the identity key in a checkpoint.
const KID: &str = "identity";

/// Entries that are read at once.
const PAGE: usize = 200;

impl<W: World> Agent<W> {
    /// Where the chain is, signed; `None` before its first entry.
    pub(super) fn checkpoint(&self) -> Result<Option<String>, JournalError> {
        let Some(head) = self.journal.audit_head()? else { return Ok(None) };
        let chain = self.journal.audit_chain().to_owned();
        let checkpoint = Checkpoint { chain, seq: head.seq, hash: head.hash, at: self.world.clock().now() };
        let kid: KeyId = KID.parse().expect("a key id");
        let sign = |bytes: &[u8]| Ok::<_, JournalError>(self.identity.sign(bytes));
        checkpoint.sign(&kid, sign).map(Some)
    }

    /// Keeps a checkpoint of the hub's chain. One that cannot follow those before it is kept too, and noted: it is the
    /// evidence.
    pub(super) fn hold_against_hub(&self, text: String) -> Result<(), Fatal> {
        // Neither a full disk nor a hub that takes no reports is a reason to fill the journal; the next heartbeat
        // brings a later checkpoint.
        if self.has_space().and(self.is_heard()?).is_err() {
            return Ok(());
        }
        let root = self.root.borrow();
        let Some(root) = root.as_ref() else { return Ok(()) };
        let new = match Checkpoint::verify(text.as_bytes(), |kid| root.delivery_key(kid)) {
            Ok(new) => new,
            Err(error) => {
                tracing::warn!(code = "hub_checkpoint_refused", "{}", Chain(&error));
                return Ok(());
            }
        };
        let mut kept = hub_checkpoints(&self.journal)?;
        let last = kept.last().and_then(|text| Checkpoint::read_unverified(text.as_bytes()).ok());
        let mut notes = vec![];
        if let Some(last) = last {
            if (&last.chain, last.seq, last.hash) == (&new.chain, new.seq, new.hash) {
                return Ok(());
            }
            if last.contradicts(&new) {
                let code = event::HUB_AUDIT_FORKED;
                tracing::error!(code, before = last.seq, now = new.seq, "the hub has cut or rewritten its audit chain");
                let (before, now) = ((&last.chain, last.seq, last.hash), (&new.chain, new.seq, new.hash));
                notes.push(Note::new(code, json!({"before": before, "now": now})));
            }
        }
        kept.push(text);
        // The first stays: it reaches furthest back.
        while kept.len() > CHECKPOINTS_KEPT {
            kept.remove(1);
        }
        let bytes = serde_json::to_vec(&kept).expect("a list of texts has a JSON form");
        self.journal.set_meta_noted(META_HUB_CHECKPOINTS, &bytes, &notes, self.world.clock().now())?;
        if !notes.is_empty() {
            self.mail.notify_one();
        }
        Ok(())
    }

    /// The chain as far as it is here, the hub's checkpoints, and one of its own: what somebody compares with what the
    /// hub says. `after` is where the part before ended.
    ///
    /// # Errors
    /// The journal failed.
    pub fn audit_lines(&self, after: i64) -> Result<(Vec<Line>, Option<i64>), Fatal> {
        let mut lines = vec![];
        if after == 0 {
            lines.push(Line::Chain(self.journal.audit_chain().to_owned()));
        }
        let entries = self.journal.audit_entries(after, PAGE)?;
        let last = entries.last().map(|(number, _)| *number);
        lines.extend(entries.into_iter().map(|(_, entry)| Line::Entry(entry)));
        if last.is_none() {
            lines.extend(hub_checkpoints(&self.journal)?.into_iter().map(Line::Checkpoint));
            lines.extend(self.checkpoint()?.map(Line::Checkpoint));
        }
        Ok((lines, last))
    }

    /// The droplet's identity key, which signs its checkpoints.
    pub fn identity_key(&self) -> genesis_shared::id::PublicKey {
        self.identity.public()
    }
}

/// The hub's checkpoints that are kept here; each was verified before.
fn hub_checkpoints(journal: &Journal) -> Result<Vec<String>, JournalError> {
    let kept = journal.meta(META_HUB_CHECKPOINTS)?;
    Ok(kept.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default())
}
