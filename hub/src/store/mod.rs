//! What the hub remembers, and what it promises about it.
//!
//! **Contract**
//! - S1. A write is answered only after its transaction was committed with `synchronous=FULL`: what was acknowledged
//!   survives a crash of the process and of the machine.
//! - S2. One writer thread makes every change. It takes what waits into one transaction (group commit), each request in
//!   a savepoint of its own, so that one that fails spoils no other.
//! - S3. A request that fails leaves no trace; a refusal that must be remembered (a security event) is a success here.
//! - S4. Where the disk is full or broken, every waiting request gets [`StoreError::Unavailable`]; nothing was
//!   acknowledged, and the next request is tried afresh.
//! - S5. Reads see whole committed transactions only and never wait for the writer.
//! - S6. No credential is stored, only its SHA-256; bundles are stored byte for byte as they came.
//! - S7. What the hub's audit chain tells of, and the entry that tells it, are one transaction; its rows are never changed.
//!
//! Only `sqlite.rs` and `writer.rs` know the database driver; the SQL of each resource stands in the file named after it.

pub mod audit;
pub mod bundles;
pub mod droplets;
pub mod enrolment;
pub mod events;
pub mod fleet;
pub mod jobs;
pub mod leases;
pub mod listing;
pub mod lives;
pub mod prune;
pub mod results;
pub mod rollouts;
pub mod settings;
pub mod tokens;
pub mod trust;
pub mod watched;

mod sqlite;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use genesis_shared::timestamp::Timestamp;
use tokio::sync::Semaphore;

use sqlite::Conn;
use writer::{Haste, Writer};

use crate::queue::Limits;
use crate::watch::Watched;

/// Reads that run at the same time; each has its own connection. Reads take well below a millisecond, so a few do.
const READERS_MAX: usize = 4;

/// The store. Clones share it.
#[derive(Clone, Debug)]
pub struct Store(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    writer: Writer,
    idle_readers: Mutex<Vec<Conn>>,
    readers: Semaphore,
}

/// What the store held when it was opened and a hub keeps in mind.
#[derive(Debug)]
pub struct Remembered {
    /// Jobs that were handed out or at work.
    pub in_flight: Vec<leases::InFlight>,
    /// The limits that operators have set.
    pub limits: Option<Limits>,
    /// Droplets that have enrolled.
    pub watched: Vec<Watched>,
    /// When anybody was heard of last.
    pub heard_at: Option<Timestamp>,
}

impl Remembered {
    fn read(conn: &Conn) -> Result<Self, StoreError> {
        let (in_flight, limits) = (leases::in_flight(conn)?, settings::limits(conn)?);
        Ok(Self { in_flight, limits, watched: watched::watched(conn)?, heard_at: watched::heard_at(conn)? })
    }
}

/// Why the store did not do it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Disk full, input/output error, locked by another process, or closed. Nothing was changed.
    #[error("the store is not available: {0}")]
    Unavailable(String),
    /// The store holds, or was asked for, what it should not: a bug or a damaged file.
    #[error("the store failed: {0}")]
    Broken(String),
}

impl StoreError {
    /// Stable machine-readable name.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unavailable(_) => "store_unavailable",
            Self::Broken(_) => "internal",
        }
    }
}

