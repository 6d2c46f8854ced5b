//! One example of each type of the API, for the OpenAPI document; a test reads each back as its type.

use serde_json::{Value, json};

const AT: &str = "2026-11-24T12:00:00.000Z";
const LATER: &str = "2026-11-24T12:00:01.250Z";
const WORKSPACE: &str = "5b2a1c1e-6b0f-4a57-9d0b-2f6f0b6f8a11";
const BUNDLE: &str = "0f8f3f0e-2a55-4b9e-8f6e-5c1a3a8f7d21";
const JOB: &str = "9c0d7a64-11f5-4a0e-9d2b-0f1f6f0c5e42";
const LEASE: &str = "3f1c2b5a-77aa-4c6e-8f3b-1d2e3f4a5b63";
const KEY: &str = "bm90LWEtcmVhbC1rZXktanVzdC0zMi1ieXRlcy1oZXI";
const DIGEST: &str = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
const SIGNED: &str = r#"{"payload":"eyJpZCI6…","signatures":[{"protected":"eyJhbGciOi…","signature":"…"}]}"#;

/// The example of a type by its name in the document; `None` for what needs none: enumerations, parts of others.
pub fn of(name: &str) -> Option<Value> {
    if let Some(item) = name.strip_prefix("Page_") {
        return of(item).map(|item| json!({"items": [item], "next_cursor": "412"}));
    }
    agent_plane(name)
        .or_else(|| droplets(name))
        .or_else(|| jobs(name))
        .or_else(|| pacing(name))
        .or_else(|| others(name))
}

fn agent_plane(name: &str) -> Option<Value> {
    Some(match name {
        "HandshakeRequest" => json!({
            "provisioning_token": "0".repeat(64), "workspace_id": WORKSPACE, "droplet_id": "412001",
            "droplet_ip": "203.0.113.7", "webhook_url": "https://t1.example.com/", "agent_version": "0.1.0",
            "n8n_version": "2.8.4", "identity_key": KEY, "sealing_key": KEY, "boot_epoch": "b1", "outbox_next": 1,
            "journal_high_water": 0, "preflight": of("Preflight"), "proof": "A".repeat(86)}),
        "Preflight" => json!({"swap_total_mb": 2048, "memory_total_mb": 961, "disk_free_mb": 17_000, "cpus": 1,
            "kernel": "6.1.0", "docker_version": "26.1.4", "log_limits_ok": true, "memory_limits_ok": true}),
        "AgentConfig" => json!({"heartbeat_interval_s": 60, "poll_wait_s": 25, "metrics_interval_s": 900,
            "reconcile_interval_s": 900}),
        "HandshakeAnswer" => json!({"sidecar_token": KEY, "token_expires_at": AT, "config": of("AgentConfig"),
            "trust_root": [SIGNED]}),
        "RenewRequest" => json!({"assertion": "eyJhbGciOiJFZERTQSIs….eyJzdWIiOi….c2lnbmF0dXJl"}),
        "RenewAnswer" => json!({"sidecar_token": KEY, "token_expires_at": AT}),
        "Heartbeat" => json!({
            "workspace_id": WORKSPACE, "droplet_id": "412001", "timestamp": AT, "state": "ACTIVE_HEALTHY",
            "n8n_status": "running", "n8n_version": "2.8.4", "active_workflows": 7, "cpu_usage_percent": 12.5,
            "memory_usage_mb": 512, "memory_total_mb": 961, "disk_usage_percent": 41.0, "swap_used_mb": 12,
            "uptime_seconds": 86_400, "agent_version": "0.1.0", "boot_epoch": "b1", "journal_high_water": 31,
            "outbox_depth": 0, "desired_generation": 4, "drift_count": 0}),
        "HeartbeatAnswer" => json!({"work_waiting": true, "next_interval_s": 60, "hub_time": AT, "rotated": null,
            "quarantined": false}),
        "LeasedCommand" => json!({"lease_id": LEASE, "job_id": JOB, "bundle": SIGNED,
            "delivery_token": "eyJhbGciOiJFZERTQSIs….eyJpc3MiOi….c2lnbmF0dXJl"}),
        "CommandsAnswer" => json!({"commands": [of("LeasedCommand")], "trust_root_version": 3, "quarantined": false}),
        "ResultsRequest" => json!({"records": [of("OutboxRecord")]}),
        "OutboxRecord" => json!({"seq": 7, "at": AT, "record": {"result": of("CommandResult")}}),
        "ResultsAnswer" => json!({"stored_up_to": 7}),
        "TrustRootChain" => json!({"trust_root": [SIGNED]}),
        _ => return None,
    })
}

