//! Audit chains: the hub's own, written in the transaction of what it tells, and those of droplets as they came.
//!
//! A droplet's entry that does not follow the one before it is stored all the same, beside a security event: what was
//! said is evidence, and a refusal would block the droplet's outbox for ever.

use genesis_shared::audit::{Checkpoint, Entry, Link, Note, droplet_chain, event, genesis};
use genesis_shared::id::{Digest, DropletId, PublicKey, WorkspaceId};
use genesis_shared::limits::CHECKPOINTS_KEPT;
use genesis_shared::timestamp::Timestamp;
use serde_json::{Value, json};

use super::events::{self, NewEvent};
use super::results::{Sender, column};
use super::sqlite::{ColumnResult, Conn, OptionalExtension, Row, params, text, time};
use super::tokens::SidecarToken;
use super::{Store, StoreError};
use crate::random;

/// Code of the security event on a chain that does not hold.
const BROKEN: &str = "audit_chain_broken";

/// Code of the security event on a droplet that holds a checkpoint of this hub which contradicts a later one.
const FORKED: &str = "hub_audit_forked";

/// Events that an attack would leave behind; each is in the hub's audit too.
const SUSPICIOUS: &[&str] = &[
    BROKEN,
    FORKED,
    "renewal_replayed",
    "handshake_mismatch",
    "provisioning_token_reused",
    "foreign_job",
    "droplet_restored",
    "droplet_cloned",
    "journal_diverged",
];

/// Notes something in the hub's own chain, inside another change.
pub(super) fn note(db: &Conn, event: &'static str, detail: Value, now: Timestamp) -> Result<(), StoreError> {
    let name = match chain(db)? {
        Some(name) => name,
        None => {
            let name = format!("hub/{}", random::token());
            db.execute("INSERT INTO audit_chain (name) VALUES (?)", [&name])?;
            let begin = Note::new(event::CHAIN_STARTED, json!({"version": env!("CARGO_PKG_VERSION")}));
            insert(db, None, &Entry::next(&name, None, &begin, now))?;
            name
        }
    };
    insert(db, None, &Entry::next(&name, last(db, None)?, &Note::new(event, detail), now))
}

/// Notes an event that an attack would leave behind.
pub(super) fn note_event(db: &Conn, event: &NewEvent<'_>, now: Timestamp) -> Result<(), StoreError> {
    if !SUSPICIOUS.contains(&event.code) {
        return Ok(());
    }
    let detail = json!({"code": event.code, "droplet": event.droplet, "job": event.job});
    note(db, event::SUSPICIOUS_ACTIVITY, detail, now)
}

/// Stores an entry of a droplet's chain, and says so where it does not follow.
pub(super) fn append(db: &Conn, sender: &Sender, entry: &Entry, now: Timestamp) -> Result<(), StoreError> {
    let last = last(db, Some(&sender.droplet))?;
    let begin = genesis(&droplet_chain(sender.workspace, &sender.droplet));
    let (seq, prev) = last.map_or((1, begin), |last| (last.seq.saturating_add(1), last.hash));
    let why = if entry.digest() != entry.hash {
        Some("is not what its hash says")
    } else if is_contradicted(db, &sender.droplet, entry)? {
        Some("is not the one that a checkpoint of the droplet named before")
    } else if (entry.seq, entry.prev) == (seq, prev) {
        None
    } else if entry.seq == 1 && entry.event == event::CHAIN_STARTED {
        Some("begins the chain anew: the droplet has lost its journal, or another machine has its identity")
    } else {
        Some("does not follow the last one here: one of the two sides was set back, or rewrote its chain")
    };
    if let Some(why) = why {
        broken(db, &sender.droplet, &format!("entry {} of the droplet's audit chain {why}", entry.seq), now)?;
    }
    if entry.event == event::HUB_AUDIT_FORKED {
        let message = "the droplet holds two checkpoints of this hub that cannot both be true: the hub was restored \
                       from an older copy, or somebody rewrote its audit chain";
        let event = NewEvent { code: FORKED, message, droplet: Some(&sender.droplet), job: None };
        events::insert(db, &event, now)?;
    }
    insert(db, Some(&sender.droplet), entry)
}

