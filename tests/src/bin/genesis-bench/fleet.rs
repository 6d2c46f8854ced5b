//! The real hub with thousands of connected agents: its processor time and memory, and how fast commands arrive.

use std::time::Duration;

use genesis_shared::id::JobId;
use genesis_shared::limits::STARTS_PER_S;
use genesis_tests::swarm::{Pace, Script, Stage, Swarm, now};
use serde_json::{Value, json};

use super::{Failure, say};

#[derive(clap::Args)]
pub struct Options {
    /// How many agents.
    #[arg(long, default_value_t = 1_000)]
    agents: u32,
    /// Seconds of nothing but polls and heartbeats over which processor time is taken.
    #[arg(long, default_value_t = 60)]
    steady_s: u64,
    /// Single commands, 50 a second, whose way to the journal is timed.
    #[arg(long, default_value_t = 1_000)]
    pushes: u32,
    /// Only enrol, and measure what a steady fleet costs.
    #[arg(long)]
    only_steady: bool,
}

const METHOD: &str = "a real hub process; light agents in this process over TLS 1.3 and HTTP/2, one connection and one \
    address 127.0.x.y each, polls of 25 s, heartbeats of 60 s with signed checkpoints, on the same cores as the hub; \
    processor time from /proc over the steady time; memory is VmRSS then less VmRSS with all enrolled and none \
    connected; journaled is when an agent has taken the job, confirmed is when the hub has answered its result";

/// Single commands per second in the background.
const PUSHES_PER_S: u32 = 50;

pub fn run(options: &Options) -> Result<Value, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(measure(options))
}

async fn measure(options: &Options) -> Result<Value, Failure> {
    let mut stage = Stage::new("connections_max = 60000\n").await;
    let started = now();
    let mut swarm = Swarm::enrol(&stage.client, &stage.way, options.agents, |_| Script::PROMPT).await?;
    let (enrolled_s, empty) = (started.elapsed().as_secs_f64(), stage.hub.resident_bytes());
    say(&format!("{} enrolled in {enrolled_s:.1} s; the hub has {empty} bytes", options.agents));
    let began = now();
    swarm.start(Pace::USUAL, Duration::from_secs(30));
    everybody_is_heard(&swarm, began).await?;
    // Two rounds of polls: what handshakes needed for a moment is free again.
    tokio::time::sleep(Duration::from_secs(60)).await;
    let (cpu, resident, from) = (stage.hub.cpu(), stage.hub.resident_bytes(), now());
    tokio::time::sleep(Duration::from_secs(options.steady_s)).await;
    let cores = (stage.hub.cpu() - cpu).as_secs_f64() / from.elapsed().as_secs_f64();
    let per_agent = resident.saturating_sub(empty) / u64::from(options.agents);
    let mut figures = json!({
        "agents": options.agents,
        "hub_cores": round(cores),
        "hub_bytes_per_agent": per_agent,
        "hub_bytes": resident,
        "hub_bytes_before": empty,
        "enrolled_s": round(enrolled_s),
    });
    say(&figures.to_string());
    if !options.only_steady {
        commands(&stage, &swarm, options, &mut figures).await?;
    }
    swarm.stop().await;
    figures["method"] = METHOD.into();
    let ended_in_order = stage.hub.terminate().await;
    if !ended_in_order {
        return Err("the hub did not end in order".into());
    }
    Ok(figures)
}

