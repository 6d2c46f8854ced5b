//! The droplet's audit chain: written in the transaction of what it tells of, delivered through the outbox, and pruned
//! behind its head.
//!
//! The head stays among the single values, so that the chain goes on whatever was pruned. Where there is none (a fresh
//! journal, one that was lost, one of an agent without a chain) the first note begins the chain, and says so.

use genesis_shared::audit::{Entry, Link, Note, event};
use genesis_shared::limits::{AUDIT_ENTRIES_KEPT, AUDIT_PRUNE_ROWS};
use genesis_shared::report::Record;
use genesis_shared::timestamp::Timestamp;
use serde_json::json;

use super::outbox::{Parcel, push};
use super::{Connection, Encoding, Journal, OptionalExtension, Outcome, Result, Transaction, params, record, set_meta};

/// Single value: number and hash of the last entry.
const META_HEAD: &str = "audit_head";
/// Single value: the start of the host that the last entry was written in.
const META_BOOT: &str = "audit_boot";

/// Whose chain it is.
#[derive(Clone, Debug, Default)]
pub(super) struct Owner {
    chain: String,
    boot_epoch: String,
}

impl Journal {
    /// Says whose chain this is, and in which start of the host it goes on. Nothing is written before the next note.
    pub fn own_audit(&mut self, chain: String, boot_epoch: String) {
        self.owner = Owner { chain, boot_epoch };
    }

    /// The chain's name.
    pub fn audit_chain(&self) -> &str {
        &self.owner.chain
    }

    /// Where the chain is; `None` before its first entry.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn audit_head(&self) -> Result<Option<Link>> {
        Ok(self.meta(META_HEAD)?.and_then(|bytes| head(&bytes)))
    }

    /// Notes something that nothing else in the journal goes with.
    ///
    /// # Errors
    /// Nothing was noted.
    pub fn note(&self, note: Note, now: Timestamp) -> Result<()> {
        self.write(|tx| note_all(tx, &self.owner, now, &[note]))
    }

    /// Keeps a single value, and notes what it stands for.
    ///
    /// # Errors
    /// The old value is still there, and nothing was noted.
    pub fn set_meta_noted(&self, key: &str, value: &[u8], notes: &[Note], now: Timestamp) -> Result<()> {
        self.write(|tx| {
            set_meta(tx, key, value)?;
            note_all(tx, &self.owner, now, notes)
        })
    }

    /// Entries that are still here, oldest first, after this number of their row; each with its own.
    ///
    /// # Errors
    /// The journal cannot be read. Damaged rows are left out: the chain shows that they are missing.
    pub fn audit_entries(&self, after: i64, limit: usize) -> Result<Vec<(i64, Entry)>> {
        let rows: Vec<(i64, Vec<u8>)> = self.read(|c| {
            let mut statement =
                c.prepare_cached("SELECT number, entry FROM audit WHERE number > ? ORDER BY number LIMIT ?")?;
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let rows = statement.query_map([after, limit], |row| Ok((row.get(0)?, row.get(1)?)))?;
            rows.collect()
        })?;
        let decode = |(number, bytes): (i64, Vec<u8>)| {
            super::readable(self.decode("audit", &number, &bytes)).map(|entry| (number, entry))
        };
        Ok(rows.into_iter().filter_map(decode).collect())
    }
}

/// Writes notes at the end of the chain, and each into the outbox.
pub(super) fn note_all(tx: &Transaction<'_>, owner: &Owner, now: Timestamp, notes: &[Note]) -> Outcome<()> {
    if notes.is_empty() {
        return Ok(());
    }
    let mut last = value(tx, META_HEAD)?.and_then(|bytes| head(&bytes));
    let boot = value(tx, META_BOOT)?;
    let same_boot = boot.as_deref() == Some(owner.boot_epoch.as_bytes());
    let detail = || json!({"boot_epoch": owner.boot_epoch});
    let first = match last {
        None => Some(Note::new(event::CHAIN_STARTED, detail())),
        Some(_) if !same_boot => Some(Note::new(event::DROPLET_REBOOTED, detail())),
        Some(_) => None,
    };
    if first.is_some() {
        set_meta(tx, META_BOOT, owner.boot_epoch.as_bytes())?;
    }
    for note in first.iter().chain(notes) {
        let entry = Entry::next(&owner.chain, last, note, now);
        last = Some(entry.link());
        let kept = record::encode(&entry).map_err(unencodable)?;
        push(tx, now, &Parcel::lasting(record::encode(&Record::Audit(entry)).map_err(unencodable)?))?;
        tx.prepare_cached("INSERT INTO audit (outbox, entry) VALUES (?, ?)")?
            .execute(params![tx.last_insert_rowid(), kept])?;
    }
    let Some(Link { seq, hash }) = last else { return Ok(()) };
    set_meta(tx, META_HEAD, format!("{seq} {hash}").as_bytes())
}

fn unencodable(error: serde_json::Error) -> Encoding {
    Encoding::ToSqlConversionFailure(Box::new(error))
}

fn value(c: &Connection, key: &str) -> Outcome<Option<Vec<u8>>> {
    c.prepare_cached("SELECT value FROM meta WHERE key = ?")?.query_row([key], |row| row.get(0)).optional()
}

fn head(bytes: &[u8]) -> Option<Link> {
    let (seq, hash) = std::str::from_utf8(bytes).ok()?.split_once(' ')?;
    Some(Link { seq: seq.parse().ok()?, hash: hash.parse().ok()? })
}

/// Up to which row the chain may be forgotten now: what was delivered, but for the last ones, and a bounded part of it.
pub(super) fn prunable(c: &Connection) -> Outcome<Option<i64>> {
    let sql = "SELECT max(number) FROM (SELECT number FROM audit WHERE number <= (SELECT max(number) FROM audit) - ?1
               AND outbox < coalesce((SELECT min(seq) FROM outbox), 9223372036854775807) ORDER BY number LIMIT ?2)";
    let kept = i64::try_from(AUDIT_ENTRIES_KEPT).unwrap_or(i64::MAX);
    c.prepare_cached(sql)?.query_row([kept, AUDIT_PRUNE_ROWS], |row| row.get(0))
}
