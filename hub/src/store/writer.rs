//! The one writer thread and its group commit (contract S1 to S4).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension};
use tokio::sync::{mpsc, oneshot, watch};

use super::{StoreError, lock};

/// Requests that wait for the writer; further callers wait in turn, which is the hub's brake under load.
const WAITING_MAX: usize = 256;
/// Requests in one transaction: what can wait, so that one commit empties the channel.
const BATCH_MAX: usize = WAITING_MAX;

/// Those who can wait come together at the ends of spans of this length: a fleet of 15,000 beats 250 times a second and
/// takes 40 commits for it.
const PATIENCE: Duration = Duration::from_millis(25);

/// Whether a change may wait for others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Haste {
    /// It is committed as soon as it can be.
    Now,
    /// It waits for up to [`PATIENCE`].
    Later,
}

/// Given an error instead of the connection it does not run and passes the error on.
type Change = Box<dyn FnOnce(Result<&Connection, StoreError>) -> Ran + Send>;
type Answer = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

enum Request {
    Run(Change),
    Stop,
}

/// A change that ran but is not committed yet.
struct Ran {
    /// Whether its savepoint is to be kept.
    keep: bool,
    /// Tells the caller, once it is known whether the transaction was committed.
    answer: Answer,
}

/// What is known of what was committed.
#[derive(Debug, Default)]
struct Commits {
    count: AtomicU64,
    /// The latest event's number.
    events: watch::Sender<i64>,
}

impl Commits {
    fn committed(&self, conn: &Connection) {
        self.count.fetch_add(1, Ordering::Relaxed);
        // Four rows without an index: microseconds beside a commit. It is told only after the commit, so nobody is woken
        // for an event that is not there.
        let latest = conn.prepare_cached("SELECT seq FROM sqlite_sequence WHERE name = 'event'");
        match latest.and_then(|mut query| query.query_row([], |row| row.get(0)).optional()) {
            Ok(latest) => {
                let latest = latest.unwrap_or(0);
                self.events.send_if_modified(|known| std::mem::replace(known, latest) != latest);
            }
            Err(error) => tracing::error!(%error, "readers of the event stream are not woken"),
        }
    }
}

/// The handle on the thread.
#[derive(Debug)]
pub(super) struct Writer {
    requests: mpsc::Sender<Request>,
    commits: Arc<Commits>,
    started: tokio::time::Instant,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// In a simulation there is no thread: each change is a transaction of its own, in the caller's thread.
    #[cfg(feature = "sim")]
    inline: Option<Mutex<Option<Connection>>>,
}

impl Writer {
    /// Starts the thread; it owns the connection.
    pub(super) fn start(conn: Connection) -> Result<Self, StoreError> {
        let (requests, receiver) = mpsc::channel(WAITING_MAX);
        let commits = Arc::new(Commits::default());
        let counter = Arc::clone(&commits);
        let thread = std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || run(&conn, receiver, &counter))
            .map_err(|e| StoreError::Unavailable(e.to_string()))?;
        Ok(Self {
            requests,
            commits,
            started: tokio::time::Instant::now(),
            thread: Mutex::new(Some(thread)),
            #[cfg(feature = "sim")]
            inline: None,
        })
    }

    /// A writer without a thread.
    #[cfg(feature = "sim")]
    pub(super) fn inline(conn: Connection) -> Self {
        let (requests, _) = mpsc::channel(1);
        let inline = Some(Mutex::new(Some(conn)));
        let started = tokio::time::Instant::now();
        Self { requests, commits: Arc::default(), started, thread: Mutex::new(None), inline }
    }

    /// Whether there is no thread.
    #[cfg(feature = "sim")]
    pub(super) fn is_inline(&self) -> bool {
        self.inline.is_some()
    }

    /// Reads with the connection of a writer without a thread.
    #[cfg(feature = "sim")]
    pub(super) fn look_inline<T>(
        &self,
        look: impl FnOnce(&Connection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let closed = || StoreError::Unavailable("it is closed".into());
        let conn = lock(self.inline.as_ref().ok_or_else(closed)?);
        look(conn.as_ref().ok_or_else(closed)?)
    }

    pub(super) fn commits(&self) -> u64 {
        self.commits.count.load(Ordering::Relaxed)
    }

    /// Tells of the number of the latest event, whenever a commit has added some.
    pub(super) fn events(&self) -> watch::Receiver<i64> {
        self.commits.events.subscribe()
    }

    /// Runs a change and answers after the commit.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
        haste: Haste,
    ) -> Result<T, StoreError> {
        let (sender, receiver) = oneshot::channel();
        let change: Change = Box::new(move |conn| {
            let value = conn.and_then(change);
            let keep = value.is_ok();
            let answer: Answer = Box::new(move |committed| {
                let answer = committed.and(value);
                // The caller may be gone; what was committed stays and will be found by its retry.
                drop(sender.send(answer));
            });
            Ran { keep, answer }
        });
        #[cfg(feature = "sim")]
        if let Some(inline) = &self.inline {
            if let Some(conn) = lock(inline).as_ref() {
                commit(conn, vec![change], &self.commits);
            }
            return receiver.await.unwrap_or_else(|_| Err(StoreError::Unavailable("it is closed".into())));
        }
        if haste == Haste::Later {
            let spans = self.started.elapsed().as_nanos() / PATIENCE.as_nanos() + 1;
            tokio::time::sleep_until(self.started + PATIENCE * u32::try_from(spans).unwrap_or(u32::MAX)).await;
        }
        let closed = || StoreError::Unavailable("it is closed".into());
        self.requests.send(Request::Run(change)).await.map_err(|_| closed())?;
        // The answer is missing only if the change panicked.
        receiver.await.unwrap_or_else(|_| Err(StoreError::Broken("the change was given up".into())))
    }

    /// Lets the thread finish what waits, and waits for it.
    pub(super) async fn stop(&self) -> Result<(), StoreError> {
        #[cfg(feature = "sim")]
        if let Some(inline) = &self.inline {
            *lock(inline) = None;
        }
        // If the thread is gone already there is nobody to tell.
        drop(self.requests.send(Request::Stop).await);
        let Some(thread) = lock(&self.thread).take() else { return Ok(()) };
        let joined = tokio::task::spawn_blocking(move || thread.join()).await;
        match joined {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(StoreError::Broken("the writer's thread panicked".into())),
        }
    }
}

