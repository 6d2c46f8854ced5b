//! The hub is killed under a connected fleet and comes back: how fast and how evenly everybody returns.

use std::time::{Duration, Instant};

use genesis_shared::wire::JobState;
use genesis_tests::swarm::{Pace, Script, Stage, Swarm, now};
use genesisctl::client;
use serde_json::{Value, json};

use super::fleet::open_limits;
use super::{Failure, say};

#[derive(clap::Args)]
pub struct Options {
    /// How many agents.
    #[arg(long, default_value_t = 1_000)]
    agents: u32,
    /// Seconds for which the hub is away.
    #[arg(long, default_value_t = 10)]
    down: u64,
    /// Seconds after the return over which heartbeats are looked at for an echo.
    #[arg(long, default_value_t = 180)]
    echo_s: u64,
}

/// What is compared with the mean for an echo: heartbeats within so many seconds.
const ECHO_WINDOW_S: usize = 5;

pub fn run(options: &Options) -> Result<Value, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(measure(options))
}

async fn measure(options: &Options) -> Result<Value, Failure> {
    let mut stage = Stage::new("connections_max = 60000\n").await;
    let work = Duration::from_secs(4);
    let mut swarm = Swarm::enrol(&stage.client, &stage.way, options.agents, |_| Script::Prompt { work }).await?;
    say(&format!("{} enrolled", options.agents));
    // Open, so that jobs are under way everywhere when the hub dies.
    stage.client.set_limits(&open_limits()).await?;
    let began = now();
    swarm.start(Pace::USUAL, Duration::from_secs(30));
    all_heard(&swarm, began).await?;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let answer = stage.client.push(stage.look(vec![]).as_bytes()).await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let (journaled, reported) = swarm.ledger.progress(&answer.job_ids);
    say(&format!("killing the hub with {journaled} jobs journaled and {reported} reported"));
    stage.kill_hub();
    tokio::time::sleep(Duration::from_secs(options.down)).await;
    stage.start_hub().await;
    let back = now();
    let back_s = all_heard(&swarm, back).await?;
    let connects = swarm.ledger.connects_per_s(back);
    say(&format!("all back after {back_s:.1} s; connects per second {connects:?}"));
    let echo = echo(&swarm, back, options.echo_s).await;
    while swarm.ledger.progress(&answer.job_ids).1 < answer.job_ids.len() && back.elapsed().as_secs() < 600 {
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let lost = lost(&stage, &swarm).await?;
    swarm.stop().await;
    let total: u32 = connects.iter().sum();
    let seconds = connects.len().max(1);
    let mean = f64::from(total) / seconds as f64;
    let peak = connects.iter().copied().max().unwrap_or(0);
    Ok(json!({
        "agents": options.agents,
        "down_s": options.down,
        "back_s": round(back_s),
        "peak_over_mean": round(f64::from(peak) / mean.max(f64::MIN_POSITIVE)),
        "peak_connects_per_s": peak,
        "lost": lost,
        "echo": round(echo),
        "redelivered": swarm.ledger.redelivered(),
        "method": "SIGKILL of the hub with a bundle to everybody under way; back is when each agent was answered again, from the moment the hub listens; connects per second from then to the last; lost are jobs that did not succeed and results that were acknowledged and are not there; echo is the largest number of heartbeats within 5 s, from 60 s after the return on, over the mean of such spans",
    }))
}

fn round(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

/// Waits until everybody was answered since; seconds since then.
async fn all_heard(swarm: &Swarm, since: Instant) -> Result<f64, Failure> {
    loop {
        let heard = swarm.ledger.heard_since(since);
        if heard == swarm.droplets.len() {
            return Ok(since.elapsed().as_secs_f64());
        }
        if since.elapsed() > Duration::from_secs(600) {
            return Err(format!("only {heard} agents were answered within 600 s").into());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The largest over the mean number of heartbeats in a span, a minute after the return and later.
async fn echo(swarm: &Swarm, back: Instant, echo_s: u64) -> f64 {
    let end = Duration::from_secs(60 + echo_s);
    tokio::time::sleep(end.saturating_sub(back.elapsed())).await;
    let beats = swarm.ledger.beats_per_s(back);
    let later = beats.get(60..usize::try_from(60 + echo_s).unwrap_or(usize::MAX).min(beats.len())).unwrap_or_default();
    let spans: Vec<u32> = later.chunks_exact(ECHO_WINDOW_S).map(|span| span.iter().sum()).collect();
    let mean = f64::from(spans.iter().sum::<u32>()) / spans.len().max(1) as f64;
    f64::from(spans.iter().copied().max().unwrap_or(0)) / mean.max(f64::MIN_POSITIVE)
}

/// Jobs that did not succeed, whose result everybody believes to have delivered.
async fn lost(stage: &Stage, swarm: &Swarm) -> Result<usize, Failure> {
    let jobs = client::all_pages(&[], async |query| stage.client.jobs(query).await).await?;
    let succeeded = jobs.iter().filter(|job| job.state == JobState::Succeeded && job.result.is_some());
    let known: std::collections::BTreeSet<_> = succeeded.map(|job| job.job_id).collect();
    let reported = swarm.ledger.reported_jobs();
    let forgotten = reported.iter().filter(|job| !known.contains(job)).count();
    Ok(jobs.len() - known.len() + forgotten)
}
