//! Whether this machine can carry the stack for long: facts -> what is missing, each with what to do. It only tells;
//! nothing is changed or refused because of it.

use genesis_shared::wire::{Finding, Preflight};

use crate::ports::stack::EngineInfo;

/// MiB of memory and swap together: 970 of what is sold as 1 GB, and a swap file of 4 GB, with a little to spare.
const MEMORY_AND_SWAP_MB: u64 = 4_900;
/// MiB free: a new image of n8n (1,400 unpacked), a copy of the database and a dump of it, beside each other.
const DISK_FREE_MB: u64 = 5_000;
/// The oldest engine that was tried.
const ENGINE_OLDEST: (u64, u64) = (20, 10);
/// The first kernel whose memory limits and overlay file system are those that today's engines expect.
const KERNEL_OLDEST: (u64, u64) = (4, 18);

/// What a machine was seen to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// MiB.
    pub memory_total_mb: u64,
    /// MiB.
    pub swap_total_mb: u64,
    /// MiB free where the data folder is; `None` where the system does not tell.
    pub disk_free_mb: Option<u64>,
    /// The kernel's version; `None` where the system does not tell.
    pub kernel: Option<String>,
    /// What the engine says of itself, or why it says nothing; `None` where the agent looks after no stack.
    pub engine: Option<Result<EngineInfo, String>>,
    /// Ports that the proxy is to publish and that somebody else has.
    pub ports_taken: Vec<u16>,
}

/// What is missing, most pressing first.
pub fn findings(facts: &Facts) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut find = |code: &str, message: String| found.push(Finding { code: code.into(), message });
    match &facts.engine {
        None => {}
        Some(Err(error)) => find("engine_unreachable", format!("{error}; install Docker, or start it")),
        Some(Ok(engine)) => engine_findings(engine, &mut find),
    }
    for port in &facts.ports_taken {
        let how = format!("`ss -ltnp 'sport = :{port}'` names it");
        find("port_taken", format!("somebody else listens on port {port}, which the proxy needs; stop it ({how})"));
    }
    let together = facts.memory_total_mb + facts.swap_total_mb;
    if together < MEMORY_AND_SWAP_MB {
        let (memory, swap) = (facts.memory_total_mb, facts.swap_total_mb);
        find("swap_small", format!("{memory} MiB of memory and {swap} MiB of swap; add a swap file of 4 GB"));
    }
    if let Some(free) = facts.disk_free_mb.filter(|free| *free < DISK_FREE_MB) {
        find(
            "disk_small",
            format!("{free} MiB of disk are free, a swap needs {DISK_FREE_MB}; free some, or add a disk"),
        );
    }
    if let Some(kernel) = facts.kernel.as_deref().filter(|kernel| is_older(kernel, KERNEL_OLDEST)) {
        let (major, minor) = KERNEL_OLDEST;
        find("kernel_old", format!("the kernel is {kernel}; install the distribution's {major}.{minor} or newer"));
    }
    found
}

fn engine_findings(engine: &EngineInfo, find: &mut impl FnMut(&str, String)) {
    if is_older(&engine.version, ENGINE_OLDEST) {
        let (major, minor) = ENGINE_OLDEST;
        find("engine_old", format!("Docker is {}; install {major}.{minor} or newer", engine.version));
    }
    if !engine.limits_memory {
        let how = "boot with cgroup_enable=memory, or with cgroup v2";
        find("memory_limits", format!("limits of memory have no effect here: one container can starve all; {how}"));
    }
    if !engine.limits_logs {
        let how = r#"put "log-opts": {"max-size": "10m", "max-file": "3"} into /etc/docker/daemon.json"#;
        find("log_limits", format!("logs of containers other than the stack's may fill the disk; {how}"));
    }
}

