//! One container: the spec as the engine wants it, and the engine's answer as the port tells it.

use std::collections::HashMap;
use std::time::Duration;

use bollard::models::{
    ContainerCreateBody, ContainerInspectResponse, ContainerStateStatusEnum, EndpointSettings, HealthConfig,
    HostConfig, HostConfigLogConfig, Mount as BindMount, MountType, NetworkingConfig, PortBinding, RestartPolicy,
    RestartPolicyNameEnum,
};
use bollard::query_parameters::{CreateContainerOptions, CreateContainerOptionsBuilder};
use genesis_shared::timestamp::Timestamp;

use super::{MIB, SPEC_LABEL, STACK_LABEL};
use crate::ports::stack::{ContainerInfo, ContainerPhase, ContainerSpec};

/// Size of a log file and how many are kept: 30 MB for each container.
const LOG_SIZE: &str = "10m";
const LOG_FILES: &str = "3";
/// The engine's own grace where a container has none.
const GRACE_DEFAULT_S: i64 = 10;
const NANOS: i64 = 1_000_000_000;

/// What the engine is asked for. The image goes by id: a name could mean another one by now.
pub fn body(stack: &str, spec: &ContainerSpec, image_id: &str) -> (CreateContainerOptions, ContainerCreateBody) {
    let options = CreateContainerOptionsBuilder::new().name(&format!("{stack}-{}", spec.service)).build();
    let endpoint =
        EndpointSettings { aliases: Some(vec![spec.service.name().to_owned()]), ..EndpointSettings::default() };
    let exposed = spec.ports.iter().map(|port| format!("{}/{}", port.container_port, port.protocol));
    let body = ContainerCreateBody {
        hostname: Some(spec.service.name().to_owned()),
        user: some(&spec.user),
        exposed_ports: Some(exposed.collect()),
        env: Some(spec.env.iter().map(|(name, value)| format!("{name}={value}")).collect()),
        cmd: (!spec.command.is_empty()).then(|| spec.command.clone()),
        healthcheck: Some(health(&spec.health_command)),
        image: Some(image_id.to_owned()),
        labels: Some(HashMap::from([
            (SPEC_LABEL.to_owned(), spec.digest().to_string()),
            (STACK_LABEL.to_owned(), stack.to_owned()),
        ])),
        stop_signal: some(&spec.stop_signal),
        stop_timeout: Some(signed(spec.stop_grace_s)),
        host_config: Some(host_config(stack, spec)),
        networking_config: Some(NetworkingConfig {
            endpoints_config: Some(HashMap::from([(stack.to_owned(), endpoint)])),
        }),
        ..ContainerCreateBody::default()
    };
    (options, body)
}

fn host_config(stack: &str, spec: &ContainerSpec) -> HostConfig {
    let mut bindings: HashMap<String, Option<Vec<PortBinding>>> = HashMap::new();
    for port in &spec.ports {
        let key = format!("{}/{}", port.container_port, port.protocol);
        let binding = PortBinding { host_ip: Some(port.host_ip.clone()), host_port: Some(port.host_port.to_string()) };
        bindings.entry(key).or_default().get_or_insert_default().push(binding);
    }
    let mounts = spec.mounts.iter().map(|mount| BindMount {
        typ: Some(MountType::BIND),
        source: Some(mount.source.clone()),
        target: Some(mount.target.clone()),
        read_only: Some(mount.read_only),
        ..BindMount::default()
    });
    let log_options =
        HashMap::from([("max-size".to_owned(), LOG_SIZE.to_owned()), ("max-file".to_owned(), LOG_FILES.to_owned())]);
    HostConfig {
        network_mode: Some(stack.to_owned()),
        memory: Some(signed(spec.memory_mb * MIB)),
        // As much swap as there is: the limit keeps the others alive, it is not to kill this one.
        memory_swap: Some(-1),
        cpu_shares: Some(i64::from(spec.cpu_shares)),
        oom_score_adj: Some(i64::from(allowed_oom_score(spec.oom_score_adj))),
        shm_size: (spec.shm_mb > 0).then(|| signed(spec.shm_mb * MIB)),
        mounts: Some(mounts.collect()),
        port_bindings: Some(bindings),
        restart_policy: Some(RestartPolicy {
            name: Some(RestartPolicyNameEnum::UNLESS_STOPPED),
            maximum_retry_count: None,
        }),
        log_config: Some(HostConfigLogConfig { typ: Some("json-file".into()), config: Some(log_options) }),
        cap_drop: Some(vec!["ALL".into()]),
        cap_add: Some(spec.capabilities.iter().map(|&name| name.to_owned()).collect()),
        security_opt: Some(vec!["no-new-privileges".into()]),
        ..HostConfig::default()
    }
}