impl Store {
    /// Opens the database file, makes it if need be, and brings it to the current version.
    ///
    /// # Errors
    /// If the file cannot be opened, or was written by a later version of the hub.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Self::open_remembering(path).map(|(store, _)| store)
    }

    /// The same, and what whoever serves from the store has to know before the first request.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_remembering(path: &Path) -> Result<(Self, Remembered), StoreError> {
        let conn = sqlite::open(path)?;
        let remembered = Remembered::read(&conn)?;
        Ok((Self::with(path, Writer::start(conn)?), remembered))
    }

    fn with(path: &Path, writer: Writer) -> Self {
        let (idle_readers, readers) = (Mutex::new(Vec::new()), Semaphore::new(READERS_MAX));
        Self(Arc::new(Inner { path: path.to_owned(), writer, idle_readers, readers }))
    }

    /// **For simulations only**: the same store without threads. Changes and reads run where they are called, on one
    /// connection that does not wait for the disk: what was committed survives a drop of the store, not of the machine.
    ///
    /// # Errors
    /// As [`Store::open`].
    #[cfg(feature = "sim")]
    pub fn inline(path: &Path) -> Result<(Self, Remembered), StoreError> {
        let conn = sqlite::open_unsynced(path)?;
        let remembered = Remembered::read(&conn)?;
        Ok((Self::with(path, Writer::inline(conn)), remembered))
    }

    /// Transactions committed since the store was opened; what group commit saves can be seen by it.
    pub fn commits(&self) -> u64 {
        self.0.writer.commits()
    }

    /// The number of the latest event; whoever waits for a change of it is woken after the commit that adds one.
    pub fn latest_event(&self) -> tokio::sync::watch::Receiver<i64> {
        self.0.writer.events()
    }

    /// Commits what waits and closes the file. Later calls get [`StoreError::Unavailable`].
    ///
    /// # Errors
    /// If the writer had died before.
    pub async fn close(&self) -> Result<(), StoreError> {
        self.0.readers.close();
        lock(&self.0.idle_readers).clear();
        self.0.writer.stop().await
    }

    /// Runs `change` on the writer's thread and answers after the commit (S1).
    async fn write<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Conn) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.run(change, Haste::Now).await
    }

    /// The same for what comes from everybody all the time: it waits a moment for company, so that a fleet's heartbeats
    /// share their commits. Whatever cannot wait takes along what does.
    async fn write_patiently<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Conn) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.run(change, Haste::Later).await
    }

    async fn run<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Conn) -> Result<T, StoreError> + Send + 'static,
        haste: Haste,
    ) -> Result<T, StoreError> {
        // The log lines of a change, too, carry the request that it belongs to.
        let span = tracing::Span::current();
        self.0.writer.run(move |db| span.in_scope(|| change(db)), haste).await
    }

    /// Runs `look` on a thread of its own with a read connection (S5).
    async fn read<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Conn) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        #[cfg(feature = "sim")]
        if self.0.writer.is_inline() {
            return self.0.writer.look_inline(look);
        }
        let closed = |_| StoreError::Unavailable("it is closed".into());
        let _permit = self.0.readers.acquire().await.map_err(closed)?;
        let (inner, span) = (Arc::clone(&self.0), tracing::Span::current());
        let task = tokio::task::spawn_blocking(move || {
            let _entered = span.entered();
            let idle = lock(&inner.idle_readers).pop();
            let conn = match idle {
                Some(conn) => conn,
                None => sqlite::open_reader(&inner.path)?,
            };
            let answer = look(&conn);
            // A connection that met an error is not used again.
            if answer.is_ok() && !inner.readers.is_closed() {
                lock(&inner.idle_readers).push(conn);
            }
            answer
        });
        task.await.unwrap_or_else(|_| Err(StoreError::Broken("a read panicked".into())))
    }

    /// Whether the writer's thread still works: an empty change, which costs no write.
    ///
    /// # Errors
    /// If it does not.
    pub async fn pulse(&self) -> Result<(), StoreError> {
        self.write(|_| Ok(())).await
    }

    /// Whether the store answers.
    ///
    /// # Errors
    /// If it does not.
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.read(|db| Ok(db.query_row("SELECT 1", [], |_| Ok(()))?)).await
    }
}

/// Copies a database, which others may be using, as of this moment to a new file, without what is free in it.
///
/// # Errors
/// [`StoreError`].
pub fn copy_file(from: &Path, to: &Path) -> Result<(), StoreError> {
    let conn = sqlite::open_reader(from)?;
    let target = to.to_str().ok_or_else(|| StoreError::Unavailable("its path is not UTF-8".into()))?;
    conn.execute("VACUUM INTO ?", [target])?;
    Ok(())
}

/// Reads a whole database and compares it with itself.
///
/// # Errors
/// [`StoreError::Broken`] with the first thing that is wrong.
pub fn verify_file(path: &Path) -> Result<(), StoreError> {
    let conn = sqlite::open_reader(path)?;
    let found: String = conn.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    if found == "ok" { Ok(()) } else { Err(StoreError::Broken(found)) }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod faults {
    //! Faults for the tests of the contract.

    use super::sqlite::params;
    use super::{Conn, Store, StoreError};

    fn insert(db: &Conn, name: &str) -> Result<(), StoreError> {
        let sql = "INSERT INTO api_token (digest, name, scopes, created_at) VALUES (?, ?, 'read', 0)";
        db.execute(sql, params![name.as_bytes(), name])?;
        Ok(())
    }

    impl Store {
        /// The file may not grow beyond so many pages (or what it has), as on a full disk.
        pub async fn limit_pages(&self, pages: Option<u32>) -> Result<(), StoreError> {
            let pages = pages.unwrap_or(u32::MAX - 1);
            self.write(move |db| Ok(db.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))?)).await
        }

        /// Prunes events as the sweep does, at once.
        pub async fn forget_events_before(&self, number: i64) -> Result<(), StoreError> {
            self.write(move |db| {
                db.execute("DELETE FROM event WHERE number < ?", [number])?;
                Ok(())
            })
            .await
        }

        /// A change that fails after it has written.
        pub async fn fail_after_write(&self, name: &'static str) -> Result<(), StoreError> {
            self.write(move |db| {
                insert(db, name)?;
                Err(StoreError::Broken("as the test wants it".into()))
            })
            .await
        }

        /// A change that panics after it has written.
        pub async fn panic_after_write(&self, name: &'static str) -> Result<(), StoreError> {
            self.write(move |db| -> Result<(), StoreError> {
                insert(db, name)?;
                panic!("as the test wants it")
            })
            .await
        }
    }
}
