//! The ordered text of a run and its SHA-256: two runs of one seed must give the same.

use std::cell::{Cell, RefCell};
use std::fmt::Display;
use std::io::Write;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use data_encoding::HEXLOWER;
use ring::digest::{Context, SHA256};
use tokio::time::Instant;
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::fmt::MakeWriter;

use crate::canary;

/// What happened, in order. Clones share it.
#[derive(Clone)]
pub struct Trace(Rc<Inner>);

struct Inner {
    hash: RefCell<Context>,
    started: Instant,
    /// Whether lines go to stderr as they come.
    aloud: bool,
    log: Log,
    leaked: Cell<bool>,
    _guard: DefaultGuard,
}

impl Trace {
    /// An empty trace; agent and hub log into it from now on, on this thread.
    pub fn new(aloud: bool) -> Self {
        let log = Log::default();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::INFO)
            .without_time()
            .with_target(false)
            .with_writer(log.clone())
            .finish();
        Self(Rc::new(Inner {
            hash: RefCell::new(Context::new(&SHA256)),
            started: Instant::now(),
            aloud,
            log,
            leaked: Cell::default(),
            _guard: tracing::subscriber::set_default(subscriber),
        }))
    }

    /// Adds a line, after what was logged before it.
    pub fn line(&self, text: impl Display) {
        self.drain();
        let line = format!("{:>9} {text}\n", self.0.started.elapsed().as_millis());
        self.add(line.as_bytes());
    }

    /// Whether a canary was logged.
    pub fn leaked(&self) -> bool {
        self.drain();
        self.0.leaked.get()
    }

    /// Seconds of simulated time so far.
    pub fn seconds(&self) -> f64 {
        self.0.started.elapsed().as_secs_f64()
    }

    /// SHA-256 of everything so far, in hex.
    pub fn hash(&self) -> String {
        self.drain();
        HEXLOWER.encode(self.0.hash.borrow().clone().finish().as_ref())
    }

    fn drain(&self) {
        let logged = std::mem::take(&mut *self.0.log.lock());
        if !logged.is_empty() {
            if canary::holds(&logged) {
                self.0.leaked.set(true);
            }
            self.add(&logged);
        }
    }

    fn add(&self, bytes: &[u8]) {
        self.0.hash.borrow_mut().update(bytes);
        if self.0.aloud {
            #[allow(clippy::print_stderr, reason = "a replay is to be read")]
            {
                eprint!("{}", String::from_utf8_lossy(bytes));
            }
        }
    }
}

/// Where the log goes.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn lock(&self) -> MutexGuard<'_, Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;
    fn make_writer(&self) -> Self {
        self.clone()
    }
}