/// A score below 0 takes a right that a machine within a container may not have: there a container that asks for it
/// does not start at all, and 0 is the best there is.
fn allowed_oom_score(wanted: i32) -> i32 {
    if wanted >= 0 || std::fs::read_to_string("/proc/1/status").map_or(true, |status| may_lower_oom_score(&status)) {
        return wanted;
    }
    tracing::warn!(
        code = "oom_score",
        "this machine does not let anyone lower a score for the end of memory; a container gets 0 instead of {wanted}"
    );
    0
}

/// Whether `CAP_SYS_RESOURCE` (24) is in the bounding set of the machine's first process, beyond which nobody gets.
fn may_lower_oom_score(status: &str) -> bool {
    let set = status.lines().find_map(|line| line.strip_prefix("CapBnd:"));
    let set = set.and_then(|set| u64::from_str_radix(set.trim(), 16).ok());
    set.is_none_or(|set| set & (1 << 24) != 0)
}

/// Every 10 seconds, three failures count; the first minute is the start's. None: not the image's own either.
fn health(command: &[String]) -> HealthConfig {
    if command.is_empty() {
        return HealthConfig { test: Some(vec!["NONE".into()]), ..HealthConfig::default() };
    }
    let test = std::iter::once("CMD".to_owned()).chain(command.iter().cloned());
    HealthConfig {
        test: Some(test.collect()),
        interval: Some(10 * NANOS),
        timeout: Some(5 * NANOS),
        retries: Some(3),
        start_period: Some(60 * NANOS),
        start_interval: None,
    }
}

/// What the engine says of a container.
pub fn info(stack: &str, found: &ContainerInspectResponse) -> ContainerInfo {
    let state = found.state.clone().unwrap_or_default();
    let labels = found.config.as_ref().and_then(|config| config.labels.as_ref());
    let label = |name: &str| labels.and_then(|labels| labels.get(name)).map_or("", String::as_str);
    let ours = label(STACK_LABEL) == stack;
    let phase = match state.status {
        Some(ContainerStateStatusEnum::CREATED) => ContainerPhase::Created,
        Some(ContainerStateStatusEnum::RUNNING) => ContainerPhase::Running,
        Some(ContainerStateStatusEnum::RESTARTING) => ContainerPhase::Restarting,
        Some(ContainerStateStatusEnum::EXITED) => ContainerPhase::Exited(state.exit_code.unwrap_or_default()),
        _ => ContainerPhase::Other,
    };
    ContainerInfo {
        id: found.id.clone().unwrap_or_default(),
        image_id: found.image.clone().unwrap_or_default(),
        phase,
        spec_digest: if ours { label(SPEC_LABEL).to_owned() } else { String::new() },
        restarts: found.restart_count.and_then(|count| u64::try_from(count).ok()).unwrap_or_default(),
        oom_killed: state.oom_killed.unwrap_or_default(),
        pid: state.pid.and_then(|pid| u32::try_from(pid).ok()).filter(|&pid| pid != 0),
        // The engine's "never" lies before every time that can be told.
        started_at: state.started_at.and_then(|text| text.parse::<Timestamp>().ok()),
    }
}

/// How long a container may take to stop.
pub fn grace(found: &ContainerInspectResponse) -> Duration {
    let told = found.config.as_ref().and_then(|config| config.stop_timeout);
    Duration::from_secs(u64::try_from(told.unwrap_or(GRACE_DEFAULT_S)).unwrap_or_default())
}

fn some(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_that_may_not_lower_the_score_is_known() {
        assert!(may_lower_oom_score("Name:\tinit\nCapBnd:\t000001ffffffffff\n"));
        assert!(!may_lower_oom_score("Name:\tinit\nCapBnd:\t000001fffeffffff\n"));
        assert!(may_lower_oom_score("what is this?"), "the engine will tell");
    }
}
