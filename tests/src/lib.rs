//! The test harness: real binaries of hub and agent, a real or pretend n8n, an operator with keys.
//!
//! Everything lives in a temporary folder, listens on ports that the system chose, and is killed when dropped. What is
//! waited for is an event or a state, never a span of time.
#![allow(clippy::unwrap_used, reason = "a harness that cannot go on fails its test")]

pub mod attack;
pub mod caddy;
pub mod canary;
pub mod droplet;
pub mod engine;
pub mod fleet;
pub mod fuzz;
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
pub mod stack;
pub mod traffic;
pub mod updates;

use std::time::{Duration, Instant};

/// How long anything may take before its test fails. Generous: a loaded machine is no reason to fail.
pub const PATIENCE: Duration = Duration::from_secs(180);

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
