//! Quarantine: a droplet that may be a restored snapshot or a clone changes nothing until an operator resumes it.
//!
//! The hub's word counts, for it hears every life of this identity; it is kept in the journal, so that a restart does
//! not forget it. The host's own word counts, too, where it tells which droplet it is. Looks, heartbeats and the workload
//! go on, and so does the delivery of reports once the hub takes them again. A change that has begun is brought to its
//! end: half a change is worse than a whole one.
//!
//! The hub can withhold work in any case. What it could withhold by this alone, bundles applied by hand, is had back
//! with `ignore_quarantine` in the configuration.

use genesis_shared::life::{QUARANTINE_ENDED, QUARANTINED};
use genesis_shared::mutant::Check;
use genesis_shared::report::{Event, Record};

use super::Agent;
use crate::journal::{Journal, JournalError};
use crate::ports::{Clock, EffectError, ErrorKind, Host, World};

/// Key of the journal's single value that holds the hub's word.
const META_QUARANTINE: &str = "quarantine";

/// Whether the hub's last word was that this droplet is quarantined.
pub(super) fn kept(journal: &Journal) -> Result<bool, JournalError> {
    Ok(journal.meta(META_QUARANTINE)?.is_some_and(|value| value == b"1"))
}

impl<W: World> Agent<W> {
    /// Whether this droplet may be changed now.
    pub(super) fn may_change(&self) -> Result<(), EffectError> {
        let quarantined = |message| Err(EffectError::new(ErrorKind::Transient, QUARANTINED, message));
        let mine = &self.settings.droplet_id;
        if let Some(host) = self.world.host().droplet_id().filter(|host| host != mine && Check::QHost.holds()) {
            return quarantined(format!(
                "this folder was made for droplet {mine}, and runs on {host}: nothing is changed; put it back, or remove it and enrol {host} anew"
            ));
        }
        if self.quarantined.get() && !self.settings.ignore_quarantine && Check::QHub.holds() {
            return quarantined(format!(
                "the hub takes this droplet for a restored snapshot or a clone, so nothing is changed; look with `genesisctl droplet show {mine}`, stop the machine that is not wanted, then `genesisctl droplet resume {mine} --reason …`"
            ));
        }
        Ok(())
    }

    /// Heeds the hub's word. Both changes of it are told to the hub, which takes the records when it has resumed the
    /// droplet.
    pub(super) fn note_quarantine(&self, quarantined: bool) -> Result<(), JournalError> {
        if self.quarantined.replace(quarantined) == quarantined {
            return Ok(());
        }
        self.journal.set_meta(META_QUARANTINE, if quarantined { b"1" } else { b"0" })?;
        let (code, message) = match quarantined {
            true => (QUARANTINED, "the hub has quarantined this droplet: nothing is changed until it is resumed"),
            false => (QUARANTINE_ENDED, "the hub has resumed this droplet"),
        };
        tracing::warn!(code, "{message}");
        let event = Event { code: code.to_owned(), message: message.to_owned() };
        self.journal.report(&Record::Event(event), self.world.clock().now())?;
        if !quarantined {
            // Everybody who waits for this tries again.
            self.call.notify_waiters();
            self.mail.notify_one();
            self.work.notify_one();
        }
        Ok(())
    }

    /// Heeds a refusal that says it.
    pub(super) fn note_refusal(&self, error: &EffectError) -> Result<(), JournalError> {
        if error.code == QUARANTINED { self.note_quarantine(true) } else { Ok(()) }
    }
}