fn broken(db: &Conn, droplet: &DropletId, message: &str, now: Timestamp) -> Result<(), StoreError> {
    events::insert(db, &NewEvent { code: BROKEN, message, droplet: Some(droplet), job: None }, now)
}

/// Whether the droplet has signed another entry of that number before it delivered this one.
fn is_contradicted(db: &Conn, droplet: &DropletId, entry: &Entry) -> Result<bool, StoreError> {
    let sql = "SELECT hash FROM audit_checkpoint WHERE droplet_id = ? AND seq = ? ORDER BY number DESC LIMIT 1";
    let key = params![droplet.as_str(), column(entry.seq)?];
    let held: Option<Digest> = db.prepare_cached(sql)?.query_row(key, |row| text(row, 0)).optional()?;
    Ok(held.is_some_and(|hash| hash != entry.hash))
}

/// Keeps a droplet's checkpoint if its chain has moved since the last one, and compares it with what is stored.
pub(super) fn keep_checkpoint(
    db: &Conn,
    sender: &SidecarToken,
    document: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    let droplet = &sender.droplet;
    let sql = "SELECT identity_key FROM enrolment WHERE droplet_id = ? AND number = ?";
    let key: PublicKey =
        db.prepare_cached(sql)?.query_row(params![droplet.as_str(), sender.enrolment], |row| text(row, 0))?;
    let chain = droplet_chain(sender.workspace, droplet);
    let held = match Checkpoint::verify(document.as_bytes(), |_| Some(key)) {
        Ok(held) if held.chain == chain => held,
        Ok(_) | Err(_) => return broken(db, droplet, "a checkpoint is not one by the droplet's identity key", now),
    };
    let sql = "SELECT seq, hash FROM audit_checkpoint WHERE droplet_id = ? ORDER BY number DESC LIMIT 1";
    let before = db.prepare_cached(sql)?.query_row([droplet.as_str()], link).optional()?;
    if before == Some(Link { seq: held.seq, hash: held.hash }) {
        return Ok(());
    }
    if let Some(Link { seq, .. }) = before.filter(|before| held.seq < before.seq) {
        let message = format!("the droplet's checkpoint names entry {} after one that named {seq}", held.seq);
        broken(db, droplet, &message, now)?;
    }
    let seq = column(held.seq)?;
    let sql = "SELECT seq, hash FROM audit WHERE droplet_id = ? AND seq = ? ORDER BY number DESC LIMIT 1";
    let stored = db.prepare_cached(sql)?.query_row(params![droplet.as_str(), seq], link).optional()?;
    if stored.is_some_and(|stored| stored.hash != held.hash) {
        broken(db, droplet, &format!("the droplet's checkpoint names another entry {seq} than is stored"), now)?;
    }
    db.prepare_cached(
        "INSERT INTO audit_checkpoint (droplet_id, seq, hash, document, stored_at) VALUES (?, ?, ?, ?, ?)",
    )?
    .execute(params![droplet.as_str(), seq, held.hash.to_string(), document, now.millis()])?;
    // The first stays: it reaches furthest back.
    db.prepare_cached(
        "DELETE FROM audit_checkpoint WHERE droplet_id = ?1
         AND number > (SELECT min(number) FROM audit_checkpoint WHERE droplet_id = ?1)
         AND number NOT IN (SELECT number FROM audit_checkpoint WHERE droplet_id = ?1 ORDER BY number DESC LIMIT ?2)",
    )?
    .execute(params![droplet.as_str(), i64::try_from(CHECKPOINTS_KEPT).unwrap_or(i64::MAX)])?;
    Ok(())
}

