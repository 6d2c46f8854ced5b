//! The status in the text format of Prometheus (exposition format 0.0.4).

use std::fmt::Write;

use genesis_shared::report::N8nStatus;

use crate::agent::status::Status;

/// What the answer is.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Every metric with its help and type.
pub fn text(status: &Status) -> String {
    let mut out = String::with_capacity(4096);
    let mut gauge = |name: &str, help: &str, values: &[(String, f64)]| {
        if values.is_empty() {
            return;
        }
        // Writing into a text cannot fail.
        let written = writeln!(out, "# HELP genesis_{name} {help}\n# TYPE genesis_{name} gauge").and_then(|()| {
            values.iter().try_for_each(|(labels, value)| writeln!(out, "genesis_{name}{labels} {value}"))
        });
        debug_assert!(written.is_ok());
    };
    let one = |value: f64| vec![(String::new(), value)];
    let maybe = |value: Option<f64>| value.map(|value| (String::new(), value)).into_iter().collect::<Vec<_>>();
    gauge("agent_info", "The agent that answers.", &[(format!("{{version=\"{}\"}}", status.agent_version), 1.0)]);
    gauge("state", "The state as in heartbeats.", &[(format!("{{state=\"{}\"}}", status.state), 1.0)]);
    gauge("n8n_up", "Whether n8n serves.", &one(bit(status.n8n_status == N8nStatus::Running)));
    gauge("quarantined", "Whether changes wait for an operator.", &one(bit(status.quarantined)));
    gauge("open_commands", "Accepted commands that have not ended.", &one(number(status.open_commands)));
    gauge("outbox_records", "Reports that wait for the hub.", &one(number(status.outbox_depth)));
    gauge("desired_generation", "Generation that was applied last.", &one(number(status.desired_generation)));
    gauge("drifts", "Managed things that differ and are left alone.", &maybe(status.drift_count.map(f64::from)));
    gauge("cpu_usage_percent", "Whole host.", &one(status.cpu_usage_percent.into()));
    gauge("memory_usage_mebibytes", "In use.", &one(number(status.memory_usage_mb)));
    gauge("memory_total_mebibytes", "In all.", &one(number(status.memory_total_mb)));
    gauge("swap_used_mebibytes", "In use.", &one(number(status.swap_used_mb)));
    gauge("disk_usage_percent", "Disk of the data folder.", &one(status.disk_usage_percent.into()));
    let heard = status.hub_heard_at.map(|at| seconds(at.millis()));
    gauge("hub_heard_timestamp_seconds", "When the hub answered last.", &maybe(heard));
    let offset = status.clock_offset_ms.map(seconds);
    gauge("clock_offset_seconds", "The droplet's clock less the hub's.", &maybe(offset));
    let ends = status.trust_root.map(|(_, end)| seconds(end.millis()));
    gauge("trust_root_expires_timestamp_seconds", "When the trust root ends.", &maybe(ends));
    if let Some(stack) = &status.stack {
        let label = |name: &str| format!("{{service=\"{name}\"}}");
        let containers = || stack.containers.iter();
        let running: Vec<_> = containers().map(|c| (label(c.service.name()), bit(c.state == "running"))).collect();
        gauge("container_running", "Whether the container runs.", &running);
        let restarts: Vec<_> = containers().map(|c| (label(c.service.name()), number(c.restarts))).collect();
        gauge("container_restarts", "Restarts by the engine since it was made.", &restarts);
        gauge("requests_held", "Whether requests wait in the proxy.", &one(bit(stack.held)));
        let ends = stack.hosts.iter().filter_map(|(host, end)| Some((host, (*end)?)));
        let ends: Vec<_> = ends.map(|(host, end)| (format!("{{host=\"{host}\"}}"), seconds(end.millis()))).collect();
        gauge("certificate_expires_timestamp_seconds", "When the certificate ends.", &ends);
    }
    out
}

fn bit(value: bool) -> f64 {
    if value { 1.0 } else { 0.0 }
}

#[allow(clippy::cast_precision_loss, reason = "no count here comes near 2^52")]
fn number(value: u64) -> f64 {
    value as f64
}

#[allow(clippy::cast_precision_loss, reason = "milliseconds of centuries fit 52 bits")]
fn seconds(millis: i64) -> f64 {
    millis as f64 / 1000.0
}
