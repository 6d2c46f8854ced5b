//! The test harness: real binaries of hub and agent, a real or pretend n8n, an operator with keys.
//!
//! Everything lives in a temporary folder, listens on ports that the system chose, and is killed when dropped. What is
//! waited for is an event or a state, never a span of time.
#![allow(clippy::unwrap_used, reason = "a harness that cannot go on fails its test")]

pub mod attack;
pub mod browser;
pub mod caddy;
pub mod canary;
pub mod crowd;
pub mod droplet;
pub mod engine;
pub mod fleet;
pub mod forced;
pub mod fuzz;
pub mod hub;
pub mod kills;
pub mod lab;
pub mod n8n;
pub mod operator;
pub mod power;
pub mod process;
pub mod proofs;
pub mod registry;
pub mod rig;
pub mod scenario;
pub mod siege;
pub mod stack;
pub mod swaps;
pub mod swarm;
pub mod traffic;
pub mod updates;

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

/// How long anything may take before its test fails. Generous: a loaded machine is no reason to fail.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// How long a whole test may take that says so by [`deadline`].
const DEADLINE: Duration = Duration::from_secs(480);

/// Dropped, there is no deadline any more.
#[must_use]
pub struct Deadline {
    _alive: Sender<()>,
}

/// Ends the process with a clear message when this test has not ended in eight minutes. No timer of the test's own can
/// do that where time is paused, or where the agent turns round and round without ever waiting.
pub fn deadline() -> Deadline {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    let (alive, ended) = channel();
    std::thread::spawn(move || {
        if ended.recv_timeout(DEADLINE) == Err(RecvTimeoutError::Timeout) {
            #[allow(clippy::print_stderr, reason = "whoever waits for the tests is to know which one it was")]
            {
                eprintln!("{test} has not ended in {} s: what it waits for never comes", DEADLINE.as_secs());
            }
            std::process::exit(101);
        }
    });
    Deadline { _alive: alive }
}

/// Waits until `look` finds something.
///
/// # Panics
/// Nothing was found within [`PATIENCE`].
pub async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut look: impl FnMut() -> F) -> T {
    #[allow(clippy::disallowed_methods, reason = "patience is measured, not simulated")]
    let started = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(started.elapsed() < PATIENCE, "waited {} s for {what}", PATIENCE.as_secs());
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}
