//! `kill -9` at random moments over all actions and a real n8n: lost, doubled, and the longest recovery.

use genesis_tests::kills::{Killer, supported_actions};
use genesis_tests::n8n::{Kind, N8n};
use genesis_tests::operator::random;
use genesis_tests::process::binary;
use genesis_tests::rig::Rig;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Failure, say};

#[derive(clap::Args)]
pub struct Options {
    /// A fresh n8n that runs already; else one is started from where GENESIS_N8N_TREE names it.
    #[arg(long)]
    n8n_url: Option<String>,
    /// How often to kill.
    #[arg(long, default_value_t = 200)]
    kills: u32,
    /// Repeats the dice of an earlier run; the machine's own timing stays its own.
    #[arg(long)]
    seed: Option<u64>,
}

pub fn run(options: &Options) -> Result<Value, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(measure(options))
}

async fn measure(options: &Options) -> Result<Value, Failure> {
    let folder = TempDir::with_prefix("genesis-bench-")?;
    let n8n = match &options.n8n_url {
        Some(url) => N8n::running(url, Kind::Real),
        None => N8n::start(Kind::Real, folder.path()).await,
    };
    let seed = options.seed.unwrap_or_else(|| u64::from_le_bytes(random()));
    say(&format!("n8n is up; seed {seed}"));
    let rig = Rig::over(n8n, folder, binary("genesis-agent")).await;
    let figures = Killer::new(rig, seed, options.kills).await?.run().await;
    for wrong in &figures.wrongs {
        say(&format!("{wrong:?}"));
    }
    let unmet: Vec<_> = supported_actions().difference(&figures.actions).cloned().collect();
    let json = json!({
        "kills": figures.kills,
        "lost": figures.lost,
        "doubled": figures.doubled,
        "recovery_ms_max": figures.recovery_ms_max,
        "hub_kills": figures.hub_kills,
        "bundles": figures.bundles,
        "actions": figures.actions.len(),
        "actions_never_killed": unmet,
        "seed": seed,
        "method": "SIGKILL of agent (two in three) or hub while a bundle is open, over every scenario of the crash proofs; n8n's content compared with a model after each bundle; recovery is from the agent's start until the hub heard of it",
    });
    let is_honest = figures.lost + figures.doubled == 0 && figures.kills >= options.kills && unmet.is_empty();
    if is_honest { Ok(json) } else { Err(json.to_string().into()) }
}
