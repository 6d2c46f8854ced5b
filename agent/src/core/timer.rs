//! How long to wait before trying again: exponential with full jitter, the jitter applied after the cap.

use std::time::Duration;

use genesis_shared::limits::{BACKOFF_MS_MAX, BACKOFF_MS_MIN};

/// The wait before try `attempt` + 1 (the first try is 1), drawn by `random` from zero to the exponential bound.
///
/// Jitter after the cap keeps a fleet that has been failing for an hour from trying in step.
pub fn backoff(attempt: u32, random: u64) -> Duration {
    let doublings = attempt.saturating_sub(1).min(32);
    let bound = BACKOFF_MS_MIN.saturating_mul(1 << doublings).min(BACKOFF_MS_MAX);
    // At least a twentieth of the bound: an unlucky draw must not make a tight loop.
    let floor = bound / 20;
    Duration::from_millis(floor + random % (bound - floor + 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn stays_within_the_bound_for_every_attempt(attempt in any::<u32>(), random in any::<u64>()) {
            let wait = backoff(attempt, random).as_millis();
            prop_assert!(wait <= u128::from(BACKOFF_MS_MAX));
            prop_assert!(wait >= u128::from(BACKOFF_MS_MIN / 20));
        }
    }

    #[test]
    fn the_bound_doubles_until_the_cap_and_jitter_spans_it() {
        assert_eq!(backoff(1, BACKOFF_MS_MIN - BACKOFF_MS_MIN / 20), Duration::from_millis(BACKOFF_MS_MIN));
        let spread: Vec<u128> = (0..1000).map(|n| backoff(40, n * 7919).as_millis()).collect();
        assert!(spread.iter().max() > Some(&29_000) || spread.iter().min() < Some(&3_000));
    }
}
