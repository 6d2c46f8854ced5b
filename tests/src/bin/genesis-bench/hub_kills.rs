//! `kill -9` of the hub at random moments under load.

use genesis_tests::operator::random;
use genesis_tests::swarm::kills;
use serde_json::{Value, json};

use super::{Failure, say};

#[derive(clap::Args)]
pub struct Options {
    /// How often to kill.
    #[arg(long, default_value_t = 200)]
    kills: u32,
    /// How many agents.
    #[arg(long, default_value_t = 50)]
    agents: u32,
    /// Repeats the dice of an earlier run; the machine's own timing stays its own.
    #[arg(long)]
    seed: Option<u64>,
}

pub fn run(options: &Options) -> Result<Value, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let seed = options.seed.unwrap_or_else(|| u64::from_le_bytes(random()));
    say(&format!("seed {seed}"));
    let figures = runtime.block_on(kills::run(options.agents, options.kills, seed))?;
    let json = json!({
        "kills": figures.kills,
        "agents": options.agents,
        "pushed": figures.pushed,
        "reported": figures.reported,
        "lost": figures.lost,
        "doubled": figures.doubled,
        "redelivered": figures.redelivered,
        "seed": seed,
        "method": "SIGKILL of the hub 20 to 720 ms after its start, under 100 pushes a second and the agents' polls, heartbeats and results; afterwards each acknowledged push must be one job that succeeded, each acknowledged result must be there; no job may reach two droplets",
    });
    let is_honest = figures.lost + figures.doubled == 0 && figures.pushed > 0;
    if is_honest { Ok(json) } else { Err(json.to_string().into()) }
}
