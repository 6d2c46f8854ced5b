//! What the whole stack takes: each container, the engine, the agent, at rest, under load and through a swap.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use genesis_agent::ports::stack::Containers;
use genesis_shared::stack::Service;
use genesis_tests::engine::Stage;
use genesis_tests::stack::StackRig;
use genesis_tests::swaps;
use genesis_tests::traffic::with_traffic;
use serde_json::{Value, json};

use super::{Failure, say};

#[derive(clap::Args)]
pub struct Options {
    /// The agent to measure, normally what packaging/build-static.sh made.
    #[arg(long)]
    agent: PathBuf,
    /// Swaps under 20 calls a second while it is measured.
    #[arg(long, default_value_t = 2)]
    swaps: u32,
}

/// The droplet that all of it has to fit into, without its swap: what a provider sells as 1 GB.
const MACHINE_BYTES: u64 = 972 * 1024 * 1024;

/// Proportional set sizes in bytes by process, of one moment.
type Table = BTreeMap<String, u64>;

pub fn run(options: &Options) -> Result<Value, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(with_traffic(measure(options)))
}

async fn measure(options: &Options) -> Result<Value, Failure> {
    let rig = StackRig::with_agent(options.agent.clone()).await;
    rig.deploy_ledger().await;
    let at_rest = table(&rig).await;
    say(&format!("at rest: {at_rest:?}"));
    let mut most = at_rest.clone();
    let watch = async {
        loop {
            for (name, bytes) in table(&rig).await {
                let most = most.entry(name).or_default();
                *most = bytes.max(*most);
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    let run = tokio::select! {
        run = swaps::run(&rig, options.swaps, 20, |swap| say(&format!("{}", swap.output()))) => run?,
        () = watch => unreachable!("it watches for ever"),
    };
    let (_, agent_peak) = rig.rig.agent.resident_bytes();
    let sum = |table: &Table| table.values().sum::<u64>();
    Ok(json!({
        "at_rest_bytes": at_rest,
        "at_rest_sum_bytes": sum(&at_rest),
        "most_bytes": most,
        "most_sum_bytes": sum(&most),
        "machine_bytes": MACHINE_BYTES,
        "fits_without_swap_at_rest": sum(&at_rest) <= MACHINE_BYTES,
        "agent_rss_peak_bytes": agent_peak,
        "failed": run.failed().len(),
        "method": "proportional set size (smaps_rollup) of every process of each container, of the engine's own, and the agent's VmHWM; the engine may serve others beside this stack; most: the largest of each, five looks a second, through swaps under 20 calls a second",
    }))
}

async fn table(rig: &StackRig) -> Table {
    let mut table = Table::new();
    let mut roots = BTreeMap::new();
    for service in Service::ALL {
        if let Ok(Some(info)) = rig.lab.engine().container(service).await {
            roots.extend(info.pid.map(|pid| (pid, service.name())));
        }
    }
    for pid in processes() {
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let owner = match name.trim() {
            "dockerd" | "containerd" => Some(name.trim()),
            // One for each container of this stack.
            "containerd-shim" if children(pid).iter().any(|child| roots.contains_key(child)) => {
                Some("containerd-shims")
            }
            _ => ancestor(pid, &roots),
        };
        if let Some(owner) = owner {
            *table.entry(owner.to_owned()).or_default() += proportional(pid);
        }
    }
    table.insert("genesis-agent".into(), proportional(rig.rig.agent.id()));
    table
}

fn processes() -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

fn parent(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in brackets may hold anything.
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

fn children(pid: u32) -> Vec<u32> {
    processes().into_iter().filter(|child| parent(*child) == Some(pid)).collect()
}

/// The container that a process belongs to.
fn ancestor(mut pid: u32, roots: &BTreeMap<u32, &'static str>) -> Option<&'static str> {
    loop {
        if let Some(name) = roots.get(&pid) {
            return Some(name);
        }
        pid = parent(pid).filter(|parent| *parent > 1)?;
    }
}

fn proportional(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let kib =
        text.lines().find_map(|line| line.strip_prefix("Pss:")?.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}
