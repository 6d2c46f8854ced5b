//! The demo's result, and whether it is what it should be.

use genesis_shared::command::{Action, CommandWire};
use genesis_shared::wire::{DropletView, JobView};
use serde::Serialize;
use serde_json::Value;

use crate::error::Error;

/// The state that the droplet must reach.
pub const GOAL_STATE: &str = "ACTIVE_HEALTHY";
/// The workflows that must be active.
pub const GOAL_WORKFLOWS: u32 = 7;

/// What `demo --json` prints as its last line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The droplet's state as the hub derives it.
    pub state: String,
    /// Managed workflows that are active, as the droplet reports.
    pub workflows_active: u32,
    /// Credentials that n8n has an id for.
    pub credentials_injected: usize,
    /// Milliseconds from the push to the hub's knowing the result.
    pub ignition_ms: u64,
    /// The agent's resident memory; `null` where the system does not tell.
    pub agent_rss_bytes: Option<u64>,
    /// n8n's version; the stand-in calls its own `stand-in`.
    pub n8n: String,
    /// What the template asks for.
    #[serde(skip)]
    credentials_wanted: usize,
    /// Workflows that the commands said to have activated.
    #[serde(skip)]
    activated: usize,
}

impl Report {
    /// From the commands that were sent, the droplet's answers to them, and its health.
    pub fn new(
        commands: &[CommandWire],
        job: &JobView,
        droplet: &DropletView,
        credentials_wanted: usize,
        ignition_ms: u64,
        agent_rss_bytes: Option<u64>,
    ) -> Self {
        let answers = job.result.as_ref().and_then(|result| result.output.as_array()).map_or(&[][..], Vec::as_slice);
        let of = |action: Action| {
            let pairs = commands.iter().zip(answers);
            pairs.filter(move |(command, _)| command.action == action.name()).map(|(_, answer)| answer)
        };
        let has_text = |answer: &&Value, name: &str| answer[name].as_str().is_some_and(|text| !text.is_empty());
        let version = of(Action::HealthCheck).find_map(|answer| answer["n8n_version"].as_str());
        Self {
            state: droplet.state.clone(),
            workflows_active: droplet.health.as_ref().and_then(|health| health.active_workflows).unwrap_or(0),
            credentials_injected: of(Action::InjectCredential).filter(|a| has_text(a, "credential_id")).count(),
            ignition_ms,
            agent_rss_bytes,
            n8n: version.unwrap_or("unknown").to_owned(),
            credentials_wanted,
            activated: of(Action::ActivateWorkflow).filter(|a| a["active"] == Value::Bool(true)).count(),
        }
    }

    /// Whether the goal is reached.
    ///
    /// # Errors
    /// [`Error::DemoResult`] with what is missing.
    pub fn check(&self) -> Result<(), Error> {
        let mut missing = Vec::new();
        if self.state != GOAL_STATE {
            missing.push(format!("the droplet is {}, not {GOAL_STATE}", self.state));
        }
        if self.workflows_active != GOAL_WORKFLOWS || self.activated != GOAL_WORKFLOWS as usize {
            let (active, activated) = (self.workflows_active, self.activated);
            missing.push(format!("{active} workflows are active and {activated} were activated, not {GOAL_WORKFLOWS}"));
        }
        if self.credentials_injected != self.credentials_wanted {
            let (injected, wanted) = (self.credentials_injected, self.credentials_wanted);
            missing.push(format!("{injected} credentials were injected, not {wanted}"));
        }
        if missing.is_empty() { Ok(()) } else { Err(Error::DemoResult(missing.join("; "))) }
    }

    /// For people.
    pub fn to_text(&self) -> String {
        let rss = match self.agent_rss_bytes {
            Some(bytes) => format!("{}.{} MiB", bytes / 1_048_576, bytes % 1_048_576 * 10 / 1_048_576),
            None => "unknown".to_owned(),
        };
        format!(
            "\nstate                 {}\nworkflows active      {}\ncredentials injected  {}\nignition              {} ms\n\
             agent memory (RSS)    {rss}\nn8n                   {}",
            self.state, self.workflows_active, self.credentials_injected, self.ignition_ms, self.n8n
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn report(state: &str, output: Value) -> Report {
        let wire = |action: Action| CommandWire { action: action.name().to_owned(), payload: None };
        let mut commands = vec![wire(Action::InjectCredential), wire(Action::InjectCredential)];
        commands.extend((0..7).map(|_| wire(Action::ActivateWorkflow)));
        commands.push(wire(Action::HealthCheck));
        let id = "0192f0a1-1111-7000-8000-000000000001";
        let at = "2026-11-24T22:00:00Z";
        let job = json!({
            "job_id": id, "bundle_id": id, "workspace_id": id, "action": "", "queue": "ignition", "priority": 1,
            "state": "succeeded", "attempts": 1, "created_at": at, "accepted_at": at, "finished_at": at,
            "result": {
                "job_id": id, "bundle_id": id, "state": "succeeded", "code": "ok", "message": "", "retryable": false,
                "started_at": at, "finished_at": at, "steps": [], "output": output
            }
        });
        let droplet = json!({
            "droplet_id": "d", "workspace_id": id, "name": null, "region": null, "labels": {}, "lifecycle": "active",
            "state": state, "sealing_key": null, "enrolled_at": at, "last_seen_at": at,
            "health": {
                "workspace_id": id, "droplet_id": "d", "timestamp": at, "state": state, "n8n_status": "running",
                "n8n_version": "2.8.4", "active_workflows": 7, "cpu_usage_percent": 1.0, "memory_usage_mb": 1,
                "memory_total_mb": 2, "disk_usage_percent": 1.0, "swap_used_mb": 0, "uptime_seconds": 1,
                "agent_version": "0.1.0", "boot_epoch": "b", "journal_high_water": 1, "outbox_depth": 0
            }
        });
        let job = serde_json::from_value(job).unwrap();
        Report::new(&commands, &job, &serde_json::from_value(droplet).unwrap(), 2, 12, None)
    }

    fn answers(active: usize) -> Value {
        let mut list = vec![json!({"name": "a", "credential_id": "1"}), json!({"name": "b", "credential_id": "2"})];
        list.extend((0..7).map(|n| json!({"key": "k", "active": n < active})));
        list.push(json!({"n8n_status": "running", "n8n_version": "2.8.4"}));
        Value::Array(list)
    }

    #[test]
    fn the_last_line_has_the_members_that_were_promised() {
        let report = report(GOAL_STATE, answers(7));
        report.check().unwrap();
        let golden = r#"{"state":"ACTIVE_HEALTHY","workflows_active":7,"credentials_injected":2,"ignition_ms":12,"agent_rss_bytes":null,"n8n":"2.8.4"}"#;
        assert_eq!(serde_json::to_string(&report).unwrap(), golden);
    }

    #[test]
    fn anything_less_than_the_goal_is_named() {
        let error = report("ACTIVE_DEGRADED", answers(6)).check().unwrap_err().to_string();
        assert!(error.contains("ACTIVE_DEGRADED") && error.contains("6 were activated"), "{error}");
        let error = report(GOAL_STATE, json!({})).check().unwrap_err().to_string();
        assert!(error.contains("0 credentials"), "{error}");
    }
}
