//! The audit chain: entries of which each carries the digest of the one before it, and signed checkpoints of where it is.
//!
//! | what | is |
//! |---|---|
//! | hash of an entry | SHA-256 of `genesis-audit-v1\n{seq}\n{at}\n{event}\n{detail}\n{prev}`: the number in decimal, the time in RFC 3339, the detail's exact bytes, the digest as it is written |
//! | `prev` of the first entry | SHA-256 of `genesis-audit-v1\n{chain}`, so that no chain passes for another |
//! | chain | `droplet/{workspace}/{droplet}` of an agent, `hub/{id}` of a hub |
//!
//! Only the detail may hold anything; the lines before and after it cannot hold a line end, so one text has one reading.
//!
//! **What it shows.** Alone: that no entry was changed, deleted, inserted or moved after it was written, except by one
//! who rewrote everything after it. With a checkpoint that somebody else kept: that not even he did, up to there. What
//! was written after the last checkpoint is only as good as its keeper.
//!
//! An agent that has lost its journal starts anew with [`event::CHAIN_STARTED`]: a new *run*, which a forger could also
//! begin. It is a break, unless whoever verifies knows of the loss and says so with [`Expected::runs`].

use std::fmt;

use data_encoding::BASE64URL_NOPAD;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::id::{Digest, DropletId, KeyId, PublicKey, WorkspaceId};
use crate::jws::{self, Document, Jws, JwsError};
use crate::limits::{AUDIT_DETAIL_BYTES_MAX, CHECKPOINT_BYTES_MAX};
use crate::timestamp::Timestamp;

/// JOSE `typ` of a signed checkpoint.
pub const CHECKPOINT_TYP: &str = "genesis-checkpoint+json";

/// First line of everything that is hashed here.
const FORM: &str = "genesis-audit-v1";

