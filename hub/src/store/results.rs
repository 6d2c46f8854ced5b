//! Outbox records of droplets: stored once by (droplet, enrolment, seq), in order, and applied.

use genesis_shared::id::{DropletId, WorkspaceId};
use genesis_shared::report::{CommandResult, Escrow, OutboxRecord, Record};
use genesis_shared::timestamp::Timestamp;
use genesis_shared::wire::JobState;

use super::events::{self, NewEvent};
use super::jobs::{Found, find, save};
use super::lives::{self, Cause};
use super::sqlite::{Conn, OptionalExtension, params, to_json};
use super::{Store, StoreError, audit};
use crate::queue::{self, Event, Queue};

/// Code of the event that stands in an outbox for a record that the droplet cannot read any more.
const DAMAGED: &str = "journal_damaged";

/// Whose outbox it is.
#[derive(Clone, Debug)]
pub struct Sender {
    /// The droplet.
    pub droplet: DropletId,
    /// Its tenant.
    pub workspace: WorkspaceId,
    /// Its identity; each counts its records from 1.
    pub enrolment: i64,
    /// The life that delivers, where it says.
    pub epoch: Option<String>,
}

/// What a droplet's word made of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved {
    /// Its number.
    pub job: i64,
    /// Its queue.
    pub queue: Queue,
    /// Where it is now.
    pub state: JobState,
}

/// What became of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stored {
    /// Everything is stored up to this number, and these jobs have moved.
    UpTo(u64, Vec<Moved>),
    /// The droplet is quarantined, perhaps by this very batch: nothing is stored, and it keeps its records.
    Quarantined {
        /// By this batch.
        now: bool,
    },
}

impl Store {
    /// Stores what is new, ignores what is stored already. Answers the highest number up to which everything is stored
    /// that the droplet has.
    ///
    /// A droplet always sends its oldest record first and leaves none out that it has, so a number that is missing is
    /// missing there: in a full outbox metrics gave way (`OUTBOX_BYTES_MAX`). Waiting for it would stop delivery for
    /// ever. Before the first record of a batch it may also be one that was stored and lost here (this store was
    /// restored from an older copy), which somebody should hear of; between two records of a batch it cannot be.
    ///
    /// If one is stored already with another content, the droplet's journal is not the one that delivered it: the
    /// droplet is quarantined, or, where an operator has resumed it, goes on from there.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn results(
        &self,
        sender: Sender,
        records: Vec<OutboxRecord>,
        now: Timestamp,
    ) -> Result<Stored, StoreError> {
        self.write(move |db| results(db, &sender, records, now)).await
    }
}

fn results(db: &Conn, sender: &Sender, records: Vec<OutboxRecord>, now: Timestamp) -> Result<Stored, StoreError> {
    if lives::is_quarantined(db, &sender.droplet)? {
        answers_to_looks(db, sender, records, now)?;
        // What they move frees its place in flight in its own time; a quarantined droplet is rare.
        return Ok(Stored::Quarantined { now: false });
    }
    let key = params![sender.droplet.as_str(), sender.enrolment];
    let sql = "SELECT stored_up_to FROM enrolment WHERE droplet_id = ? AND number = ?";
    let stored: i64 = db.prepare_cached(sql)?.query_row(key, |row| row.get(0))?;
    let before = stored.unsigned_abs();
    let mut up_to = before;
    let first = records.first().map_or(0, |record| record.seq);
    if first > up_to.saturating_add(1) {
        let lost = format!(
            "records {} to {} of its outbox are not here: they gave way on the droplet, or this hub was restored",
            up_to + 1,
            first - 1
        );
        let event = NewEvent { code: "records_lost", message: &lost, droplet: Some(&sender.droplet), job: None };
        events::insert(db, &event, now)?;
    }
    let rejoins = lives::rejoins(db, &sender.droplet, sender.enrolment)?;
    let mut moved = Vec::new();
    for record in records {
        if record.seq <= up_to {
            if !differs(db, sender, &record, rejoins)? {
                continue;
            }
            if !rejoins {
                let message = format!("record {} of its outbox came again with another content", record.seq);
                lives::quarantine(db, &sender.droplet, Cause::Diverged, message, now)?;
                return Ok(Stored::Quarantined { now: true });
            }
            up_to = record.seq - 1;
            lives::set_aside(db, &sender.droplet, sender.enrolment, column(up_to)?, now)?;
        }
        insert(db, sender, &record, now)?;
        up_to = record.seq;
        moved.extend(apply(db, sender, record.record, now)?);
    }
    let sql = "UPDATE enrolment SET stored_up_to = ? WHERE droplet_id = ? AND number = ?";
    let number = column(up_to)?;
    db.prepare_cached(sql)?.execute(params![number, sender.droplet.as_str(), sender.enrolment])?;
    if rejoins && up_to != before {
        lives::rejoined(db, &sender.droplet, sender.enrolment)?;
    }
    let sql = "UPDATE droplet SET last_seen_at = ? WHERE droplet_id = ?";
    db.prepare_cached(sql)?.execute(params![now.millis(), sender.droplet.as_str()])?;
    lives::heard(db, (&sender.droplet, sender.enrolment), sender.epoch.as_deref(), up_to, now)?;
    Ok(Stored::UpTo(up_to, moved))
}