fn run(conn: &Connection, mut requests: mpsc::Receiver<Request>, commits: &Commits) {
    let mut stop = false;
    while !stop && let Some(first) = requests.blocking_recv() {
        let mut batch = Vec::new();
        let mut next = Some(first);
        while let Some(request) = next {
            match request {
                Request::Run(change) => batch.push(change),
                Request::Stop => stop = true,
            }
            next = if batch.len() < BATCH_MAX { requests.try_recv().ok() } else { None };
        }
        if !batch.is_empty() {
            commit(conn, batch, commits);
        }
    }
    // Who came after the stop is told so, instead of being left without an answer.
    requests.close();
    let closed = StoreError::Unavailable("it is closed".into());
    while let Some(request) = requests.blocking_recv() {
        if let Request::Run(change) = request {
            (change(Err(closed.clone())).answer)(Err(closed.clone()));
        }
    }
}

/// One transaction for all; nobody is answered before it is committed.
fn commit(conn: &Connection, batch: Vec<Change>, commits: &Commits) {
    let mut ran = Vec::with_capacity(batch.len());
    let outcome = transact(conn, batch, &mut ran);
    if outcome.is_ok() {
        commits.committed(conn);
    } else if !conn.is_autocommit()
        && let Err(error) = conn.execute_batch("ROLLBACK")
    {
        tracing::error!(%error, "a transaction could not be rolled back");
    }
    for Ran { answer, .. } in ran {
        answer(outcome.clone());
    }
}

fn transact(conn: &Connection, batch: Vec<Change>, ran: &mut Vec<Ran>) -> Result<(), StoreError> {
    let mut begun = execute(conn, "BEGIN IMMEDIATE");
    for change in batch {
        match begun {
            Ok(()) => begun = in_savepoint(conn, change, ran),
            // The change is not run; its caller must hear why, not wait for ever.
            Err(ref error) => ran.push(change(Err(error.clone()))),
        }
    }
    begun?;
    execute(conn, "COMMIT")
}

/// One of the few statements around every change, prepared once.
fn execute(conn: &Connection, sql: &str) -> Result<(), StoreError> {
    conn.prepare_cached(sql)?.execute([])?;
    Ok(())
}

/// Runs one change. An error here means that the whole transaction is lost.
fn in_savepoint(conn: &Connection, change: Change, ran: &mut Vec<Ran>) -> Result<(), StoreError> {
    if let Err(error) = execute(conn, "SAVEPOINT change") {
        ran.push(change(Err(error.clone())));
        return Err(error);
    }
    // A panic is a bug in one request and must not take the store from all the others.
    let done = catch_unwind(AssertUnwindSafe(|| change(Ok(conn))));
    let keep = done.as_ref().is_ok_and(|ran| ran.keep);
    ran.extend(done.ok());
    // SQLite gives up the whole transaction on some errors, a full disk among them.
    if conn.is_autocommit() {
        return Err(StoreError::Unavailable("the transaction was given up; is the disk full?".into()));
    }
    if !keep {
        execute(conn, "ROLLBACK TO change")?;
    }
    execute(conn, "RELEASE change")
}