fn droplets(name: &str) -> Option<Value> {
    Some(match name {
        "DropletCreate" => json!({"workspace_id": WORKSPACE, "droplet_id": "412001", "name": "acme", "region": "fra1",
            "labels": {"ring": "canary"}}),
        "ProvisioningToken" => json!({"droplet_id": "412001", "provisioning_token": "0".repeat(64), "expires_at": AT}),
        "DropletView" => json!({
            "droplet_id": "412001", "workspace_id": WORKSPACE, "name": "acme", "region": "fra1",
            "labels": {"ring": "canary"}, "lifecycle": "active", "state": "ACTIVE_HEALTHY", "sealing_key": KEY,
            "enrolled_at": AT, "last_seen_at": LATER, "health": of("Heartbeat"), "quarantine": null,
            "lives": [of("LifeView")]}),
        "LifeView" => json!({"boot_epoch": "b1", "journal_high_water": 31, "first_seen_at": AT, "last_seen_at": LATER,
            "present": true}),
        "HealthHistory" => json!({"since": AT, "samples": [of("HealthSample")]}),
        "HealthSample" => json!({"at": LATER, "cpu_percent": 12, "memory_percent": 53, "disk_percent": 41,
            "healthy": true}),
        "FleetSummary" => json!({
            "at": AT, "droplets": 3, "states": {"HANDSHAKE_PENDING": 0, "INITIALIZING": 0, "ACTIVE_HEALTHY": 2,
                "ACTIVE_DEGRADED": 1, "DRIFT_DETECTED": 0, "QUARANTINED": 0, "ZOMBIE": 0},
            "queues": [{"queue": "template", "queued": 2, "leased": 0, "accepted": 1, "dead": 0}], "polls_waiting": 2,
            "version": "0.1.0", "started_at": AT}),
        "FleetMap" => json!({
            "at": AT, "order": DIGEST, "names": ["HANDSHAKE_PENDING", "INITIALIZING", "ACTIVE_HEALTHY",
                "ACTIVE_DEGRADED", "DRIFT_DETECTED", "QUARANTINED", "ZOMBIE"],
            "regions": [{"region": "ams3", "droplets": 1}, {"region": "fra1", "droplets": 2}], "states": "232"}),
        "FleetIds" => json!({"order": DIGEST, "ids": ["412003", "412001", "412002"]}),
        "Quarantine" => json!({"code": "droplet_cloned", "message": "two machines have this identity", "since": AT}),
        "ResumeRequest" => json!({"reason": "the clone was destroyed", "boot_epoch": "b1"}),
        "Escrow" => {
            json!({"recovery": "recovery-1", "sealed": {"recipient": KEY, "enc": KEY, "ciphertext": "c2VhbGVk"}})
        }
        _ => return None,
    })
}

fn jobs(name: &str) -> Option<Value> {
    Some(match name {
        "PushAnswer" => json!({"bundle_id": BUNDLE, "job_ids": [JOB]}),
        "BundleView" => json!({
            "bundle_id": BUNDLE, "digest": DIGEST, "action": "DEPLOY_WORKFLOW,ACTIVATE_WORKFLOW", "queue": "template",
            "priority": 3, "not_before": AT, "not_after": "2026-11-25T12:00:00.000Z", "pushed_by": "ops",
            "created_at": AT, "bytes": 20_480, "jobs": {"succeeded": 1}}),
        "JobView" => json!({
            "job_id": JOB, "bundle_id": BUNDLE, "workspace_id": WORKSPACE, "action": "DEPLOY_WORKFLOW",
            "queue": "template", "priority": 3, "state": "succeeded", "attempts": 1, "created_at": AT,
            "accepted_at": AT, "finished_at": LATER, "result": of("CommandResult")}),
        "CommandResult" => json!({
            "job_id": JOB, "bundle_id": BUNDLE, "state": "succeeded", "code": "ok", "message": "done",
            "retryable": false, "started_at": AT, "finished_at": LATER, "steps": [of("StepTrace")],
            "output": [{"workflow_id": "Ab3dEf6hIj9kLm2n"}]}),
        "StepTrace" => json!({"name": "put_workflow email-1", "state": "done", "ms": 38, "attempts": 1}),
        _ => return None,
    })
}

