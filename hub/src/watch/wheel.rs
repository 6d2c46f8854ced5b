//! Deadlines by the second: setting, moving and expiring one costs the same however many there are.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::Hash;

use genesis_shared::timestamp::Timestamp;

/// Deadlines of things that have at most one each.
#[derive(Debug)]
pub struct Wheel<K> {
    /// By the second in which they end, rounded up: none is early, each at most a second late.
    seconds: BTreeMap<i64, BTreeSet<K>>,
    placed: HashMap<K, i64>,
}

impl<K: Copy + Eq + Hash + Ord> Wheel<K> {
    /// Without deadlines.
    pub fn new() -> Self {
        Self { seconds: BTreeMap::new(), placed: HashMap::new() }
    }

    /// Sets or moves the deadline of `key`.
    pub fn set(&mut self, key: K, at: Timestamp) {
        let second = at.millis().div_euclid(1000) + i64::from(at.millis().rem_euclid(1000) > 0);
        if self.placed.get(&key) == Some(&second) {
            return;
        }
        self.clear(key);
        self.placed.insert(key, second);
        self.seconds.entry(second).or_default().insert(key);
    }

    /// Takes the deadline of `key` away.
    pub fn clear(&mut self, key: K) {
        let Some(second) = self.placed.remove(&key) else { return };
        if let Some(keys) = self.seconds.get_mut(&second) {
            keys.remove(&key);
            if keys.is_empty() {
                self.seconds.remove(&second);
            }
        }
    }

    /// Takes out whose deadline is over, the earliest first.
    pub fn over(&mut self, now: Timestamp) -> Vec<K> {
        let mut over = Vec::new();
        while let Some(first) = self.seconds.first_entry().filter(|first| first.key() * 1000 <= now.millis()) {
            over.extend(first.remove());
        }
        for key in &over {
            self.placed.remove(key);
        }
        over
    }
}

impl<K: Copy + Eq + Hash + Ord> Default for Wheel<K> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    #[test]
    fn a_deadline_is_never_early_at_most_a_second_late_and_moves() {
        let mut wheel = Wheel::new();
        wheel.set(1, at(10_001));
        wheel.set(2, at(10_000));
        wheel.set(3, at(9_000));
        wheel.set(3, at(12_000));
        assert!(wheel.over(at(9_999)).is_empty());
        assert_eq!(wheel.over(at(10_001)), [2], "the other one's second is not over");
        assert_eq!(wheel.over(at(11_000)), [1]);
        wheel.clear(3);
        assert!(wheel.over(at(99_000)).is_empty() && wheel.seconds.is_empty() && wheel.placed.is_empty());
    }
}
