//! Opens the file, and brings one that an older agent wrote to the present version.

use std::cell::RefCell;
use std::path::Path;

use super::super::JournalError;
use super::audit::Owner;
use super::{Connection, Journal, OpenFlags, Result, classify};
use crate::core::update::JOURNAL_WRITES;

/// The version of `schema.sql`.
const SCHEMA_VERSION: i64 = JOURNAL_WRITES;

/// Before anything is read: it keeps the WAL index in this process's memory, so that there is no -shm file to lose.
const EXCLUSIVE: &str = "PRAGMA locking_mode = EXCLUSIVE";

/// For a new file only: on one that is there it would be a write, which a full disk refuses, and change nothing. A file
/// of version 1 keeps its size, and what was pruned in it is used again.
const NEW_FILE: &str = "PRAGMA auto_vacuum = INCREMENTAL";

const PRAGMAS: &str = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;
    PRAGMA cache_size = -512; PRAGMA journal_size_limit = 4194304;";

impl Journal {
    /// Opens the journal, creates it where there is none, and checks it.
    ///
    /// # Errors
    /// Not usable, damaged, written by a newer agent, or in use by another process.
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_over(path, None)
    }

    /// The same over another file layer of SQLite ("VFS") than the system's own, by the name it is registered under.
    ///
    /// # Errors
    /// As [`Journal::open`]; or there is no such layer.
    pub fn open_over(path: &Path, file_layer: Option<&str>) -> Result<Self> {
        let name = path.display().to_string();
        let failed = |source| classify(&name, source);
        let flags = OpenFlags::default();
        let connection = match file_layer {
            Some(layer) => Connection::open_with_flags_and_vfs(path, flags, layer),
            None => Connection::open_with_flags(path, flags),
        };
        let connection = connection.map_err(failed)?;
        // Only a second agent would hold the lock, and waiting for it to go away is systemd's business.
        connection.busy_timeout(std::time::Duration::ZERO).map_err(failed)?;
        connection.execute_batch(EXCLUSIVE).map_err(failed)?;
        let pages: i64 = connection.query_row("PRAGMA page_count", [], |row| row.get(0)).map_err(failed)?;
        if pages == 0 {
            connection.execute_batch(NEW_FILE).map_err(failed)?;
        }
        connection.execute_batch(PRAGMAS).map_err(failed)?;
        let journal = Self { connection: RefCell::new(connection), path: name, hook: None, owner: Owner::default() };
        journal.migrate()?;
        Ok(journal)
    }

    fn migrate(&self) -> Result<()> {
        let found: i64 = self.read(|c| c.query_row("PRAGMA user_version", [], |row| row.get(0)))?;
        let steps = match found {
            0 => include_str!("../schema.sql"),
            1 => concat!(include_str!("../migrate_2.sql"), include_str!("../migrate_3.sql")),
            2 => include_str!("../migrate_3.sql"),
            SCHEMA_VERSION => return Ok(()),
            _ => return Err(JournalError::Newer { path: self.path.clone(), found, known: SCHEMA_VERSION }),
        };
        self.write(|tx| {
            tx.execute_batch(steps)?;
            tx.pragma_update(None, "user_version", SCHEMA_VERSION)
        })
    }

    /// SQLite's own check of the whole file: `ok`, or what is wrong. It reads every page.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn integrity(&self) -> Result<String> {
        self.read(|c| c.query_row("PRAGMA integrity_check", [], |row| row.get(0)))
    }

    /// What the database holds: pages in all, pages free, bytes of a page, rows of commands, of events, of the outbox.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn extent(&self) -> Result<Extent> {
        let number = |sql: &str| self.read(|c| c.query_row(sql, [], |row| row.get(0))).map(i64::unsigned_abs);
        Ok(Extent {
            pages: number("PRAGMA page_count")?,
            free_pages: number("PRAGMA freelist_count")?,
            page_bytes: number("PRAGMA page_size")?,
            commands: number("SELECT count(*) FROM command")?,
            events: number("SELECT count(*) FROM event")?,
            outbox: number("SELECT count(*) FROM outbox")?,
        })
    }
}

/// How much a journal holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Pages of the database, the free ones among them.
    pub pages: u64,
    /// Pages that hold nothing.
    pub free_pages: u64,
    /// Bytes of a page.
    pub page_bytes: u64,
    /// Bundles that are remembered.
    pub commands: u64,
    /// Events of their runs.
    pub events: u64,
    /// Records that wait for delivery.
    pub outbox: u64,
}
