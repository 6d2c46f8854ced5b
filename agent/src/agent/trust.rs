//! Keeps the trust root up to date: every root that follows the pinned one is verified by the one before it, kept, and
//! only then used.

use genesis_shared::audit::{Note, event};
use genesis_shared::chain::Chain;
use genesis_shared::id::Digest;
use genesis_shared::limits::TRUST_ROOTS_MAX;
use genesis_shared::report::{Event, Record};
use genesis_shared::secret::Secret;
use genesis_shared::trust::{TrustError, TrustRoot};
use serde_json::json;

use super::{Agent, Fatal};
use crate::journal::{Journal, JournalError};
use crate::ports::{Clock, EffectError, ErrorKind, HubLink, World};

/// Key of the journal's single value that holds the chain, from the pinned root on.
const META_TRUST_CHAIN: &str = "trust_chain";

/// Key under which older agents kept the one root that they had.
const META_TRUST_ROOT: &str = "trust_root";

/// Code of a root that is not given.
const WITHHELD: &str = "trust_root_withheld";

/// Characters of a refusal that are reported: a name and a number or two.
const REFUSAL_CHARS_MAX: usize = 500;

/// The documents that the journal holds; each was verified before it was kept.
pub(super) fn kept_chain(journal: &Journal) -> Result<Vec<String>, JournalError> {
    let kept = journal.meta(META_TRUST_CHAIN)?;
    if let Some(chain) = kept.and_then(|bytes| serde_json::from_slice(&bytes).ok()) {
        return Ok(chain);
    }
    // What cannot be read is as good as nothing: enrolling again brings it back.
    let first = journal.meta(META_TRUST_ROOT)?.and_then(|bytes| String::from_utf8(bytes).ok());
    Ok(first.into_iter().collect())
}

/// The latest root of a chain.
pub(super) fn latest(documents: &[String], pinned: Digest) -> Result<Option<TrustRoot>, TrustError> {
    if documents.is_empty() {
        return Ok(None);
    }
    let documents: Vec<&[u8]> = documents.iter().map(String::as_bytes).collect();
    Ok(TrustRoot::verify_chain(&documents, pinned)?.pop().map(|(_, root)| root))
}

impl<W: World> Agent<W> {
    /// Takes in a chain that the hub gave with a handshake. An older one than there is changes nothing.
    pub(super) fn adopt_chain(&self, documents: &[String]) -> Result<Result<(), EffectError>, Fatal> {
        let documents: Vec<&[u8]> = documents.iter().map(String::as_bytes).collect();
        if documents.is_empty() {
            return Ok(Err(self.tell_of_root(WITHHELD, WITHHELD, "the hub gave no trust root; push it there")?));
        }
        let chain = match TrustRoot::verify_chain(&documents, self.pinned_root()) {
            Ok(chain) => chain,
            Err(error) => return Ok(Err(self.refuse_root(&error)?)),
        };
        let newest = chain.last().map_or(0, |(_, root)| root.version);
        if self.root.borrow().as_ref().is_some_and(|root| root.version >= newest) {
            return Ok(Ok(()));
        }
        let texts: Vec<String> = chain.iter().map(|(bytes, _)| String::from_utf8_lossy(bytes).into_owned()).collect();
        if let Some((bytes, root)) = chain.last() {
            self.keep_chain(&texts, root.version, bytes)?;
        }
        self.root.replace(chain.into_iter().next_back().map(|(_, root)| root));
        Ok(Ok(()))
    }

    /// Fetches what is newer than the root there is, if the hub says that there is something. `Err` means: admit
    /// nothing now, for a key of it may have been revoked.
    pub(super) async fn catch_up_trust(
        &self,
        token: &Secret<String>,
        version: u64,
    ) -> Result<Result<(), EffectError>, Fatal> {
        let Some(mut current) = self.root.borrow().clone() else { return Ok(Ok(())) };
        if version <= current.version {
            return Ok(Ok(()));
        }
        let newer = match self.world.hub().trust_roots(token, current.version).await {
            Ok(answer) => answer.trust_root,
            Err(error) => return Ok(Err(error)),
        };
        let mut documents = kept_chain(&self.journal)?;
        for document in newer.into_iter().take(TRUST_ROOTS_MAX) {
            match current.verify_successor(document.as_bytes()) {
                Ok(next) => current = next.into_inner(),
                Err(error) => return Ok(Err(self.refuse_root(&error)?)),
            }
            documents.push(document);
            let newest = documents.last().map_or(&[][..], |text| text.as_bytes());
            self.keep_chain(&documents, current.version, newest)?;
            tracing::info!(version = current.version, "a newer trust root is in force");
            self.root.replace(Some(current.clone()));
        }
        if current.version < version {
            let why = format!("the hub speaks of version {version} and gives up to {}", current.version);
            return Ok(Err(self.tell_of_root(WITHHELD, WITHHELD, &why)?));
        }
        Ok(Ok(()))
    }

    /// Tells of a root that is refused, once while the hub insists on it.
    fn refuse_root(&self, error: &TrustError) -> Result<EffectError, JournalError> {
        self.tell_of_root(error.code(), error.rule(), &Chain(error).to_string())
    }

    fn tell_of_root(&self, code: &str, rule: &str, why: &str) -> Result<EffectError, JournalError> {
        // What a stranger wrote may be of any length.
        let why: String = why.chars().take(REFUSAL_CHARS_MAX).collect();
        tracing::warn!(code, "the hub gave a trust root that is refused: {why}");
        if self.refused_root.replace(why.clone()) != why {
            let after = self.root.borrow().as_ref().map_or(0, |root| root.version);
            let note =
                Note::new(event::TRUST_ROOT_REFUSED, json!({"rule": rule, "code": code, "after_version": after}));
            let event = Event { code: code.to_owned(), message: why.clone() };
            self.journal.report_noted(&Record::Event(event), &[note], self.world.clock().now())?;
            self.mail.notify_one();
        }
        Ok(refused(&why))
    }

    fn keep_chain(&self, documents: &[String], version: u64, newest: &[u8]) -> Result<(), JournalError> {
        let bytes = serde_json::to_vec(documents).expect("a list of texts has a JSON form");
        let note = Note::new(event::TRUST_ROOT_CHANGED, json!({"version": version, "document": Digest::of(newest)}));
        self.journal.set_meta_noted(META_TRUST_CHAIN, &bytes, &[note], self.world.clock().now())
    }
}

fn refused(why: &str) -> EffectError {
    EffectError::new(ErrorKind::Permanent, "trust_root_refused", why)
}
