//! How each droplet was over the last hours: one sample a minute, in memory, for the charts of the fleet page.
//!
//! The latest report is durable; its forerunners are not worth a write to disk each. A hub that starts anew begins with
//! empty charts, and says since when it has been looking.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use genesis_shared::id::DropletId;
use genesis_shared::report::Heartbeat;
use genesis_shared::timestamp::Timestamp;

/// Samples of a droplet: three hours at one a minute. At 8 bytes each, and room to grow, 2 KB: 30 MB at 15,000.
pub const SAMPLES_MAX: usize = 180;
/// Two samples are at least so far apart: a little less than a heartbeat's minute, which comes with jitter.
const APART_MS: i64 = 50_000;

/// One sample, 8 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Seconds since the epoch, good until 2106.
    at_s: u32,
    /// Processor, 0 to 100.
    pub cpu_percent: u8,
    /// Memory, 0 to 100.
    pub memory_percent: u8,
    /// Disk, 0 to 100.
    pub disk_percent: u8,
    /// Whether the agent said that all was well.
    pub healthy: bool,
}

impl Sample {
    /// What of a report is kept.
    pub fn of(beat: &Heartbeat, now: Timestamp) -> Self {
        let memory = beat.memory_usage_mb.saturating_mul(100) / beat.memory_total_mb.max(1);
        Self {
            at_s: u32::try_from(now.seconds()).unwrap_or(u32::MAX),
            cpu_percent: percent(beat.cpu_usage_percent),
            memory_percent: u8::try_from(memory.min(100)).unwrap_or(100),
            disk_percent: percent(beat.disk_usage_percent),
            healthy: beat.state == "ACTIVE_HEALTHY",
        }
    }

    /// When the hub heard it.
    pub fn at(self) -> Timestamp {
        Timestamp::from_millis(i64::from(self.at_s) * 1000)
    }
}

/// A percentage in whole numbers; what is none counts as nearest end.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped before; NaN becomes 0")]
fn percent(value: f32) -> u8 {
    value.clamp(0.0, 100.0).round() as u8
}

/// The samples of all droplets.
#[derive(Debug, Default)]
pub struct History(Mutex<HashMap<DropletId, VecDeque<Sample>>>);

impl History {
    /// Keeps a sample, unless the one before is less than a minute old. Only droplets with a token get here, so there
    /// are as many as are registered.
    pub fn note(&self, droplet: &DropletId, sample: Sample) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let samples = match all.get_mut(droplet) {
            Some(samples) => samples,
            None => all.entry(droplet.clone()).or_default(),
        };
        let apart = |last: &Sample| sample.at().millis_since(last.at()).abs() >= APART_MS;
        if samples.back().is_none_or(apart) {
            if samples.len() == SAMPLES_MAX {
                samples.pop_front();
            }
            samples.push_back(sample);
        }
    }

    /// The samples of one droplet, oldest first.
    pub fn of(&self, droplet: &DropletId) -> Vec<Sample> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(droplet).map(|samples| samples.iter().copied().collect()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_a_minute_for_three_hours() {
        let history = History::default();
        let droplet: DropletId = "d1".parse().unwrap();
        let sample = |s: u32| Sample { at_s: s, cpu_percent: 1, memory_percent: 2, disk_percent: 3, healthy: true };
        for second in (0..20_000).step_by(10) {
            history.note(&droplet, sample(second));
        }
        let kept = history.of(&droplet);
        assert_eq!((kept.len(), kept[0].at_s, kept[179].at_s), (180, 19_950 - 179 * 50, 19_950));
        assert!(history.of(&"d2".parse().unwrap()).is_empty());
        assert_eq!((percent(f32::NAN), percent(-3.0), percent(1e9), percent(41.5)), (0, 0, 100, 42));
        assert_eq!(size_of::<Sample>(), 8);
    }
}
