//! The memory. What it says it has, survives power loss.
//!
//! **Contract.**
//! - D1. A method that answers `Ok` has its change on disk (SQLite WAL with `synchronous=FULL`); one that answers an
//!   error has changed nothing that this process sees, and the same journal goes on once the disk works again. If the
//!   process ends instead, the next one finds all of the change or nothing: a commit whose sync failed may be there.
//! - D2. A bundle is accepted together with the outbox record that says so: the hub hears of nothing that is not here.
//! - D3. An outcome, the id map it leads to and its outbox record are one transaction.
//! - D4. The caller journals first, acts second, reports third; a journal error ends the agent, and systemd starts it
//!   again: acting without memory is the one thing it must not do.
//! - D5. Numbers of the outbox are never used twice, also after its rows were delivered and deleted.
//! - D6. It is bounded: `prune` forgets what no bundle, repair or undo can need any more (`sqlite/prune.rs` says why that
//!   is safe), and in an outbox of more than `OUTBOX_BYTES_MAX` metrics give way, then drift events, never a result.
//! - D7. What the audit chain tells of, and the entry that tells it, are one transaction (`sqlite/audit.rs`).

pub mod record;
pub mod sqlite;

use genesis_shared::id::{BundleId, Digest, JobId};
use genesis_shared::report::{CommandResult, Event as ReportedEvent};
use genesis_shared::timestamp::Timestamp;

use crate::core::plan::Plan;
use crate::core::saga::Event;
use crate::core::stack::StackRow;
use crate::core::step::{CredentialRow, Removed, WorkflowRow};

pub use sqlite::Journal;

/// Why the journal could not do something.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// No space left; nothing was changed.
    #[error("the disk with {path} is full; free some space, the agent goes on by itself after its next start")]
    Full {
        /// The journal's file.
        path: String,
        /// From SQLite.
        #[source]
        source: Box<dyn std::error::Error>,
    },
    /// The disk or SQLite failed; nothing was changed.
    #[error("cannot use the journal {path}")]
    Store {
        /// The journal's file.
        path: String,
        /// From SQLite.
        #[source]
        source: Box<dyn std::error::Error>,
    },
    /// Another process has it open.
    #[error("the journal {path} is in use by another process; is the agent's service running?")]
    InUse {
        /// The journal's file.
        path: String,
        /// From SQLite.
        #[source]
        source: Box<dyn std::error::Error>,
    },
    /// A row that cannot be read; its command is quarantined, others go on.
    #[error("the journal's {table} row {row} is damaged")]
    Damaged {
        /// Table.
        table: &'static str,
        /// Which row.
        row: String,
        /// From the decoder.
        #[source]
        source: serde_json::Error,
    },
    /// Written by a newer agent.
    #[error("the journal {path} has version {found}, this agent knows {known}; install the newer agent again")]
    Newer {
        /// The journal's file.
        path: String,
        /// Its version.
        found: i64,
        /// The newest this agent knows.
        known: i64,
    },
}

impl JournalError {
    /// Stable machine-readable name.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Full { .. } => "journal_full",
            Self::Store { .. } => "journal_unusable",
            Self::InUse { .. } => "journal_in_use",
            Self::Damaged { .. } => "journal_damaged",
            Self::Newer { .. } => "journal_newer",
        }
    }
}

/// Commands of a lane run one after the other; lanes do not wait for each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// Something is changed: one such command at a time on a droplet.
    Change,
    /// Nothing is changed.
    Look,
}

/// A bundle about to be accepted.
#[derive(Debug, Clone, Copy)]
pub struct NewCommand<'a> {
    /// Its id.
    pub bundle_id: BundleId,
    /// The hub's job; for a bundle applied by hand an id made on the droplet.
    pub job_id: JobId,
    /// The exact bytes.
    pub bundle: &'a [u8],
    /// Digest of those bytes.
    pub digest: Digest,
    /// Until when it must have begun.
    pub not_after: Timestamp,
    /// Which lane runs it.
    pub lane: Lane,
    /// The new time floor, if it is later than the present one.
    pub signed_at: Timestamp,
}

/// An accepted bundle that has no outcome yet.
#[derive(Debug, Clone, PartialEq)]
pub struct OpenCommand {
    /// The journal's number.
    pub seq: i64,
    /// The hub's job.
    pub job_id: JobId,
    /// Its id.
    pub bundle_id: BundleId,
    /// The exact bytes.
    pub bundle: Vec<u8>,
    /// Until when it must have begun.
    pub not_after: Timestamp,
    /// The plan, once made.
    pub plan: Option<Plan>,
    /// Its events in order, each with its time.
    pub events: Vec<(Timestamp, Event)>,
}

/// A command as a list of them shows it.
#[derive(Debug, Clone)]
pub struct RecentRow {
    /// The journal's number.
    pub seq: i64,
    /// When it was accepted.
    pub accepted_at: Timestamp,
    /// The hub's job.
    pub job_id: String,
    /// Its id.
    pub bundle_id: String,
    /// The exact bytes; empty once they were pruned.
    pub bundle: Vec<u8>,
    /// How it ended.
    pub outcome: Option<CommandResult>,
}

/// The id map as it will be when a command has succeeded.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MapChanges {
    /// Credentials to keep.
    pub credentials: Vec<CredentialRow>,
    /// Workflows to keep.
    pub workflows: Vec<WorkflowRow>,
    /// What is no more.
    pub removed: Vec<Removed>,
    /// The generation of the desired state, if one was applied.
    pub generation: Option<u64>,
    /// What the stack is to be, if that changes.
    pub stack: Option<StackRow>,
}

/// How a command ends.
#[derive(Debug, Clone)]
pub struct Ending<'a> {
    /// The journal's number.
    pub seq: i64,
    /// The last event, if the end comes with one.
    pub event: Option<Event>,
    /// What the hub is told.
    pub result: &'a CommandResult,
    /// What the id map gains; empty unless it succeeded.
    pub changes: MapChanges,
    /// What is worth telling beside the result.
    pub told: Option<ReportedEvent>,
}
