//! When a job whose lease ended without an answer is handed out again.

use genesis_shared::limits::{RETRY_MS_MAX, RETRY_MS_MIN};

/// Milliseconds to wait after hand-out `attempts`, drawn by `random` from nothing to an exponential bound. The jitter
/// comes after the cap and is a full one: jobs that failed together do not come back together, however long it went on.
///
/// A droplet that asks again by itself is not kept waiting by this; it paces its polls with jitter of its own.
pub fn delay_ms(attempts: u32, random: u64) -> i64 {
    let doublings = attempts.saturating_sub(1).min(32);
    let bound = RETRY_MS_MIN.saturating_mul(1 << doublings).min(RETRY_MS_MAX);
    i64::try_from(random % (bound + 1)).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_jitter_is_full_and_comes_after_the_cap() {
        for (attempts, bound) in [(0, RETRY_MS_MIN), (1, RETRY_MS_MIN), (2, 2 * RETRY_MS_MIN), (60, RETRY_MS_MAX)] {
            let delays: Vec<i64> = (0..=bound).map(|random| delay_ms(attempts, random)).collect();
            assert_eq!((delays[0], *delays.last().unwrap()), (0, i64::try_from(bound).unwrap()), "{attempts}");
            assert!(delays.windows(2).all(|pair| pair[1] == pair[0] + 1), "every value is drawn");
        }
    }
}
