//! What a bundle says of its rollout, as waves over its targets.

use genesis_shared::limits::{
    ROLLOUT_ABORT_AT, ROLLOUT_BATCH, ROLLOUT_MIN_SAMPLE, ROLLOUT_PAUSE_AT, ROLLOUT_PAUSE_S, ROLLOUT_VERIFY_S,
    ROLLOUT_WAVES_MAX,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A rollout over a known number of targets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// How many targets have it after each wave; grows, and the last is all of them.
    pub waves: Vec<u32>,
    /// Seconds between a wave that is through and the next.
    pub pause_s: u32,
    /// Share of failures at which it pauses.
    pub pause_at: f64,
    /// Share of failures at which it is aborted.
    pub abort_at: f64,
    /// Answers below which no share is judged.
    pub min_sample: u32,
    /// Seconds after which a missing answer is a failure.
    pub verify_s: u32,
    /// The signed bundle that takes it back, exactly as it was signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback: Option<String>,
}

/// A rollout that cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Not the members that there are.
    #[error("rollout: {0}")]
    Shape(String),
    /// A value that cannot be.
    #[error("rollout.{0}: {1}")]
    Value(&'static str, String),
}

/// As written in a bundle. What is left out comes from the strategy, and without one from `medium`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    strategy: Option<Strategy>,
    waves: Option<Vec<Value>>,
    /// Waves of so many, in place of `waves`.
    batch: Option<u32>,
    pause_s: Option<u32>,
    pause_at: Option<f64>,
    abort_at: Option<f64>,
    min_sample: Option<u32>,
    verify_s: Option<u32>,
    rollback: Option<String>,
}

/// The four presets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Strategy {
    /// All at once.
    Critical,
    /// Batches with a pause between them.
    High,
    /// A canary of 1 %, a tenth, and all.
    #[default]
    Medium,
    /// Batches without a pause.
    Low,
}

impl Plan {
    /// What `rollout` of a bundle means for so many targets.
    ///
    /// # Errors
    /// [`PlanError`].
    pub fn read(rollout: &Value, targets: u32) -> Result<Self, PlanError> {
        let raw: Raw = serde_json::from_value(rollout.clone()).map_err(|e| PlanError::Shape(e.to_string()))?;
        let strategy = raw.strategy.unwrap_or_default();
        let waves = match (&raw.waves, raw.batch, strategy) {
            (Some(_), Some(_), _) => return Err(PlanError::Shape("either waves or batch".into())),
            (Some(waves), None, _) => listed(waves, targets)?,
            (None, Some(0), _) => return Err(PlanError::Value("batch", "at least 1".into())),
            (None, Some(batch), _) => batches(batch, targets),
            (None, None, Strategy::Critical) => vec![targets],
            (None, None, Strategy::High | Strategy::Low) => batches(ROLLOUT_BATCH, targets),
            (None, None, Strategy::Medium) => listed(&["1%".into(), "10%".into(), "100%".into()], targets)?,
        };
        let usual_pause_s = match strategy {
            Strategy::Critical | Strategy::Low => 0,
            Strategy::High | Strategy::Medium => ROLLOUT_PAUSE_S,
        };
        let share = |name, value: Option<f64>, usual: f64| match value.unwrap_or(usual) {
            share if share > 0.0 && share <= 1.0 => Ok(share),
            other => Err(PlanError::Value(name, format!("{other} is not above 0 and at most 1"))),
        };
        let plan = Self {
            waves,
            pause_s: raw.pause_s.unwrap_or(usual_pause_s),
            pause_at: share("pause_at", raw.pause_at, ROLLOUT_PAUSE_AT)?,
            abort_at: share("abort_at", raw.abort_at, ROLLOUT_ABORT_AT)?,
            min_sample: raw.min_sample.unwrap_or(ROLLOUT_MIN_SAMPLE).max(1),
            verify_s: raw.verify_s.unwrap_or(ROLLOUT_VERIFY_S),
            rollback: raw.rollback,
        };
        if plan.pause_at > plan.abort_at {
            return Err(PlanError::Value("pause_at", "it is above abort_at".into()));
        }
        if plan.verify_s == 0 {
            return Err(PlanError::Value("verify_s", "at least 1".into()));
        }
        Ok(plan)
    }

    /// In which wave, from 0, the target of this number, from 0, is.
    pub fn wave_of(&self, target: u32) -> u32 {
        let wave = self.waves.partition_point(|size| *size <= target);
        u32::try_from(wave).unwrap_or(u32::MAX).min(self.count().saturating_sub(1))
    }

    /// How many waves there are.
    pub fn count(&self) -> u32 {
        u32::try_from(self.waves.len()).unwrap_or(u32::MAX)
    }
}

/// Waves of `batch` each; the last ones grow where there would be too many.
fn batches(batch: u32, targets: u32) -> Vec<u32> {
    let most = u32::try_from(ROLLOUT_WAVES_MAX).unwrap_or(u32::MAX);
    let batch = batch.max(targets.div_ceil(most)).max(1);
    let mut waves: Vec<u32> = (1..=targets / batch).map(|n| n * batch).collect();
    if waves.last() != Some(&targets) {
        waves.push(targets);
    }
    waves
}

/// Waves as listed: how many have it in all, as a number or as a share. What is missing in the end is a last wave.
fn listed(waves: &[Value], targets: u32) -> Result<Vec<u32>, PlanError> {
    if waves.is_empty() || waves.len() > ROLLOUT_WAVES_MAX {
        return Err(PlanError::Value("waves", format!("from 1 to {ROLLOUT_WAVES_MAX} are accepted")));
    }
    let mut sizes: Vec<u32> = Vec::with_capacity(waves.len() + 1);
    for wave in waves {
        let refused = || PlanError::Value("waves", format!("{wave} is neither a number nor a share such as \"25%\""));
        let size = match wave.as_str().map(|text| text.strip_suffix('%')) {
            Some(Some(percent)) => {
                let percent: u64 = percent.parse().map_err(|_| refused())?;
                if !(1..=100).contains(&percent) {
                    return Err(refused());
                }
                u32::try_from((u64::from(targets) * percent).div_ceil(100)).unwrap_or(targets)
            }
            Some(None) => return Err(refused()),
            None => wave.as_u64().and_then(|size| u32::try_from(size).ok()).ok_or_else(refused)?,
        };
        if size == 0 {
            return Err(PlanError::Value("waves", "a wave of nobody".into()));
        }
        // Over few targets several waves may mean the same.
        if sizes.last().is_none_or(|last| size > *last) {
            sizes.push(size.min(targets));
        }
    }
    sizes.dedup();
    if sizes.last() != Some(&targets) {
        sizes.push(targets);
    }
    Ok(sizes)
}