/// What enrolment tells the hub.
pub fn preflight(base: Preflight, facts: &Facts) -> Preflight {
    let engine = facts.engine.as_ref().and_then(|engine| engine.as_ref().ok());
    Preflight {
        kernel: facts.kernel.clone(),
        docker_version: engine.map(|engine| engine.version.clone()),
        log_limits_ok: engine.map(|engine| engine.limits_logs),
        memory_limits_ok: engine.map(|engine| engine.limits_memory),
        findings: findings(facts),
        ..base
    }
}

/// Whether a version is known to be older. What cannot be read is not: a strange version is no reason to complain.
fn is_older(version: &str, oldest: (u64, u64)) -> bool {
    let mut numbers = version.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u64>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) < oldest,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn engine() -> EngineInfo {
        let (version, log_driver) = ("20.10.24+dfsg1".to_owned(), "json-file".to_owned());
        EngineInfo { version, log_driver, limits_memory: true, limits_logs: true, free_mb: None }
    }

    fn good() -> Facts {
        Facts {
            memory_total_mb: 970,
            swap_total_mb: 4_095,
            disk_free_mb: Some(20_000),
            kernel: Some("6.1.0-56-cloud-amd64".into()),
            engine: Some(Ok(engine())),
            ports_taken: vec![],
        }
    }

    fn codes(facts: &Facts) -> Vec<String> {
        findings(facts).into_iter().map(|finding| finding.code).collect()
    }

    #[test]
    fn a_machine_as_it_should_be_has_no_findings() {
        assert_eq!(codes(&good()), [""; 0]);
        let large = Facts { memory_total_mb: 7_900, swap_total_mb: 0, ..good() };
        assert_eq!(codes(&large), [""; 0], "much memory needs no swap");
        let unknown = Facts { disk_free_mb: None, kernel: None, engine: None, ..good() };
        assert_eq!(codes(&unknown), [""; 0], "what is not known is not held against it");
    }

    #[test]
    fn each_want_has_its_code_and_says_what_to_do() {
        let broken = |change: fn(&mut EngineInfo)| {
            let mut engine = engine();
            change(&mut engine);
            Facts { engine: Some(Ok(engine)), ..good() }
        };
        let table = [
            (Facts { swap_total_mb: 0, ..good() }, "swap_small"),
            (Facts { disk_free_mb: Some(4_000), ..good() }, "disk_small"),
            (Facts { kernel: Some("3.10.0-1160".into()), ..good() }, "kernel_old"),
            (Facts { ports_taken: vec![443], ..good() }, "port_taken"),
            (Facts { engine: Some(Err("no socket".into())), ..good() }, "engine_unreachable"),
            (broken(|engine| engine.version = "19.03.15".into()), "engine_old"),
            (broken(|engine| engine.limits_memory = false), "memory_limits"),
            (broken(|engine| engine.limits_logs = false), "log_limits"),
        ];
        for (facts, code) in table {
            let found = findings(&facts);
            assert_eq!(found.len(), 1, "{found:?}");
            assert_eq!(found[0].code, code);
            assert!(found[0].message.contains("; "), "what is wrong; what to do: {}", found[0].message);
        }
    }

    #[test]
    fn a_version_that_cannot_be_read_is_not_called_old() {
        for (version, old) in [("20.10", false), ("20.9.1", true), ("28.1.1", false), ("dev", false), ("", false)] {
            assert_eq!(is_older(version, ENGINE_OLDEST), old, "{version}");
        }
    }

    #[test]
    fn enrolment_tells_what_was_found() {
        let facts = Facts { swap_total_mb: 0, ..good() };
        let told = preflight(Preflight { cpus: 2, ..Preflight::default() }, &facts);
        assert_eq!((told.cpus, told.docker_version.as_deref()), (2, Some("20.10.24+dfsg1")));
        assert_eq!((told.log_limits_ok, told.memory_limits_ok), (Some(true), Some(true)));
        assert_eq!(told.findings[0].code, "swap_small");
        let without = preflight(Preflight::default(), &Facts { engine: None, ..good() });
        assert_eq!((without.docker_version, without.log_limits_ok), (None, None));
    }
}
