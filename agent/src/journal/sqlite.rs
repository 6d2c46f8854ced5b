//! The journal in SQLite; the only file of the agent that names rusqlite. Its parts below use what it passes on.

mod audit;
mod open;
mod outbox;
mod prune;

use std::cell::RefCell;
use std::rc::Rc;

use genesis_shared::audit::Note;
use genesis_shared::id::{BundleId, JobId};
use genesis_shared::limits::OUTBOX_BYTES_MAX;
use genesis_shared::report::{CommandResult, Event as ReportedEvent, Record};
use genesis_shared::timestamp::Timestamp;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, Transaction, TransactionBehavior, params};
use serde::Serialize;
use serde::de::DeserializeOwned;

use self::audit::{Owner, note_all};
pub use self::open::Extent;
use self::outbox::push;
use super::{Ending, JournalError, Lane, MapChanges, NewCommand, OpenCommand, RecentRow, record};
use crate::core::admit::Seen;
use crate::core::audit as notes;
use crate::core::plan::{Known, Plan};
use crate::core::saga::Event;
use crate::core::stack::StackRow;
use crate::core::step::{CredentialRow, Removed, WorkflowRow};

/// An open journal. One agent, one task, one connection: a second process on the same file is refused by a lock.
pub struct Journal {
    connection: RefCell<Connection>,
    path: String,
    hook: Option<WriteHook>,
    /// Whose audit chain it holds.
    owner: Owner,
}

/// Called before and after each write; `true` makes the write fail at that moment. Faults are injected through it.
pub type WriteHook = Rc<dyn Fn() -> bool>;

type Result<T> = std::result::Result<T, JournalError>;

/// What a statement comes to.
type Outcome<T> = rusqlite::Result<T>;

/// What a statement or its values fail with.
type Encoding = rusqlite::Error;

impl Journal {
    /// Watches every write from now on.
    pub fn set_hook(&mut self, hook: WriteHook) {
        self.hook = Some(hook);
    }

    /// Accepts a bundle, notes the time floor, and writes the acknowledgement into the outbox (D2).
    ///
    /// # Errors
    /// Nothing was accepted.
    pub fn accept(&self, new: &NewCommand<'_>, now: Timestamp) -> Result<i64> {
        self.accept_noted(new, &[], now)
    }

    /// The same with what the audit says of it.
    ///
    /// # Errors
    /// Nothing was accepted.
    pub fn accept_noted(&self, new: &NewCommand<'_>, notes: &[Note], now: Timestamp) -> Result<i64> {
        let accepted = self.parcel(&Record::Accepted { job_id: new.job_id })?;
        let floor = self.time_floor()?.max(new.signed_at);
        self.write(|tx| {
            tx.execute(
                "INSERT INTO command (bundle_id, job_id, digest, bundle, not_after, read_only, accepted_at)
                 VALUES (?, ?, ?, ?, ?, ?, ?)",
                params![
                    new.bundle_id.to_string(),
                    new.job_id.to_string(),
                    new.digest.to_string(),
                    new.bundle,
                    new.not_after.millis(),
                    new.lane == Lane::Look,
                    now.millis()
                ],
            )?;
            let seq = tx.last_insert_rowid();
            set_meta(tx, "time_floor", floor.millis().to_string().as_bytes())?;
            push(tx, now, &accepted)?;
            note_all(tx, &self.owner, now, notes)?;
            Ok(seq)
        })
    }

    /// Writes a record into the outbox, an event or a result, and what it means into the audit.
    ///
    /// # Errors
    /// Nothing was written.
    pub fn report(&self, record: &Record, now: Timestamp) -> Result<()> {
        // What repeats gives way in a full outbox; an entry of the chain could not, so it is not made.
        let repeats = self.parcel(record)?.may_give_way();
        if repeats && self.outbox_bytes()? > OUTBOX_BYTES_MAX / 2 {
            return self.report_noted(record, &[], now);
        }
        self.report_noted(record, &notes::of_report(record), now)
    }

    /// The same with other notes than those that follow from the record.
    ///
    /// # Errors
    /// Nothing was written.
    pub fn report_noted(&self, record: &Record, notes: &[Note], now: Timestamp) -> Result<()> {
        let record = self.parcel(record)?;
        self.write(|tx| {
            push(tx, now, &record)?;
            note_all(tx, &self.owner, now, notes)
        })
    }