/// Names of what is noted; those of the specification (63.1.2) where it has one.
pub mod event {
    /// The chain begins, or begins anew after its journal was lost.
    pub const CHAIN_STARTED: &str = "CHAIN_STARTED";
    /// The host was started anew.
    pub const DROPLET_REBOOTED: &str = "DROPLET_REBOOTED";
    /// A bundle passed every rule.
    pub const COMMAND_ACCEPTED: &str = "COMMAND_ACCEPTED";
    /// A bundle was refused; the detail names the rule.
    pub const COMMAND_REFUSED: &str = "COMMAND_REFUSED";
    /// All of it happened.
    pub const COMMAND_SUCCEEDED: &str = "COMMAND_SUCCEEDED";
    /// None of it remains.
    pub const COMMAND_FAILED: &str = "COMMAND_FAILED";
    /// Its time ran out before it began.
    pub const COMMAND_EXPIRED: &str = "COMMAND_EXPIRED";
    /// Neither finished nor undone.
    pub const COMMAND_STUCK: &str = "COMMAND_STUCK";
    /// An accepted bundle is on its way under a support grant.
    pub const SUPPORT_ACTION_TAKEN: &str = "SUPPORT_ACTION_TAKEN";
    /// Steps of a bundle were taken back.
    pub const ROLLBACK_EXECUTED: &str = "ROLLBACK_EXECUTED";
    /// A bundle of the ignition queue was accepted.
    pub const IGNITION_STARTED: &str = "IGNITION_STARTED";
    /// See [`IGNITION_STARTED`].
    pub const IGNITION_COMPLETED: &str = "IGNITION_COMPLETED";
    /// See [`IGNITION_STARTED`].
    pub const IGNITION_FAILED: &str = "IGNITION_FAILED";
    /// Credentials by name.
    pub const CREDENTIAL_CREATED: &str = "CREDENTIAL_CREATED";
    /// Credentials by name.
    pub const CREDENTIAL_ROTATED: &str = "CREDENTIAL_ROTATED";
    /// Credentials by name.
    pub const CREDENTIAL_DELETED: &str = "CREDENTIAL_DELETED";
    /// Workflows by key.
    pub const WORKFLOW_DEPLOYED: &str = "WORKFLOW_DEPLOYED";
    /// Workflows by key.
    pub const WORKFLOW_UPDATED: &str = "WORKFLOW_UPDATED";
    /// Workflows by key.
    pub const WORKFLOW_ACTIVATED: &str = "WORKFLOW_ACTIVATED";
    /// Workflows by key.
    pub const WORKFLOW_DEACTIVATED: &str = "WORKFLOW_DEACTIVATED";
    /// Workflows by key; the specification has no name for it.
    pub const WORKFLOW_DELETED: &str = "WORKFLOW_DELETED";
    /// A newer trust root, or the first, is in force on the droplet.
    pub const TRUST_ROOT_CHANGED: &str = "TRUST_ROOT_CHANGED";
    /// The hub gave a trust root that does not follow; the droplet keeps its own.
    pub const TRUST_ROOT_REFUSED: &str = "TRUST_ROOT_REFUSED";
    /// The droplet has its place at the hub.
    pub const DROPLET_ENROLLED: &str = "DROPLET_ENROLLED";
    /// What differed from what was deployed was put right.
    pub const DRIFT_REPAIRED: &str = "DRIFT_REPAIRED";
    /// So much differed that nothing was repaired.
    pub const DRIFT_TOO_MUCH: &str = "DRIFT_TOO_MUCH";
    /// The hub takes the droplet for a restored snapshot or a clone: it changes nothing.
    pub const DROPLET_QUARANTINED: &str = "DROPLET_QUARANTINED";
    /// The end of it: on the droplet the hub's word, at the hub an operator's, with the reason.
    pub const DROPLET_RESUMED: &str = "DROPLET_RESUMED";
    /// The stack's secrets were sealed to the recovery key and given to the hub; the specification has no name for it.
    pub const SECRETS_DEPOSITED: &str = "SECRETS_DEPOSITED";
    /// An operator took a droplet's deposit out of the hub. Only the recovery key opens it.
    pub const CREDENTIAL_ACCESSED: &str = "CREDENTIAL_ACCESSED";
    /// Rows of the journal cannot be read.
    pub const JOURNAL_DAMAGED: &str = "JOURNAL_DAMAGED";
    /// A checkpoint of the hub contradicts an earlier one: it has rewritten or cut its chain.
    pub const HUB_AUDIT_FORKED: &str = "HUB_AUDIT_FORKED";
    /// A droplet was registered at the hub.
    pub const DROPLET_CREATED: &str = "DROPLET_CREATED";
    /// A token for a handshake was handed out.
    pub const PROVISIONING_TOKEN_ISSUED: &str = "PROVISIONING_TOKEN_ISSUED";
    /// An API token was made.
    pub const TOKEN_CREATED: &str = "TOKEN_CREATED";
    /// An API token was ended.
    pub const TOKEN_REVOKED: &str = "TOKEN_REVOKED";
    /// The hub stored a trust root.
    pub const TRUST_ROOT_STORED: &str = "TRUST_ROOT_STORED";
    /// The hub queued a bundle.
    pub const BUNDLE_PUSHED: &str = "BUNDLE_PUSHED";
    /// An operator withdrew a job.
    pub const JOB_CANCELLED: &str = "JOB_CANCELLED";
    /// An operator queued a dead letter again.
    pub const JOB_REQUEUED: &str = "JOB_REQUEUED";
    /// An operator changed how much is delivered at once.
    pub const LIMITS_SET: &str = "LIMITS_SET";
    /// An operator paused, resumed or aborted a rollout.
    pub const ROLLOUT_STEERED: &str = "ROLLOUT_STEERED";
    /// An operator said what a droplet is doing.
    pub const LIFECYCLE_SET: &str = "LIFECYCLE_SET";
    /// Requests without a good credential, counted.
    pub const LOGIN_FAILED: &str = "LOGIN_FAILED";
    /// Requests with a good credential that does not reach so far, counted.
    pub const PERMISSION_DENIED: &str = "PERMISSION_DENIED";
    /// Something that an attack would leave behind.
    pub const SUSPICIOUS_ACTIVITY: &str = "SUSPICIOUS_ACTIVITY";
}

/// Something to be noted. Its detail has ids, codes and counts, never a secret.
#[derive(Clone, Debug, PartialEq)]
pub struct Note {
    /// One of [`event`].
    pub event: &'static str,
    /// A small JSON object.
    pub detail: Value,
}

impl Note {
    /// A note.
    pub fn new(event: &'static str, detail: Value) -> Self {
        Self { event, detail }
    }
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// From 1, without a gap.
    pub seq: u64,
    /// When it was written, by the clock of whoever wrote it.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = "date-time"))]
    pub at: Timestamp,
    /// What happened, in capitals, for example `COMMAND_ACCEPTED`.
    pub event: String,
    /// A JSON object as text: these very bytes are hashed.
    pub detail: String,
    /// Hash of the entry before, or of the chain's name.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub prev: Digest,
    /// Hash of this entry.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub hash: Digest,
}

impl Entry {
    /// The entry that follows `last`, or the first of `chain`.
    pub fn next(chain: &str, last: Option<Link>, note: &Note, at: Timestamp) -> Self {
        let mut detail = note.detail.to_string();
        if detail.len() > AUDIT_DETAIL_BYTES_MAX {
            detail = serde_json::json!({"cut": detail.len(), "digest": Digest::of(detail.as_bytes())}).to_string();
        }
        let (seq, prev) = last.map_or_else(|| (1, genesis(chain)), |last| (last.seq + 1, last.hash));
        let mut entry = Self { seq, at, event: note.event.to_owned(), detail, prev, hash: prev };
        entry.hash = entry.digest();
        entry
    }

