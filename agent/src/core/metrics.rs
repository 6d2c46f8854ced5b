//! Executions -> counts. No content of an execution can pass: there is no field that could hold any.

use std::collections::BTreeMap;

use genesis_shared::report::Metrics;
use genesis_shared::timestamp::Timestamp;

/// An execution as n8n lists it, without its data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Execution {
    /// n8n's word for its state.
    pub status: String,
    /// When it began.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub stopped_at: Option<Timestamp>,
}

/// n8n's words for an end that is no success; any other word counts as `other`.
const ERROR_TYPES: &[&str] = &["error", "crashed", "canceled"];

/// Counts executions that ended.
pub fn count(executions: &[Execution], since: Timestamp, truncated: bool) -> Metrics {
    let mut error_types = BTreeMap::new();
    let (mut total, mut succeeded, mut timed, mut millis) = (0_u64, 0_u64, 0_u64, 0_u64);
    for execution in executions.iter().filter(|execution| execution.started_at.is_none_or(|at| at >= since)) {
        match execution.status.as_str() {
            "running" | "waiting" | "new" => continue,
            "success" => succeeded += 1,
            other => {
                let known = ERROR_TYPES.iter().find(|known| **known == other).copied().unwrap_or("other");
                *error_types.entry(known.to_owned()).or_insert(0) += 1;
            }
        }
        total += 1;
        if let (Some(from), Some(to)) = (execution.started_at, execution.stopped_at) {
            timed += 1;
            millis += to.millis_since(from).max(0).unsigned_abs();
        }
    }
    #[allow(clippy::cast_precision_loss, reason = "a rate needs few digits")]
    let success_rate = (total > 0).then(|| succeeded as f64 / total as f64);
    let avg_duration_ms = millis.checked_div(timed);
    Metrics { total_executions: total, success_rate, avg_duration_ms, error_types, since, truncated }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn execution(status: &str, from: i64, to: i64) -> Execution {
        let at = |millis| Some(Timestamp::from_millis(millis));
        Execution { status: status.into(), started_at: at(from), stopped_at: at(to) }
    }

    #[test]
    fn counts_what_ended_since() {
        let executions = [
            execution("success", 1000, 1100),
            execution("error", 1000, 1300),
            execution("running", 1000, 0),
            execution("success", 10, 20),
            execution("a word with a secret in it", 2000, 2000),
        ];
        let metrics = count(&executions, Timestamp::from_millis(500), false);
        assert_eq!((metrics.total_executions, metrics.success_rate), (3, Some(1.0 / 3.0)));
        assert_eq!(metrics.avg_duration_ms, Some(133));
        assert_eq!(metrics.error_types, BTreeMap::from([("error".to_owned(), 1), ("other".to_owned(), 1)]));
    }

    #[test]
    fn nothing_counted_has_no_rates() {
        let metrics = count(&[], Timestamp::from_millis(0), false);
        assert_eq!((metrics.success_rate, metrics.avg_duration_ms), (None, None));
    }

    /// The only texts are fixed words and a time; everything else is a number or a truth value.
    #[test]
    fn no_content_can_get_through() {
        let metrics = count(&[execution("tenant@example.com", 1, 2)], Timestamp::from_millis(0), true);
        let value = serde_json::to_value(&metrics).unwrap();
        assert!(!value.to_string().contains("tenant"));
        for (key, value) in value.as_object().unwrap() {
            let fixed = value.is_number() || value.is_boolean() || value.is_null() || key == "since";
            let counts = value.as_object().is_some_and(|counts| counts.values().all(serde_json::Value::is_number));
            assert!(fixed || counts, "{key}: {value}");
        }
    }
}