    /// What is known of a bundle of this id.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn seen(&self, bundle: BundleId) -> Result<Option<Seen>> {
        let sql = "SELECT digest, job_id, outcome IS NOT NULL FROM command WHERE bundle_id = ?";
        type Row = (String, String, bool);
        let row: Option<Row> = self.read(|c| {
            c.query_row(sql, [bundle.to_string()], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).optional()
        })?;
        row.map(|(digest, job_id, has_ended)| {
            Ok(Seen {
                digest: self.parse("command", bundle.to_string(), &digest)?,
                job_id: self.parse("command", bundle.to_string(), &job_id)?,
                has_ended,
            })
        })
        .transpose()
    }

    /// Ties a bundle to the hub's job that asks for it, and writes `record` on it into the outbox: what was applied by
    /// hand was the droplet's own job before.
    ///
    /// # Errors
    /// Nothing was changed.
    pub fn confirm(&self, bundle: BundleId, job: JobId, record: &Record, now: Timestamp) -> Result<()> {
        let record = self.parcel(record)?;
        self.write(|tx| {
            let sql = "UPDATE command SET job_id = ? WHERE bundle_id = ?";
            tx.execute(sql, params![job.to_string(), bundle.to_string()])?;
            push(tx, now, &record)
        })
    }

    /// The job that an accepted bundle belongs to now; `None` where its row does not say.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn job(&self, bundle: BundleId) -> Result<Option<JobId>> {
        let sql = "SELECT job_id FROM command WHERE bundle_id = ?";
        let text: Option<String> =
            self.read(|c| c.query_row(sql, [bundle.to_string()], |row| row.get(0)).optional())?;
        Ok(text.and_then(|text| text.parse().ok()))
    }

    /// The result of a bundle that has ended.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn outcome(&self, bundle: BundleId) -> Result<Option<CommandResult>> {
        let sql = "SELECT outcome FROM command WHERE bundle_id = ? AND outcome IS NOT NULL";
        let row: Option<Vec<u8>> =
            self.read(|c| c.query_row(sql, [bundle.to_string()], |row| row.get(0)).optional())?;
        row.map(|bytes| self.decode("command", &bundle, &bytes)).transpose()
    }

    /// The exact bytes of an accepted bundle; those that the id map names are there however long ago they came.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn bundle(&self, seq: i64) -> Result<Option<Vec<u8>>> {
        let sql = "SELECT bundle FROM command WHERE seq = ? AND length(bundle) > 0";
        self.read(|c| c.query_row(sql, [seq], |row| row.get(0)).optional())
    }

    /// How many accepted bundles have no outcome yet.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn open_count(&self) -> Result<u64> {
        let sql = "SELECT count(*) FROM command WHERE outcome IS NULL";
        self.read(|c| c.query_row(sql, [], |row| row.get(0))).map(i64::unsigned_abs)
    }

    /// The newest commands first, at most so many: number, moment, job, bundle, its bytes (empty once they were pruned),
    /// and the outcome where there is one.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn recent(&self, limit: u32) -> Result<Vec<RecentRow>> {
        let sql = "SELECT seq, accepted_at, job_id, bundle_id, bundle, outcome FROM command ORDER BY seq DESC LIMIT ?";
        self.read(|c| {
            let mut statement = c.prepare_cached(sql)?;
            let rows = statement.query_map([limit], |r| {
                Ok(RecentRow {
                    seq: r.get(0)?,
                    accepted_at: Timestamp::from_millis(r.get(1)?),
                    job_id: r.get(2)?,
                    bundle_id: r.get(3)?,
                    bundle: r.get(4)?,
                    outcome: r.get::<_, Option<Vec<u8>>>(5)?.and_then(|bytes| record::decode(&bytes).ok()),
                })
            })?;
            rows.collect()
        })
    }

    /// The oldest bundle of a lane without an outcome.
    ///
    /// # Errors
    /// [`JournalError::Damaged`] if its rows cannot be read: quarantine it with [`Journal::finish`] and go on.
    pub fn next_open(&self, lane: Lane) -> Result<Option<OpenCommand>> {
        let sql = "SELECT seq, job_id, bundle_id, bundle, not_after, plan FROM command
                   WHERE outcome IS NULL AND read_only = ? ORDER BY seq LIMIT 1";
        type Row = (i64, String, String, Vec<u8>, i64, Option<Vec<u8>>);
        let row: Option<Row> = self.read(|c| {
            c.query_row(sql, [lane == Lane::Look], |r| {
                Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?, r.get(4)?, r.get(5)?))
            })
            .optional()
        })?;
        let Some((seq, job_id, bundle_id, bundle, not_after, plan)) = row else { return Ok(None) };
        let plan: Option<Plan> = plan.map(|bytes| self.decode("command", &seq, &bytes)).transpose()?;
        Ok(Some(OpenCommand {
            seq,
            job_id: self.parse("command", seq.to_string(), &job_id)?,
            bundle_id: self.parse("command", seq.to_string(), &bundle_id)?,
            bundle,
            not_after: Timestamp::from_millis(not_after),
            plan,
            events: self.events(seq)?,
        }))
    }

    /// Number and job of the oldest bundle of a lane without an outcome, without reading more of it.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn next_open_header(&self, lane: Lane) -> Result<Option<(i64, String, String)>> {
        let sql = "SELECT seq, job_id, bundle_id FROM command
                   WHERE outcome IS NULL AND read_only = ? ORDER BY seq LIMIT 1";
        self.read(|c| c.query_row(sql, [lane == Lane::Look], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?))).optional())
    }

    fn events(&self, seq: i64) -> Result<Vec<(Timestamp, Event)>> {
        let rows: Vec<(i64, i64, Vec<u8>)> = self.read(|c| {
            let mut statement = c.prepare_cached("SELECT n, at, record FROM event WHERE command = ? ORDER BY n")?;
            let rows = statement.query_map([seq], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)))?;
            rows.collect()
        })?;
        let decode = |(n, at, record): (i64, i64, Vec<u8>)| {
            Ok((Timestamp::from_millis(at), self.decode("event", &format!("{seq}/{n}"), &record)?))
        };
        rows.into_iter().map(decode).collect()
    }

    /// Keeps the plan before its first step runs.
    ///
    /// # Errors
    /// The plan was not kept.
    pub fn planned(&self, seq: i64, plan: &Plan) -> Result<()> {
        let plan = self.encode(plan)?;
        self.write(|tx| tx.execute("UPDATE command SET plan = ? WHERE seq = ?", params![plan, seq]).map(drop))
    }

    /// Keeps one event.
    ///
    /// # Errors
    /// The event was not kept; nothing that it announces may be done.
    pub fn append(&self, seq: i64, event: &Event, now: Timestamp) -> Result<()> {
        let record = self.encode(event)?;
        self.write(|tx| append(tx, seq, now, &record))
    }

    /// Ends a command: last event, outcome, id map and outbox record at once (D3), and its end in the audit.
    ///
    /// # Errors
    /// Nothing of it was kept.
    pub fn finish(&self, ending: &Ending<'_>, now: Timestamp) -> Result<()> {
        self.finish_noted(ending, &notes::ended(ending.result), now)
    }

    /// The same with other notes than those that follow from the result.
    ///
    /// # Errors
    /// Nothing of it was kept.
    pub fn finish_noted(&self, ending: &Ending<'_>, notes: &[Note], now: Timestamp) -> Result<()> {
        let event = ending.event.as_ref().map(|event| self.encode(event)).transpose()?;
        let outcome = self.encode(ending.result)?;
        let report = self.parcel(&Record::Result(ending.result.clone()))?;
        let told = ending.told.as_ref().map(|event| self.parcel(&Record::Event(event.clone()))).transpose()?;
        let rows = self.encode_rows(&ending.changes)?;
        self.write(|tx| {
            if let Some(told) = &told {
                push(tx, now, told)?;
            }
            if let Some(event) = &event {
                append(tx, ending.seq, now, event)?;
            }
            write_rows(tx, &rows)?;
            tx.execute("UPDATE command SET outcome = ? WHERE seq = ?", params![outcome, ending.seq])?;
            push(tx, now, &report)?;
            note_all(tx, &self.owner, now, notes)
        })
    }

    /// Ends a command whose row does not even tell its job, so that those after it run; an event says so.
    ///
    /// # Errors
    /// Nothing of it was kept.
    pub fn set_aside(&self, seq: i64, message: &str, now: Timestamp) -> Result<()> {
        let event = ReportedEvent { code: "journal_damaged".into(), message: message.to_owned() };
        let record = Record::Event(event);
        let (report, notes) = (self.parcel(&record)?, notes::of_report(&record));
        self.write(|tx| {
            // No result can be read out of this, which is the truth.
            tx.execute("UPDATE command SET outcome = x'' WHERE seq = ?", [seq])?;
            push(tx, now, &report)?;
            note_all(tx, &self.owner, now, &notes)
        })
    }

    /// Changes the id map by itself, after a repair.
    ///
    /// # Errors
    /// Nothing of it was kept.
    pub fn keep(&self, changes: &MapChanges) -> Result<()> {
        let rows = self.encode_rows(changes)?;
        self.write(|tx| write_rows(tx, &rows))
    }

    fn encode_rows(&self, changes: &MapChanges) -> Result<Rows> {
        let credentials = changes.credentials.iter().map(|row| Ok((row.name.to_string(), self.encode(row)?)));
        let workflows = changes.workflows.iter().map(|row| Ok((row.key.to_string(), self.encode(row)?)));
        Ok(Rows {
            credentials: credentials.collect::<Result<_>>()?,
            workflows: workflows.collect::<Result<_>>()?,
            removed: changes.removed.clone(),
            generation: changes.generation,
            stack: changes.stack.as_ref().map(|row| self.encode(row)).transpose()?,
        })
    }

    /// The id map. A damaged row is left out: what it stood for is found again in n8n by its marker.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn known(&self) -> Result<Known> {
        let rows = |sql: &'static str| -> Result<Vec<(String, Vec<u8>)>> {
            self.read(|c| {
                let mut statement = c.prepare_cached(sql)?;
                let rows = statement.query_map([], |r| Ok((r.get(0)?, r.get(1)?)))?;
                rows.collect()
            })
        };
        let mut known = Known { generation: self.generation()?, stack: self.stack()?, ..Known::default() };
        for (name, record) in rows("SELECT name, record FROM credential")? {
            if let Some(row) = readable(self.decode::<CredentialRow>("credential", &name, &record)) {
                known.credentials.insert(row.name.clone(), row);
            }
        }
        for (key, record) in rows("SELECT key, record FROM workflow")? {
            if let Some(row) = readable(self.decode::<WorkflowRow>("workflow", &key, &record)) {
                known.workflows.insert(row.key.clone(), row);
            }
        }
        Ok(known)
    }

    /// The latest signed time seen.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn time_floor(&self) -> Result<Timestamp> {
        let floor = self.meta("time_floor")?.and_then(|bytes| String::from_utf8(bytes).ok()?.parse().ok());
        Ok(Timestamp::from_millis(floor.unwrap_or(0)))
    }

    /// The generation of the desired state that was applied last; 0 before the first.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn generation(&self) -> Result<u64> {
        let kept = self.meta(META_GENERATION)?.and_then(|bytes| String::from_utf8(bytes).ok()?.parse().ok());
        Ok(kept.unwrap_or(0))
    }

    /// What the stack is to be.
    ///
    /// # Errors
    /// The journal cannot be read, or its row is damaged: to guess here would put a tenant on another image.
    pub fn stack(&self) -> Result<StackRow> {
        let kept = self.meta(META_STACK)?;
        kept.map_or_else(|| Ok(StackRow::default()), |bytes| self.decode("meta", &META_STACK, &bytes))
    }

    /// A single value.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn meta(&self, key: &str) -> Result<Option<Vec<u8>>> {
        self.read(|c| c.query_row("SELECT value FROM meta WHERE key = ?", [key], |row| row.get(0)).optional())
    }

    /// Keeps a single value.
    ///
    /// # Errors
    /// The old value is still there.
    pub fn set_meta(&self, key: &str, value: &[u8]) -> Result<()> {
        self.write(|tx| set_meta(tx, key, value))
    }

    fn read<T>(&self, query: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T> {
        query(&self.connection.borrow()).map_err(|source| classify(&self.path, source))
    }

    fn write<T>(&self, change: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>) -> Result<T> {
        let mut connection = self.connection.borrow_mut();
        let hooked = || match &self.hook {
            Some(hook) if hook() => Err(rusqlite::Error::InvalidQuery),
            _ => Ok(()),
        };
        let run = || {
            hooked()?;
            let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let value = change(&tx)?;
            tx.commit()?;
            hooked()?;
            Ok(value)
        };
        run().map_err(|source| classify(&self.path, source))
    }

    fn encode<T: Serialize>(&self, value: &T) -> Result<Vec<u8>> {
        record::encode(value).map_err(|source| JournalError::Damaged { table: "new", row: "-".into(), source })
    }

    fn decode<T: DeserializeOwned>(&self, table: &'static str, row: &impl ToString, bytes: &[u8]) -> Result<T> {
        record::decode(bytes).map_err(|source| JournalError::Damaged { table, row: row.to_string(), source })
    }

    fn parse<T: std::str::FromStr<Err: std::fmt::Display>>(
        &self,
        table: &'static str,
        row: String,
        text: &str,
    ) -> Result<T> {
        text.parse().map_err(|e: T::Err| JournalError::Damaged {
            table,
            row,
            source: serde::de::Error::custom(e.to_string()),
        })
    }
}