    /// What `hash` must be.
    pub fn digest(&self) -> Digest {
        let Self { seq, at, event, detail, prev, hash: _ } = self;
        Digest::of(format!("{FORM}\n{seq}\n{at}\n{event}\n{detail}\n{prev}").as_bytes())
    }

    /// Where the chain is with it.
    pub fn link(&self) -> Link {
        Link { seq: self.seq, hash: self.hash }
    }

    fn is_well_formed(&self) -> bool {
        let event = self.event.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_');
        event && !self.event.is_empty() && self.digest() == self.hash
    }
}

/// Where a chain is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Number of the last entry.
    pub seq: u64,
    /// Its hash.
    pub hash: Digest,
}

/// `prev` of a chain's first entry.
pub fn genesis(chain: &str) -> Digest {
    Digest::of(format!("{FORM}\n{chain}").as_bytes())
}

/// Name of a droplet's chain.
pub fn droplet_chain(workspace: WorkspaceId, droplet: &DropletId) -> String {
    format!("droplet/{workspace}/{droplet}")
}

/// The signed statement of where a chain is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checkpoint {
    /// The chain's name.
    pub chain: String,
    /// Number of the last entry.
    pub seq: u64,
    /// Its hash.
    pub hash: Digest,
    /// When it was signed.
    pub at: Timestamp,
}

impl Document for Checkpoint {}

impl Checkpoint {
    /// The signed text; `sign` gives the Ed25519 signature of its argument in base64url without padding.
    ///
    /// # Errors
    /// Those of `sign`.
    pub fn sign<E>(&self, kid: &KeyId, sign: impl FnOnce(&[u8]) -> Result<String, E>) -> Result<String, E> {
        let encode = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
        let protected = encode(&serde_json::json!({"alg": "EdDSA", "kid": kid, "typ": CHECKPOINT_TYP}));
        let payload = encode(&serde_json::to_value(self).expect("numbers and texts have a JSON form"));
        let signature = sign(&jws::signing_input(&protected, &payload))?;
        Ok(serde_json::json!({"payload": payload, "protected": protected, "signature": signature}).to_string())
    }

    /// Verifies a signed text.
    ///
    /// # Errors
    /// Every [`JwsError`].
    pub fn verify(text: &[u8], key_of: impl FnMut(&KeyId) -> Option<PublicKey>) -> Result<Self, JwsError> {
        Ok(Jws::parse(text, CHECKPOINT_TYP, CHECKPOINT_BYTES_MAX)?.verify::<Self>(key_of)?.into_inner())
    }

    /// Reads a signed text whose key is not at hand; it shows what somebody says, not who.
    ///
    /// # Errors
    /// It is no checkpoint.
    pub fn read_unverified(text: &[u8]) -> Result<Self, JwsError> {
        Jws::parse(text, CHECKPOINT_TYP, CHECKPOINT_BYTES_MAX)?.unverified()
    }

    /// Whether one keeper's chain cannot have been both here and, `later`, there. A longer chain need not be a
    /// continuation; that shows when its entries are verified against this.
    pub fn contradicts(&self, later: &Self) -> bool {
        self.chain != later.chain || later.seq < self.seq || (later.seq == self.seq && later.hash != self.hash)
    }
}

/// A line of an exported chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Line {
    /// The first: the chain's name.
    Chain(String),
    /// An entry, in the order in which they are kept.
    Entry(Entry),
    /// A signed checkpoint, of this chain or another.
    Checkpoint(String),
}

/// What is wrong with a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// An entry is not as it was written.
    Changed,
    /// An entry does not follow the one before it: one of the two was put in another's place.
    Unlinked,
    /// An entry is not there.
    Deleted,
    /// An entry stands later than it should.
    Moved,
    /// An entry has a number that was there already.
    Inserted,
    /// The chain begins anew: the droplet lost its journal, or somebody forged a beginning.
    Restarted,
    /// A checkpoint has another hash for it: the chain was rewritten there or before.
    Rewritten,
    /// A checkpoint knows of it, and the chain ends before.
    Truncated,
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Changed => "was changed",
            Self::Unlinked => "does not follow the one before it; one of the two was exchanged",
            Self::Deleted => "was deleted",
            Self::Moved => "was moved to a later place",
            Self::Inserted => "was inserted; there is one of that number before it",
            Self::Restarted => "begins the chain anew; if the droplet did lose its journal, allow for one more run",
            Self::Rewritten => "is not the one that a checkpoint names; the chain was rewritten there or before",
            Self::Truncated => "is known to a checkpoint, and the chain ends before it",
        })
    }
}

/// Where a chain is broken, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("entry {at_seq} {what}")]
pub struct Broken {
    /// Which entry.
    pub at_seq: u64,
    /// What is wrong.
    pub what: What,
}

