//! Size of the agent's binary and its memory in a real run: enrol, ignite the Golden Template, then idle.

use std::path::PathBuf;
use std::time::Duration;

use genesis_shared::wire::JobState;
use genesis_tests::n8n::{Kind, N8n, TREE_VARIABLE};
use genesis_tests::rig::Rig;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Failure, say};

#[derive(clap::Args)]
pub struct Options {
    /// The agent to measure, normally what packaging/build-static.sh made.
    #[arg(long)]
    agent: PathBuf,
    /// An n8n that runs already; else the real one where GENESIS_N8N_TREE names it, else the stand-in.
    #[arg(long)]
    n8n_url: Option<String>,
    /// Seconds of idling before the idle figure is read; heartbeats and long polls go on.
    #[arg(long, default_value_t = 20)]
    idle_s: u64,
}

pub fn run(options: &Options) -> Result<Value, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(measure(options))
}

async fn measure(options: &Options) -> Result<Value, Failure> {
    let binary_bytes =
        std::fs::metadata(&options.agent).map_err(|e| format!("{}: {e}", options.agent.display()))?.len();
    let folder = TempDir::with_prefix("genesis-bench-")?;
    let kind = if std::env::var_os(TREE_VARIABLE).is_some() { Kind::Real } else { Kind::StandIn };
    let n8n = match &options.n8n_url {
        Some(url) => N8n::running(url, Kind::Real),
        None => N8n::start(kind, folder.path()).await,
    };
    let real = n8n.kind == Kind::Real;
    say(if real { "n8n is up" } else { "the stand-in is up" });
    let rig = Rig::over(n8n, folder, options.agent.clone()).await;
    let (fresh, _) = rig.agent.resident_bytes();
    say(&format!("enrolled; {fresh} bytes resident"));
    let job = rig.run(rig.ignition().await).await;
    if job.state != JobState::Succeeded {
        return Err(format!("the ignition ended {:?}: {:?}", job.state, job.result.map(|r| r.message)).into());
    }
    let version =
        job.result.map(|r| r.output).and_then(|o| o.as_array()?.last()?["n8n_version"].as_str().map(str::to_owned));
    say(&format!("ignited; idling {} s", options.idle_s));
    tokio::time::sleep(Duration::from_secs(options.idle_s)).await;
    let (idle, peak) = rig.agent.resident_bytes();
    Ok(json!({
        "agent_binary_bytes": binary_bytes,
        "agent_rss_idle_bytes": idle,
        "agent_rss_peak_bytes": peak,
        "agent_rss_enrolled_bytes": fresh,
        "n8n": version.unwrap_or_else(|| "unknown".into()),
        "method": "VmRSS and VmHWM of the agent's process: enrol, ignite the seven workflows of the Golden Template, idle with a heartbeat each second and a long poll",
    }))
}
