//! `genesis-bench`: figures that this project states, measured by anyone. One JSON object is the last line of stdout.

mod attack;
mod compose;
mod crash_proofs;
mod first_boot;
mod fleet;
mod fuzz;
mod hub_kills;
mod journal;
mod kill9;
mod mapper;
mod memory;
mod power_cut;
mod queue;
mod self_update;
mod siege;
mod simulate;
mod stack_memory;
mod storm;
mod swap;
mod verify;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use serde_json::{Value, json};

/// Measures what Genesis states about itself.
///
/// Progress goes to stderr; the last line of stdout is one JSON object, with the method and the machine in it. The exit
/// code is 0 only when the run's own honesty checks hold.
#[derive(Parser)]
#[command(name = "genesis-bench", version)]
struct Args {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Subcommand)]
enum Bench {
    /// Size and memory of the static agent over a real run: handshake, ignition of the Golden Template, idle.
    #[command(after_help = "Example: genesis-bench memory --agent $(packaging/build-static.sh)")]
    Memory(memory::Options),
    /// Crashes at every port call and journal write of every action, singly and in pairs.
    #[command(after_help = "Example: genesis-bench crash-proofs")]
    CrashProofs(crash_proofs::Options),
    /// `kill -9` of agent and hub at random moments over all actions and a real n8n.
    #[command(after_help = "Example: genesis-bench kill9 --n8n-url http://127.0.0.1:5678 --kills 200")]
    Kill9(kill9::Options),
    /// Plays seeds of a simulated fleet: agents, the hub's handlers, faults of everything around them. A seed replays.
    #[command(after_help = "Example: genesis-bench simulate --seeds 100; genesis-bench simulate --seed 7")]
    Simulate(simulate::Options),
    /// Speed of the mapper, and whether mapping and mapping back gives the same workflow.
    #[command(after_help = "Example: genesis-bench mapper --dir hub/ctl/golden-template")]
    Mapper(mapper::Options),
    /// Power cuts at every change that the journal asks its disk for, and what was lost.
    #[command(after_help = "Example: genesis-bench power-cut")]
    PowerCut(power_cut::Options),
    /// The journal after many commands: size, start time, time of an acceptance.
    #[command(after_help = "Example: genesis-bench journal --commands 100000")]
    Journal(journal::Options),
    /// The attack suite on the real agent, and with each single check of the rules switched off.
    #[command(after_help = "Example: genesis-bench attack")]
    Attack,
    /// What the admission of a bundle costs, signatures and delivery token included.
    #[command(after_help = "Example: genesis-bench verify")]
    Verify,
    /// Thousands of idle connections and every kind of bad client against a hub, and what others notice of it.
    #[command(after_help = "Example: genesis-bench siege --idle 10000")]
    Siege(siege::Options),
    /// Real swaps between two versions of n8n under a steady load, on a real container engine.
    #[command(
        after_help = "Example: genesis-bench swap --swaps 100 --rate 20\nEngine and images: DOCKER_HOST, GENESIS_IMAGE_N8N, GENESIS_IMAGE_N8N_OLD, GENESIS_IMAGE_POSTGRES, GENESIS_IMAGE_CADDY."
    )]
    Swap(swap::Options),
    /// What the whole stack takes of a droplet's memory, at rest and through swaps.
    #[command(after_help = "Example: genesis-bench stack-memory --agent $(packaging/build-static.sh)")]
    StackMemory(stack_memory::Options),
    /// The real hub with many connected agents: processor time, memory, and how fast commands arrive.
    #[command(after_help = "Example: genesis-bench fleet --agents 15000")]
    Fleet(fleet::Options),
    /// The hub is killed and comes back after a while: how fast and how evenly the fleet returns, and what was lost.
    #[command(after_help = "Example: genesis-bench storm --agents 15000 --down 10")]
    Storm(storm::Options),
    /// `kill -9` of the hub at random moments under load: what it had acknowledged and does not know any more.
    #[command(after_help = "Example: genesis-bench hub-kills --kills 200")]
    HubKills(hub_kills::Options),
    /// Jobs per second through the hub's store, durably; beside BullMQ where Node, bullmq and Redis are there.
    #[command(
        after_help = "Example: genesis-bench queue --jobs 100000\nBullMQ: GENESIS_BULLMQ names a folder with node_modules/bullmq; redis-server must be on the PATH."
    )]
    Queue(queue::Options),
    /// An empty droplet of the lab until the tenant's workflows run.
    #[command(
        after_help = "Example: genesis-bench first-boot\nLab, engine and images: GENESIS_LAB, DOCKER_HOST, GENESIS_IMAGE_N8N, GENESIS_IMAGE_POSTGRES, GENESIS_IMAGE_CADDY. GENESIS_BINARIES: a folder with other binaries than this build's."
    )]
    FirstBoot,
    /// Updates of the agent that fail in every way: none may leave a droplet without an agent.
    #[command(after_help = "Example: genesis-bench self-update --failures 200")]
    SelfUpdate(self_update::Options),
    /// Mutated bundles, roots, grants, tokens and messages: none may panic or be accepted.
    #[command(after_help = "Example: genesis-bench fuzz --inputs 1000000 --seed 7")]
    Fuzz(fuzz::Options),
}

/// A figure that could not be had, or one that is not honest.
type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let measured = match Args::parse().bench {
        Bench::Memory(options) => memory::run(&options),
        Bench::Kill9(options) => kill9::run(&options),
        Bench::Mapper(options) => mapper::run(&options),
        Bench::CrashProofs(options) => crash_proofs::run(&options),
        Bench::PowerCut(options) => power_cut::run(&options),
        Bench::Journal(options) => journal::run(&options),
        Bench::Simulate(options) => simulate::run(&options),
        Bench::Attack => attack::run(),
        Bench::Verify => verify::run(),
        Bench::Siege(options) => siege::run(&options),
        Bench::Swap(options) => swap::run(&options),
        Bench::StackMemory(options) => stack_memory::run(&options),
        Bench::Storm(options) => storm::run(&options),
        Bench::HubKills(options) => hub_kills::run(&options),
        Bench::Queue(options) => queue::run(&options),
        Bench::Fleet(options) => fleet::run(&options),
        Bench::FirstBoot => first_boot::run(),
        Bench::SelfUpdate(options) => self_update::run(&options),
        Bench::Fuzz(options) => fuzz::run(&options),
    };
    match measured {
        Ok(mut figures) => {
            figures["machine"] = machine();
            #[allow(clippy::print_stdout, reason = "the figures are the output")]
            {
                println!("{figures}");
            }
            ExitCode::SUCCESS
        }
        Err(failure) => {
            say(&format!("failed: {failure}"));
            ExitCode::FAILURE
        }
    }
}

/// Progress, for people.
fn say(text: &str) {
    #[allow(clippy::print_stderr, reason = "progress belongs on stderr")]
    {
        eprintln!("{text}");
    }
}

/// Enough of the machine to compare figures by.
fn machine() -> Value {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    json!({
        "cpu": model.trim_start_matches([' ', '\t', ':']),
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "kernel": read("/proc/sys/kernel/osrelease").trim(),
    })
}