/// Whether what is stored under a record's number has another content. One that was damaged in the droplet's journal
/// since has not. Where nothing is stored (it gave way, or was kept long enough), it is as `otherwise` says: in a journal
/// that an operator has resumed it is new, for a record told twice does less harm than one that is lost.
fn differs(db: &Conn, sender: &Sender, record: &OutboxRecord, otherwise: bool) -> Result<bool, StoreError> {
    let sql = "SELECT body FROM record WHERE droplet_id = ? AND enrolment = ? AND seq = ?";
    let key = params![sender.droplet.as_str(), sender.enrolment, column(record.seq)?];
    let body: Option<String> = db.prepare_cached(sql)?.query_row(key, |row| row.get(0)).optional()?;
    // Compared as values: either side may have learnt to write more since.
    let stored = body.and_then(|body| serde_json::from_str::<OutboxRecord>(&body).ok());
    let is_damaged = matches!(&record.record, Record::Event(event) if event.code == DAMAGED);
    Ok(stored.map_or(otherwise, |stored| stored != *record && !is_damaged))
}

/// Applies what a quarantined droplet says of jobs that only look, so that these go on. It is told again after the
/// quarantine, which changes nothing then.
fn answers_to_looks(db: &Conn, sender: &Sender, records: Vec<OutboxRecord>, now: Timestamp) -> Result<(), StoreError> {
    let sql = "SELECT 1 FROM job j JOIN bundle b ON b.bundle_id = j.bundle_id
               WHERE j.job_id = ? AND j.workspace_id = ? AND b.read_only = 1";
    for record in records {
        let job = match &record.record {
            Record::Accepted { job_id } | Record::Result(CommandResult { job_id, .. }) => *job_id,
            Record::Event(_) | Record::Metrics(_) | Record::Escrow(_) | Record::Audit(_) => continue,
        };
        if db.prepare_cached(sql)?.exists(params![job.to_string(), sender.workspace.to_string()])? {
            apply(db, sender, record.record, now)?;
        }
    }
    Ok(())
}

impl Store {
    /// The latest deposit of a droplet for the recovery key.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn escrow(&self, droplet: DropletId) -> Result<Option<Escrow>, StoreError> {
        self.read(move |db| {
            // Also what was delivered by a journal that was rolled back since: it may be the only deposit there is.
            let sql = "SELECT body ->> '$.record.escrow' FROM (
                           SELECT droplet_id, enrolment, seq, body, 1 AS present FROM record UNION ALL
                           SELECT droplet_id, enrolment, seq, body, 0 FROM former_record)
                       WHERE droplet_id = ? AND body ->> '$.record.escrow' IS NOT NULL
                       ORDER BY enrolment DESC, present DESC, seq DESC LIMIT 1";
            let text: Option<String> =
                db.prepare_cached(sql)?.query_row([droplet.as_str()], |row| row.get(0)).optional()?;
            text.map(|text| serde_json::from_str(&text).map_err(|e| StoreError::Broken(e.to_string()))).transpose()
        })
        .await
    }
}

