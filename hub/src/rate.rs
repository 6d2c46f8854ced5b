//! How often one token may ask: a bucket per token, kept only while it is not full.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};

use genesis_shared::timestamp::Timestamp;

/// A rate and how much may come at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Requests per second in the long run; at least 1.
    pub per_s: u32,
    /// Requests at once after a pause; at least 1.
    pub burst: u32,
}

/// Buckets by key. A key costs memory only until its bucket is full again, and keys are tokens that the hub gave out.
///
/// Each is one number, the moment at which it would be empty of debts (the generic cell rate algorithm): a request
/// moves it on by one interval, and is refused where it would then lie further ahead than the burst.
#[derive(Debug)]
pub struct Buckets<K>(Mutex<HashMap<K, i64>>);

impl<K> Default for Buckets<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

/// Microseconds; with milliseconds a rate above 1000/s could not be told.
const SECOND: i64 = 1_000_000;

impl<K: Eq + Hash> Buckets<K> {
    /// Takes one request out of the bucket of `key`.
    ///
    /// # Errors
    /// Whole seconds after which it may ask again, at least 1.
    pub fn take(&self, key: K, rate: Rate, now: Timestamp) -> Result<(), u64> {
        let now = now.millis().saturating_mul(1000);
        let interval = SECOND / i64::from(rate.per_s.max(1));
        let ahead_max = interval.saturating_mul(i64::from(rate.burst.max(1)));
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let free_at = buckets.entry(key).or_insert(now);
        let next = (*free_at).max(now).saturating_add(interval);
        let over = next.saturating_sub(now).saturating_sub(ahead_max);
        if over > 0 {
            return Err(u64::try_from(over.saturating_add(SECOND - 1) / SECOND).unwrap_or(1).max(1));
        }
        *free_at = next;
        Ok(())
    }

    /// Forgets the full ones, which are as if they had never been.
    pub fn forget_full(&self, now: Timestamp) {
        let now = now.millis().saturating_mul(1000);
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        buckets.retain(|_, free_at| *free_at > now);
        if buckets.len() * 4 < buckets.capacity() {
            buckets.shrink_to_fit();
        }
    }

    /// Buckets that are held.
    pub fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether none is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { per_s: 10, burst: 3 };

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(1_790_000_000_000 + millis)
    }

    #[test]
    fn a_burst_passes_then_the_rate_and_one_key_does_not_touch_another() {
        let buckets = Buckets::default();
        for _ in 0..3 {
            assert_eq!(buckets.take("a", RATE, at(0)), Ok(()));
        }
        assert_eq!(buckets.take("a", RATE, at(0)), Err(1));
        assert_eq!(buckets.take("b", RATE, at(0)), Ok(()));
        assert_eq!(buckets.take("a", RATE, at(99)), Err(1));
        assert_eq!(buckets.take("a", RATE, at(100)), Ok(()));
        // Ten a second, whatever was refused in between.
        let passed = (101..=1100).filter(|ms| buckets.take("a", RATE, at(*ms)).is_ok()).count();
        assert_eq!(passed, 10);
    }

    #[test]
    fn says_how_long_to_wait_and_forgets_what_is_full() {
        let buckets = Buckets::default();
        let slow = Rate { per_s: 1, burst: 5 };
        (0..5).for_each(|_| assert_eq!(buckets.take((), slow, at(0)), Ok(())));
        assert_eq!(buckets.take((), slow, at(0)), Err(1));
        buckets.forget_full(at(4_999));
        assert_eq!(buckets.len(), 1);
        buckets.forget_full(at(5_000));
        assert!(buckets.is_empty());
        // A clock that was set back does not lock anybody out for longer than it went back.
        assert_eq!(buckets.take((), slow, at(0)), Ok(()));
    }
}