fn chain(db: &Conn) -> Result<Option<String>, StoreError> {
    Ok(db.prepare_cached("SELECT name FROM audit_chain")?.query_row([], |row| row.get(0)).optional()?)
}

fn link(row: &Row<'_>) -> ColumnResult<Link> {
    Ok(Link { seq: row.get::<_, i64>(0)?.unsigned_abs(), hash: text(row, 1)? })
}

fn last(db: &Conn, droplet: Option<&DropletId>) -> Result<Option<Link>, StoreError> {
    let sql = "SELECT seq, hash FROM audit WHERE droplet_id IS ? ORDER BY number DESC LIMIT 1";
    Ok(db.prepare_cached(sql)?.query_row([droplet.map(DropletId::as_str)], link).optional()?)
}

fn insert(db: &Conn, droplet: Option<&DropletId>, entry: &Entry) -> Result<(), StoreError> {
    let Entry { seq, at, event, detail, prev, hash } = entry;
    db.prepare_cached(
        "INSERT INTO audit (droplet_id, seq, at, event, detail, prev, hash) VALUES (?, ?, ?, ?, ?, ?, ?)",
    )?
    .execute(params![
        droplet.map(DropletId::as_str),
        column(*seq)?,
        at.millis(),
        event,
        detail,
        prev.to_string(),
        hash.to_string()
    ])?;
    Ok(())
}

fn entry(row: &Row<'_>) -> ColumnResult<(i64, Entry)> {
    let entry = Entry {
        seq: row.get::<_, i64>(1)?.unsigned_abs(),
        at: time(row, 2)?,
        event: row.get(3)?,
        detail: row.get(4)?,
        prev: text(row, 5)?,
        hash: text(row, 6)?,
    };
    Ok((row.get(0)?, entry))
}

impl Store {
    /// Name and head of the hub's own chain; `None` before its first entry.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn audit_head(&self) -> Result<Option<(String, Link)>, StoreError> {
        self.read(|db| Ok(chain(db)?.zip(last(db, None)?))).await
    }

    /// Name of a droplet's chain; `None` if the droplet is not registered.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn audit_chain_of(&self, droplet: DropletId) -> Result<Option<String>, StoreError> {
        self.read(move |db| {
            let sql = "SELECT workspace_id FROM droplet WHERE droplet_id = ?";
            let workspace: Option<WorkspaceId> =
                db.query_row(sql, [droplet.as_str()], |row| text(row, 0)).optional()?;
            Ok(workspace.map(|workspace| droplet_chain(workspace, &droplet)))
        })
        .await
    }

    /// Entries of a droplet's chain or of the hub's own, in the order in which they were stored, each with its number,
    /// after this one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn audit(
        &self,
        droplet: Option<DropletId>,
        event: Option<String>,
        after: i64,
        limit: u32,
    ) -> Result<Vec<(i64, Entry)>, StoreError> {
        self.read(move |db| {
            let sql = "SELECT number, seq, at, event, detail, prev, hash FROM audit
                       WHERE droplet_id IS ? AND number > ? AND (?3 IS NULL OR event = ?3) ORDER BY number LIMIT ?4";
            let mut query = db.prepare_cached(sql)?;
            let rows = query.query_map(params![droplet.as_ref().map(DropletId::as_str), after, event, limit], entry)?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// What a droplet signed of its chain, oldest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn checkpoints(&self, droplet: DropletId) -> Result<Vec<String>, StoreError> {
        self.read(move |db| {
            let sql = "SELECT document FROM audit_checkpoint WHERE droplet_id = ? ORDER BY number";
            let mut query = db.prepare_cached(sql)?;
            let rows = query.query_map([droplet.as_str()], |row| row.get(0))?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// Notes something in the hub's own chain that nothing else in the store goes with.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn note(&self, event: &'static str, detail: Value, now: Timestamp) -> Result<(), StoreError> {
        self.write(move |db| note(db, event, detail, now)).await
    }
}