fn pacing(name: &str) -> Option<Value> {
    Some(match name {
        "Limits" => json!(crate::queue::Limits::default()),
        "QueuesView" => json!({"limits": of("Limits"), "queues": [
            {"queue": "ignition", "in_flight": 12, "in_flight_max": 50, "waiting": 3}]}),
        "RolloutView" => json!({"rollout_id": BUNDLE, "phase": {"phase": "pausing", "until": LATER}, "wave": 2,
            "waves": [150, 1_500, 15_000], "counts": {"released": 1_500, "waiting": 0, "absent": 4, "running": 20,
            "missing": 0, "succeeded": 1_470, "failed": 6, "withdrawn": 0}, "failure_share": 0.004,
            "has_rollback": true, "created_at": AT, "changed_at": LATER}),
        "LifecycleChange" => json!({"lifecycle": "maintenance", "until": LATER, "reason": "a new disk"}),
        _ => return None,
    })
}

fn others(name: &str) -> Option<Value> {
    Some(match name {
        "ErrorBody" => json!({
            "type": "urn:genesis:problem:not_found", "title": "Not Found", "status": 404, "code": "not_found",
            "message": "there is no droplet 412001", "detail": "there is no droplet 412001", "retryable": false,
            "request_id": LEASE}),
        "EventView" => json!({"number": 412, "at": AT, "code": "dead_letter",
            "message": "the job was handed out too often without an answer", "droplet_id": null, "job_id": JOB}),
        "Entry" => json!({"seq": 2, "at": AT, "event": "DROPLET_CREATED", "detail": "{\"droplet\":\"412001\"}",
            "prev": DIGEST, "hash": DIGEST}),
        "Line" => json!({"entry": of("Entry")}),
        "TrustRootView" => json!({"version": 3, "digest": DIGEST, "document": SIGNED}),
        "Health" => json!({"status": "ok", "version": "0.1.0"}),
        // What a document is that is kept byte for byte as it was signed.
        "Signed" => json!({"payload": "eyJpZCI6…", "signatures": [{"protected": "eyJhbGciOi…", "signature": "…"}]}),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use genesis_shared::audit::{Entry, Line};
    use genesis_shared::report::{Escrow, Heartbeat, OutboxRecord};
    use genesis_shared::wire::*;
    use serde::Serialize;
    use serde::de::DeserializeOwned;

    use super::*;

    /// Whether an example is what its type writes, but for members that are left out where they are empty.
    fn is<T: DeserializeOwned + Serialize>(name: &str) {
        let example = of(name).unwrap_or_else(|| panic!("no example of {name}"));
        let read: T = serde_json::from_value(example.clone()).unwrap_or_else(|e| panic!("{name}: {e}"));
        let written = serde_json::to_value(&read).unwrap();
        for (member, value) in example.as_object().unwrap() {
            assert_eq!(&written[member], value, "{name}.{member}");
        }
    }

    #[test]
    fn each_example_is_one_of_its_type() {
        is::<HandshakeRequest>("HandshakeRequest");
        is::<HandshakeAnswer>("HandshakeAnswer");
        is::<RenewRequest>("RenewRequest");
        is::<RenewAnswer>("RenewAnswer");
        is::<Heartbeat>("Heartbeat");
        is::<HeartbeatAnswer>("HeartbeatAnswer");
        is::<CommandsAnswer>("CommandsAnswer");
        is::<ResultsRequest>("ResultsRequest");
        is::<OutboxRecord>("OutboxRecord");
        is::<ResultsAnswer>("ResultsAnswer");
        is::<TrustRootChain>("TrustRootChain");
        is::<DropletCreate>("DropletCreate");
        is::<ProvisioningToken>("ProvisioningToken");
        is::<Page<DropletView>>("Page_DropletView");
        is::<genesis_shared::life::ResumeRequest>("ResumeRequest");
        is::<genesis_shared::life::Quarantine>("Quarantine");
        is::<Escrow>("Escrow");
        is::<PushAnswer>("PushAnswer");
        is::<Page<BundleView>>("Page_BundleView");
        is::<Page<JobView>>("Page_JobView");
        is::<ErrorBody>("ErrorBody");
        is::<Page<EventView>>("Page_EventView");
        is::<Entry>("Entry");
        is::<Page<Line>>("Page_Line");
        is::<TrustRootView>("TrustRootView");
        is::<crate::api::queues::QueuesView>("QueuesView");
        is::<crate::api::rollouts::RolloutView>("RolloutView");
        is::<crate::api::lifecycle::LifecycleChange>("LifecycleChange");
    }
}