/// Changes of the id map, encoded before the transaction begins.
struct Rows {
    credentials: Vec<(String, Vec<u8>)>,
    workflows: Vec<(String, Vec<u8>)>,
    removed: Vec<Removed>,
    generation: Option<u64>,
    stack: Option<Vec<u8>>,
}

fn write_rows(tx: &Transaction<'_>, rows: &Rows) -> rusqlite::Result<()> {
    for (name, record) in &rows.credentials {
        tx.execute("INSERT OR REPLACE INTO credential (name, record) VALUES (?, ?)", params![name, record])?;
    }
    for (key, record) in &rows.workflows {
        tx.execute("INSERT OR REPLACE INTO workflow (key, record) VALUES (?, ?)", params![key, record])?;
    }
    for removed in &rows.removed {
        match removed {
            Removed::Credential(name) => tx.execute("DELETE FROM credential WHERE name = ?", [name.as_str()])?,
            Removed::Workflow(key) => tx.execute("DELETE FROM workflow WHERE key = ?", [key.as_str()])?,
        };
    }
    if let Some(generation) = rows.generation {
        set_meta(tx, META_GENERATION, generation.to_string().as_bytes())?;
    }
    if let Some(stack) = &rows.stack {
        set_meta(tx, META_STACK, stack)?;
    }
    Ok(())
}

