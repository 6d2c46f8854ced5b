//! `genesis-fleet`: light agents against any hub, for trying out a dashboard, a rollout, or a machine.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use clap::Parser;
use genesis_shared::secret::Secret;
use genesis_tests::swarm::{Pace, Script, Swarm, Way};
use genesisctl::client::HubClient;
use serde_json::json;

/// Registers light agents with a hub and runs them until it is interrupted: they speak the real protocol over TLS, each
/// from an address 127.0.x.y of its own, and do nothing but what their script says.
///
/// Each second one JSON object on stdout tells how many requests were answered. For trying things out only: what such an
/// agent is asked it does not do, and what was signed it does not verify.
#[derive(Parser)]
#[command(
    name = "genesis-fleet",
    version,
    after_help = "Example:\n  genesis-fleet --hub 127.0.0.1:8443 --ca ca.pem --agents 1000 --failing 2 --flapping 5"
)]
struct Args {
    /// The hub; its certificate has to be for this address.
    #[arg(long)]
    hub: SocketAddr,
    /// The authority (PEM) of the hub's certificate.
    #[arg(long)]
    ca: PathBuf,
    /// An API token with the scope enrol.
    #[arg(long, env = "GENESIS_TOKEN", hide_env_values = true)]
    token: String,
    /// How many agents.
    #[arg(long, default_value_t = 100)]
    agents: u32,
    /// Of a hundred, so many fail at every job.
    #[arg(long, default_value_t = 0)]
    failing: u32,
    /// Of a hundred, so many never say how a job ended.
    #[arg(long, default_value_t = 0)]
    mute: u32,
    /// Of a hundred, so many lose their connection again and again.
    #[arg(long, default_value_t = 0)]
    flapping: u32,
    /// Of a hundred, so many take five seconds for a job.
    #[arg(long, default_value_t = 0)]
    slow: u32,
    /// Seconds between heartbeats.
    #[arg(long, default_value_t = 60)]
    beat_s: u64,
}

impl Args {
    /// Spread evenly: by the agent's number within its hundred.
    fn script(&self, number: u32) -> Script {
        let mut place = number * 61 % 100;
        for (share, name) in
            [(self.failing, "failing"), (self.mute, "mute"), (self.flapping, "flapping"), (self.slow, "slow")]
        {
            if place < share {
                return Script::named(name).unwrap_or(Script::PROMPT);
            }
            place -= share;
        }
        Script::PROMPT
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let ran = runtime.map_err(|e| e.to_string()).and_then(|runtime| runtime.block_on(run(&args)));
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            #[allow(clippy::print_stderr, reason = "the reason belongs on stderr")]
            {
                eprintln!("genesis-fleet: {why}");
            }
            ExitCode::FAILURE
        }
    }
}

async fn run(args: &Args) -> Result<(), String> {
    let ca = std::fs::read(&args.ca).map_err(|e| format!("{}: {e}", args.ca.display()))?;
    let client = HubClient::new(&format!("https://{}", args.hub), Some(&ca), Secret::new(args.token.clone()));
    let client = client.map_err(|e| e.to_string())?;
    let way = Arc::new(Way::new(args.hub, &ca)?);
    let mut swarm = Swarm::enrol(&client, &way, args.agents, |number| args.script(number)).await?;
    let pace = Pace { beat: Duration::from_secs(args.beat_s), ..Pace::USUAL };
    swarm.start(pace, Duration::from_secs(args.beat_s.min(30)));
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            interrupted = tokio::signal::ctrl_c() => {
                swarm.stop().await;
                return interrupted.map_err(|e| e.to_string());
            }
        }
        let ledger = &swarm.ledger;
        let (answered, unanswered) =
            (ledger.answered.load(Ordering::Relaxed), ledger.unanswered.load(Ordering::Relaxed));
        #[allow(clippy::print_stdout, reason = "the figures are the output")]
        {
            println!("{}", json!({"agents": args.agents, "answered": answered, "unanswered": unanswered}));
        }
    }
}
