//! The small ports of a pretend droplet: time, randomness, files, the machine.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use genesis_shared::id::DropletId;
use genesis_shared::secret::Secret;
use genesis_shared::timestamp::Timestamp;
use genesis_shared::wire::Preflight;
use tokio::time::Instant;

use super::crash::Crash;
use crate::ports::{Clock, Entropy, FileError, Files, Host, HostSample};

/// When every simulation begins, 2026-01-01T00:00:00Z in milliseconds.
const EPOCH_MS: i64 = 1_767_225_600_000;

/// The paused time of the runtime, with a wall clock that can be set wrong.
#[derive(Clone)]
pub struct SimClock {
    started: Instant,
    skew_ms: Rc<Cell<i64>>,
}

impl SimClock {
    /// Begins now.
    #[allow(clippy::new_without_default, reason = "it begins at a moment, which a default does not suggest")]
    pub fn new() -> Self {
        Self { started: Instant::now(), skew_ms: Rc::default() }
    }
    /// Sets the wall clock off by this much; time that passes is not touched.
    pub fn set_skew_ms(&self, millis: i64) {
        self.skew_ms.set(millis);
    }
    /// Whether the wall clock is set wrong.
    pub fn is_off(&self) -> bool {
        self.skew_ms.get() != 0
    }
}

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        let passed = i64::try_from(self.monotonic().as_millis()).unwrap_or(i64::MAX);
        Timestamp::from_millis(EPOCH_MS).plus_millis(passed).plus_millis(self.skew_ms.get())
    }
    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }
    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

/// Numbers that follow from a seed. Clones share the sequence.
#[derive(Clone)]
pub struct SimEntropy(Rc<Cell<u64>>);

impl SimEntropy {
    /// The sequence of a seed.
    pub fn new(seed: u64) -> Self {
        Self(Rc::new(Cell::new(seed)))
    }
    fn next(&self) -> u64 {
        // SplitMix64 (Steele, Lea, Flood 2014): short, and good enough to be told apart.
        let state = self.0.get().wrapping_add(0x9E37_79B9_7F4A_7C15);
        self.0.set(state);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

impl Entropy for SimEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.next().to_le_bytes()[..chunk.len()]);
        }
    }
}

/// Files in memory.
pub struct SimFiles {
    content: RefCell<BTreeMap<String, Secret<Vec<u8>>>>,
    full: Cell<bool>,
    crash: Crash,
}

impl SimFiles {
    /// An empty disk.
    pub fn new(crash: Crash) -> Self {
        Self { content: RefCell::default(), full: Cell::default(), crash }
    }
    /// Makes every write fail for want of space, or lets it succeed again.
    pub fn set_full(&self, full: bool) {
        self.full.set(full);
    }
    /// Puts a file outside the data folder.
    pub fn put_outside(&self, path: &str, content: &[u8]) {
        self.content.borrow_mut().insert(format!("outside:{path}"), Secret::new(content.to_vec()));
    }
    /// Whether there is such a file outside the data folder.
    pub fn is_outside(&self, path: &str) -> bool {
        self.content.borrow().contains_key(&format!("outside:{path}"))
    }
    fn point(&self, operation: &'static str, path: &str) -> Result<(), FileError> {
        if self.crash.is_over() { Err(failed(operation, path, io::ErrorKind::Other)) } else { Ok(()) }
    }
}

impl Files for SimFiles {
    fn read_secret(&self, name: &str) -> Result<Option<Secret<Vec<u8>>>, FileError> {
        Ok(self.content.borrow().get(name).cloned())
    }
    fn write_secret(&self, name: &str, content: &Secret<Vec<u8>>) -> Result<(), FileError> {
        if self.full.get() {
            return Err(failed("write", name, io::ErrorKind::StorageFull));
        }
        self.point("write", name)?;
        self.content.borrow_mut().insert(name.to_owned(), content.clone());
        self.point("write", name)
    }
    fn read_outside(&self, path: &str) -> Result<Option<Secret<Vec<u8>>>, FileError> {
        Ok(self.content.borrow().get(&format!("outside:{path}")).cloned())
    }
    fn remove_outside(&self, path: &str) -> Result<(), FileError> {
        self.point("remove", path)?;
        self.content.borrow_mut().remove(&format!("outside:{path}"));
        self.point("remove", path)
    }
}

fn failed(operation: &'static str, path: &str, kind: io::ErrorKind) -> FileError {
    FileError { operation, path: path.to_owned(), source: io::Error::from(kind) }
}

/// A machine of 1 GB with nothing to do.
#[derive(Default)]
pub struct SimHost {
    /// What it says which droplet it is.
    pub droplet_id: Rc<RefCell<Option<DropletId>>>,
}

impl Host for SimHost {
    fn sample(&self) -> HostSample {
        HostSample {
            cpu_usage_percent: 3.0,
            memory_usage_mb: 600,
            memory_total_mb: 972,
            disk_usage_percent: 20.0,
            swap_used_mb: 0,
            uptime_seconds: 1,
        }
    }
    fn preflight(&self) -> Preflight {
        Preflight { swap_total_mb: 4096, memory_total_mb: 972, disk_free_mb: 20_000, cpus: 1, ..Preflight::default() }
    }
    fn free_mb(&self) -> Option<u64> {
        Some(20_000)
    }
    fn set_ballast(&self, _: u64) -> Result<bool, FileError> {
        Ok(false)
    }
    fn boot_epoch(&self) -> String {
        "sim".to_owned()
    }
    fn droplet_id(&self) -> Option<DropletId> {
        self.droplet_id.borrow().clone()
    }
}