/// Key of the single value that holds the generation of the desired state.
const META_GENERATION: &str = "desired_generation";

/// Key of the single value that holds what the stack is to be.
const META_STACK: &str = "stack";

fn append(tx: &Transaction<'_>, seq: i64, now: Timestamp, record: &[u8]) -> rusqlite::Result<()> {
    tx.execute(
        "INSERT INTO event (command, n, at, record)
         VALUES (?1, (SELECT coalesce(max(n), 0) + 1 FROM event WHERE command = ?1), ?2, ?3)",
        params![seq, now.millis(), record],
    )
    .map(drop)
}

fn set_meta(tx: &Transaction<'_>, key: &str, value: &[u8]) -> rusqlite::Result<()> {
    tx.execute("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", params![key, value]).map(drop)
}

/// The row, or a line in the log.
fn readable<T>(row: Result<T>) -> Option<T> {
    row.map_err(|error| tracing::error!("{}", genesis_shared::chain::Chain(&error))).ok()
}

fn classify(path: &str, source: rusqlite::Error) -> JournalError {
    let (path, code) = (path.to_owned(), source.sqlite_error_code());
    let source = Box::new(source);
    match code {
        Some(ErrorCode::DiskFull) => JournalError::Full { path, source },
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => JournalError::InUse { path, source },
        _ => JournalError::Store { path, source },
    }
}

#[cfg(test)]
#[path = "sqlite_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "bounds_tests.rs"]
mod bounds_tests;

#[cfg(test)]
#[path = "audit_tests.rs"]
mod audit_tests;
