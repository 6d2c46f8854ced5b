//! Samples of the host -> condition, with hysteresis (protocol.md, "Health").

use genesis_shared::life::QUARANTINED_STATE;

use crate::ports::HostSample;

/// Whether the droplet copes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Within its means.
    Healthy,
    /// Short of processor, memory or disk for several samples.
    Degraded,
    /// So much differs from what was deployed that nothing is repaired until an operator has looked.
    Drifted,
    /// Perhaps a restored snapshot or a clone: nothing is changed until an operator has resumed it.
    Quarantined,
}

impl Condition {
    /// The single name shown to people.
    pub fn state_name(self) -> &'static str {
        match self {
            Self::Healthy => "ACTIVE_HEALTHY",
            Self::Degraded => "ACTIVE_DEGRADED",
            Self::Drifted => "DRIFT_DETECTED",
            Self::Quarantined => QUARANTINED_STATE,
        }
    }
}

/// Samples in a row above the limit before the droplet counts as degraded: processor, memory, disk.
const SAMPLES_TO_DEGRADE: [u32; 3] = [5, 5, 3];
/// Samples in a row below the lower limits before it counts as healthy again.
const SAMPLES_TO_RECOVER: u32 = 3;
/// Percent above which a sample is bad: processor, memory, disk.
const HIGH: [f32; 3] = [80.0, 85.0, 90.0];
/// Percent below which a sample is good.
const LOW: [f32; 3] = [70.0, 75.0, 85.0];

/// The condition and the samples that led to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    condition: Condition,
    high_in_a_row: [u32; 3],
    low_in_a_row: u32,
}

impl Default for Health {
    fn default() -> Self {
        Self { condition: Condition::Healthy, high_in_a_row: [0; 3], low_in_a_row: 0 }
    }
}

impl Health {
    /// The current condition.
    pub fn condition(&self) -> Condition {
        self.condition
    }

    /// Takes in one sample.
    pub fn observe(&mut self, sample: &HostSample) {
        let memory = match sample.memory_total_mb {
            0 => 0.0,
            total => percent(sample.memory_usage_mb, total),
        };
        let values = [sample.cpu_usage_percent, memory, sample.disk_usage_percent];
        for (n, value) in values.iter().enumerate() {
            self.high_in_a_row[n] = if *value > HIGH[n] { self.high_in_a_row[n] + 1 } else { 0 };
        }
        let all_low = values.iter().zip(LOW).all(|(value, low)| *value < low);
        self.low_in_a_row = if all_low { self.low_in_a_row + 1 } else { 0 };

        if self.high_in_a_row.iter().zip(SAMPLES_TO_DEGRADE).any(|(count, limit)| *count >= limit) {
            self.condition = Condition::Degraded;
        } else if self.low_in_a_row >= SAMPLES_TO_RECOVER {
            self.condition = Condition::Healthy;
        }
    }
}

#[allow(clippy::cast_precision_loss, reason = "a percentage needs no more digits than an f32 has")]
fn percent(part: u64, whole: u64) -> f32 {
    part as f32 * 100.0 / whole as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(samples: &[(f32, u64, f32)]) -> Condition {
        let mut health = Health::default();
        for &(cpu_usage_percent, memory_usage_mb, disk_usage_percent) in samples {
            health.observe(&HostSample {
                cpu_usage_percent,
                memory_usage_mb,
                memory_total_mb: 100,
                disk_usage_percent,
                ..HostSample::default()
            });
        }
        health.condition()
    }

    #[test]
    fn degrades_after_five_busy_samples_but_not_after_four() {
        assert_eq!(after(&[(81.0, 0, 0.0); 4]), Condition::Healthy);
        assert_eq!(after(&[(81.0, 0, 0.0); 5]), Condition::Degraded);
        assert_eq!(after(&[(0.0, 86, 0.0); 5]), Condition::Degraded);
        assert_eq!(after(&[(0.0, 0, 91.0); 3]), Condition::Degraded);
    }

    #[test]
    fn exactly_the_limit_is_not_above_it() {
        assert_eq!(after(&[(80.0, 85, 90.0); 9]), Condition::Healthy);
    }

    #[test]
    fn recovers_only_after_three_samples_below_the_lower_limits() {
        let mut samples = vec![(95.0, 0, 0.0); 5];
        samples.extend([(75.0, 0, 0.0); 9]);
        assert_eq!(after(&samples), Condition::Degraded, "between the limits nothing changes");
        samples.extend([(60.0, 0, 0.0); 2]);
        assert_eq!(after(&samples), Condition::Degraded);
        samples.push((60.0, 0, 0.0));
        assert_eq!(after(&samples), Condition::Healthy);
    }
}