/// A chain that holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Head {
    /// Number of the last entry; 0 of an empty chain.
    pub seq: u64,
    /// Its hash.
    pub hash: Digest,
    /// Entries in all runs.
    pub entries: u64,
    /// How often the chain began; 0 where the beginning was pruned.
    pub runs: u64,
    /// The highest entry that a checkpoint vouches for.
    pub confirmed: Option<u64>,
}

/// What the verifier knows of a chain beforehand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected {
    /// The beginning may be missing: its keeper has pruned what it delivered.
    pub pruned: bool,
    /// How often the chain may begin: once, and once more for each time that the droplet lost its journal.
    pub runs: u64,
}

impl Expected {
    /// From the first entry on, in one run.
    pub const WHOLE: Self = Self { pruned: false, runs: 1 };
}

/// Verifies a chain against itself and against checkpoints of it, in one pass and in constant memory.
///
/// # Errors
/// The first thing that is wrong.
pub fn verify(
    chain: &str,
    expected: Expected,
    entries: impl IntoIterator<Item = Entry>,
    checkpoints: &[Checkpoint],
) -> Result<Head, Broken> {
    let mut walk = Walk::new(chain, expected, checkpoints);
    let mut entries = entries.into_iter();
    while let Some(entry) = entries.next() {
        if let Err(broken) = walk.step(&entry) {
            let moved = broken.what == What::Deleted && entries.any(|other| other.seq == broken.at_seq);
            return Err(if moved { Broken { what: What::Moved, ..broken } } else { broken });
        }
    }
    walk.end()
}

/// How far a verification has come.
struct Walk {
    expected: Expected,
    genesis: Digest,
    known: Vec<Known>,
    first: Option<u64>,
    last: Option<Link>,
    entries: u64,
    starts: Vec<Digest>,
}

/// A checkpoint, and whether an entry of its number was met, and that very one.
struct Known {
    link: Link,
    reached: bool,
    met: bool,
}

impl Walk {
    fn new(chain: &str, expected: Expected, checkpoints: &[Checkpoint]) -> Self {
        let known = checkpoints.iter().filter(|checkpoint| checkpoint.chain == chain);
        let known = known.map(|c| Known { link: Link { seq: c.seq, hash: c.hash }, reached: false, met: false });
        let (genesis, known) = (genesis(chain), known.collect());
        Self { expected, genesis, known, first: None, last: None, entries: 0, starts: vec![] }
    }

    fn step(&mut self, entry: &Entry) -> Result<(), Broken> {
        let broken = |at_seq, what| Err(Broken { at_seq, what });
        let pruned = self.expected.pruned && self.last.is_none();
        let expected = self.last.map_or(1, |last| last.seq.saturating_add(1));
        if !entry.is_well_formed() {
            return broken(if pruned { entry.seq } else { expected }, What::Changed);
        }
        if entry.seq == 1 && entry.prev == self.genesis && entry.event == event::CHAIN_STARTED {
            if self.starts.contains(&entry.hash) {
                return broken(1, What::Inserted);
            }
            if self.last.is_some() && u64::try_from(self.starts.len()).is_ok_and(|runs| runs >= self.expected.runs) {
                return broken(1, What::Restarted);
            }
            self.starts.push(entry.hash);
        } else if !pruned && entry.seq > expected {
            return broken(expected, What::Deleted);
        } else if !pruned && entry.seq < expected {
            return broken(entry.seq, What::Inserted);
        } else if self.last.is_some_and(|last| last.hash != entry.prev) || entry.seq <= 1 {
            return broken(entry.seq, What::Unlinked);
        }
        for known in self.known.iter_mut().filter(|known| known.link.seq == entry.seq) {
            known.reached = true;
            known.met |= known.link.hash == entry.hash;
        }
        self.first = self.first.or(Some(entry.seq));
        self.last = Some(entry.link());
        self.entries += 1;
        Ok(())
    }

    fn end(mut self) -> Result<Head, Broken> {
        let first = self.first.unwrap_or(1);
        // One that lies before a pruned chain's beginning can be neither met nor missed.
        self.known.retain(|known| known.link.seq >= first);
        self.known.sort_by_key(|known| known.link.seq);
        if let Some(missed) = self.known.iter().find(|known| !known.met) {
            let what = if missed.reached { What::Rewritten } else { What::Truncated };
            return Err(Broken { at_seq: missed.link.seq, what });
        }
        let Link { seq, hash } = self.last.unwrap_or(Link { seq: 0, hash: self.genesis });
        let confirmed = self.known.last().map(|known| known.link.seq);
        let runs = u64::try_from(self.starts.len()).unwrap_or(u64::MAX);
        Ok(Head { seq, hash, entries: self.entries, runs, confirmed })
    }
}

#[cfg(test)]
#[path = "audit_tests.rs"]
mod tests;
