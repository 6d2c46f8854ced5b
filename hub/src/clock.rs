//! Where the hub's time comes from; a test sets its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::UNIX_EPOCH;

use genesis_shared::timestamp::Timestamp;

/// Tells the time. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System,
    Manual(Arc<AtomicI64>),
    #[cfg(feature = "sim")]
    Runtime(Timestamp, tokio::time::Instant),
}

impl Clock {
    /// The system's clock.
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that stands still at `at` until [`Clock::advance`] moves it; clones share it.
    pub fn manual(at: Timestamp) -> Self {
        Self(Source::Manual(Arc::new(AtomicI64::new(at.millis()))))
    }

    /// The runtime's time, `at` at this moment: it stands still and jumps ahead with a runtime whose time is paused.
    #[cfg(feature = "sim")]
    pub fn of_runtime(at: Timestamp) -> Self {
        Self(Source::Runtime(at, tokio::time::Instant::now()))
    }

    /// The time.
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Source::System => system_now(),
            Source::Manual(millis) => Timestamp::from_millis(millis.load(Ordering::SeqCst)),
            #[cfg(feature = "sim")]
            Source::Runtime(at, since) => {
                at.plus_millis(i64::try_from(since.elapsed().as_millis()).unwrap_or(i64::MAX))
            }
        }
    }

    /// Moves a manual clock by `millis`; the system's clock is not ours to move and stays as it is.
    pub fn advance(&self, millis: i64) {
        if let Source::Manual(at) = &self.0 {
            at.fetch_add(millis, Ordering::SeqCst);
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "the one place of the hub that asks the system for the time")]
fn system_now() -> Timestamp {
    // A clock before 1970 is broken; the epoch is as good as any other wrong time and keeps the hub answering.
    let since = std::time::SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