pub(super) fn column(seq: u64) -> Result<i64, StoreError> {
    i64::try_from(seq).map_err(|e| StoreError::Broken(e.to_string()))
}

fn insert(db: &Conn, sender: &Sender, record: &OutboxRecord, now: Timestamp) -> Result<(), StoreError> {
    db.prepare_cached("INSERT INTO record (droplet_id, enrolment, seq, body, stored_at) VALUES (?, ?, ?, ?, ?)")?
        .execute(params![
            sender.droplet.as_str(),
            sender.enrolment,
            column(record.seq)?,
            to_json(record)?,
            now.millis()
        ])?;
    Ok(())
}

fn apply(db: &Conn, sender: &Sender, record: Record, now: Timestamp) -> Result<Option<Moved>, StoreError> {
    match record {
        Record::Accepted { job_id } => match find(db, job_id)? {
            Some(found) => move_job(db, sender, &found, Event::Accepted, now),
            // Its result will tell.
            None => Ok(None),
        },
        Record::Result(result) => {
            let Some(found) = find(db, result.job_id)? else {
                unknown_job(db, sender, &result, now)?;
                return Ok(None);
            };
            let moved = move_job(db, sender, &found, Event::Result(result.state), now)?;
            if moved.is_some() {
                db.prepare_cached("UPDATE job SET result = ? WHERE number = ?")?
                    .execute(params![to_json(&result)?, found.number])?;
            }
            Ok(moved)
        }
        // They are kept among the records, and change nothing.
        Record::Metrics(_) | Record::Escrow(_) => Ok(None),
        Record::Audit(entry) => audit::append(db, sender, &entry, now).map(|()| None),
        Record::Event(event) => {
            let (code, message) = (event.code.as_str(), event.message.as_str());
            events::insert(db, &NewEvent { code, message, droplet: Some(&sender.droplet), job: None }, now)?;
            Ok(None)
        }
    }
}

/// The end of a job that is not here: its bundle was applied by hand on the droplet, or its queueing was lost with an
/// older copy of this store. The whole result stays in the records.
fn unknown_job(db: &Conn, sender: &Sender, result: &CommandResult, now: Timestamp) -> Result<(), StoreError> {
    let bundle = result.bundle_id.map_or_else(|| "unknown".to_owned(), |id| id.to_string());
    let (state, code) = (queue::final_state(result.state).name(), &result.code);
    let message =
        format!("a job that was not queued here, bundle {bundle}, ended as {state} ({code}): {}", result.message);
    let event = NewEvent {
        code: "applied_by_hand",
        message: &message,
        droplet: Some(&sender.droplet),
        job: Some(result.job_id),
    };
    events::insert(db, &event, now)
}

/// Applies a droplet's word to a job of its own; answers where that took it, if anywhere.
fn move_job(
    db: &Conn,
    sender: &Sender,
    found: &Found,
    event: Event,
    now: Timestamp,
) -> Result<Option<Moved>, StoreError> {
    if found.workspace != sender.workspace {
        // The record is stored and acknowledged all the same: a refusal would block the droplet's outbox for ever.
        let message = "a droplet reported on a job that is not its own";
        let event = NewEvent { code: "foreign_job", message, droplet: Some(&sender.droplet), job: Some(found.id) };
        events::insert(db, &event, now)?;
        return Ok(None);
    }
    // The first result wins; a second one is in the records and changes nothing.
    let Ok(job) = queue::apply(found.job, event, now) else { return Ok(None) };
    save(db, found.number, &job, now)?;
    Ok(Some(Moved { job: found.number, queue: found.queue, state: job.state }))
}