fn round(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

async fn everybody_is_heard(swarm: &Swarm, began: std::time::Instant) -> Result<(), Failure> {
    loop {
        let heard = swarm.ledger.heard_since(began);
        if heard == swarm.droplets.len() {
            return Ok(());
        }
        if began.elapsed() > Duration::from_secs(300) {
            return Err(format!("only {heard} agents were heard within 300 s").into());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Adds what is measured with commands.
async fn commands(stage: &Stage, swarm: &Swarm, options: &Options, figures: &mut Value) -> Result<(), Failure> {
    let mut waits = singles(stage, swarm, options.pushes).await?;
    waits.sort();
    let at = |percent: usize| {
        let index = (waits.len() * percent / 100).min(waits.len().saturating_sub(1));
        waits.get(index).map_or(0.0, |wait| round(wait.as_secs_f64() * 1000.0))
    };
    figures["push_to_journal_ms_p50"] = at(50).into();
    figures["push_to_journal_ms_p99"] = at(99).into();
    say(&figures.to_string());
    // What 200 starts a second allow; nothing else holds agents back that are done at once.
    let ideal = options.agents.div_ceil(STARTS_PER_S);
    let patience = Duration::from_secs(u64::from(60 + 3 * ideal));
    figures["governed_s"] = round(everybody(stage, swarm, patience).await?).into();
    figures["governed_ideal_s"] = ideal.into();
    say(&figures.to_string());
    stage.client.set_limits(&open_limits()).await?;
    figures["fanout_s"] = round(everybody(stage, swarm, patience).await?).into();
    figures["redelivered"] = swarm.ledger.redelivered().into();
    Ok(())
}

/// Limits that hold nothing back.
pub fn open_limits() -> Value {
    json!({"starts_per_s": 100_000, "ignition": 1_000_000, "security": 1_000_000, "reboot": 1_000_000,
        "template": 1_000_000, "health": 1_000_000, "metric": 1_000_000})
}

/// Pushes one bundle to everybody; seconds until every result is confirmed by the hub.
async fn everybody(stage: &Stage, swarm: &Swarm, patience: Duration) -> Result<f64, Failure> {
    let bundle = stage.look(vec![]);
    let from = now();
    let answer = stage.client.push(bundle.as_bytes()).await?;
    if answer.job_ids.len() != swarm.droplets.len() {
        return Err(format!("{} jobs for {} agents", answer.job_ids.len(), swarm.droplets.len()).into());
    }
    while swarm.ledger.progress(&answer.job_ids).1 < answer.job_ids.len() {
        if from.elapsed() > patience {
            let progress = swarm.ledger.progress(&answer.job_ids);
            return Err(format!("{progress:?} of {} jobs after {patience:?}", answer.job_ids.len()).into());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(from.elapsed().as_secs_f64())
}

/// Pushes single commands at a steady rate; how long each took from the push to the journal of its droplet.
async fn singles(stage: &Stage, swarm: &Swarm, pushes: u32) -> Result<Vec<Duration>, Failure> {
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / PUSHES_PER_S);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut pushed = tokio::task::JoinSet::new();
    for n in 0..pushes {
        ticks.tick().await;
        let droplet = &swarm.droplets[(n as usize * 7919) % swarm.droplets.len()];
        let (bundle, client) = (stage.look(vec![droplet.workspace]), stage.client.clone());
        pushed.spawn(async move {
            let at = now();
            client.push(bundle.as_bytes()).await.map(|answer| (at, answer.job_ids)).map_err(|e| e.to_string())
        });
    }
    let mut waits = Vec::new();
    while let Some(answer) = pushed.join_next().await {
        let (at, jobs) = answer??;
        let journaled = until_done(swarm, &jobs, Duration::from_secs(120)).await?;
        waits.push(journaled.saturating_duration_since(at));
    }
    Ok(waits)
}

/// Waits until these jobs are journaled and reported; when the last was journaled.
async fn until_done(swarm: &Swarm, jobs: &[JobId], patience: Duration) -> Result<std::time::Instant, Failure> {
    let began = now();
    while swarm.ledger.progress(jobs).1 < jobs.len() {
        if began.elapsed() > patience {
            return Err(format!("{:?} of {} jobs after {patience:?}", swarm.ledger.progress(jobs), jobs.len()).into());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(jobs.iter().filter_map(|job| swarm.ledger.journaled_at(*job)).max().unwrap_or(began))
}
