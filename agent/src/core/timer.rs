//! How long to wait before trying again, and between heartbeats: always with jitter, the jitter applied after the cap.

use std::time::Duration;

use genesis_shared::limits::{BACKOFF_MS_MAX, BACKOFF_MS_MIN};

/// The wait before try `attempt` + 1 (the first try is 1), drawn by `random` from zero to the exponential bound.
///
/// Jitter after the cap keeps a fleet that has been failing for an hour from trying in step.
pub fn backoff(attempt: u32, random: u64) -> Duration {
    jitter(exponential(attempt), random)
}

/// The wait before turning to the hub again, drawn from zero to half a heartbeat interval (`usual`) already at the first
/// try, to the exponential bound later; 30 s at most, which is half the interval of 60 s.
///
/// When a hub restarts, the whole fleet loses it in the same moment, and an exponential that begins small would bring
/// everybody back in the same second. Spread over half an interval they are at most some twice the requests that the
/// hub has from their heartbeats anyway.
pub fn reconnect(usual: Duration, attempt: u32, random: u64) -> Duration {
    let half_ms = u64::try_from(usual.as_millis() / 2).unwrap_or(u64::MAX);
    jitter(exponential(attempt).max(half_ms).min(BACKOFF_MS_MAX), random)
}

/// The wait where nothing but a person can help: about the largest backoff, and still spread.
pub fn patient(random: u64) -> Duration {
    Duration::from_millis(BACKOFF_MS_MAX / 2 + random % (BACKOFF_MS_MAX + 1))
}

/// When an agent that was started again sends its first heartbeat: anywhere within an interval.
pub fn first_beat(usual: Duration, random: u64) -> Duration {
    let usual_ms = u64::try_from(usual.as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(random % usual_ms.max(1))
}

/// The wait between two heartbeats: the interval, up to a tenth earlier. A fleet that fell into step, because a hub
/// came back or a region was powered on, falls out of it again; never later, for the hub counts what it misses.
pub fn beat_after(usual: Duration, random: u64) -> Duration {
    let usual_ms = u64::try_from(usual.as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(usual_ms - random % (usual_ms / 10 + 1))
}

fn exponential(attempt: u32) -> u64 {
    let doublings = attempt.saturating_sub(1).min(32);
    BACKOFF_MS_MIN.saturating_mul(1 << doublings).min(BACKOFF_MS_MAX)
}

/// Uniform up to the bound, and at least a twentieth of it: an unlucky draw must not make a tight loop.
fn jitter(bound: u64, random: u64) -> Duration {
    let floor = bound / 20;
    Duration::from_millis(floor + random % (bound - floor + 1))
}

#[cfg(test)]
#[path = "timer_tests.rs"]
mod tests;
