//! Real swaps between two versions of n8n under a steady load: failed, lost, doubled requests, and what callers waited.

use std::collections::BTreeMap;
use std::time::Duration;

use genesis_shared::stack::Service;
use genesis_shared::wire::{JobState, JobView};
use genesis_tests::engine::{N8N_OLD_VARIABLE, N8N_VARIABLE, image_from_env};
use genesis_tests::stack::{LEDGER_PATH, StackRig};
use genesis_tests::traffic::{Call, Traffic, with_traffic};
use serde_json::{Value, json};

use super::compose;
use super::{Failure, say};

#[derive(clap::Args)]
pub struct Options {
    /// How many swaps, each to the other of two versions.
    #[arg(long, default_value_t = 5)]
    swaps: u32,
    /// Calls a second.
    #[arg(long, default_value_t = 20)]
    rate: u32,
    /// Leave out what a user would do otherwise (`docker compose up -d` with the new tag).
    #[arg(long)]
    no_compose: bool,
}

pub fn run(options: &Options) -> Result<Value, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(with_traffic(measure(options)))
}

async fn measure(options: &Options) -> Result<Value, Failure> {
    let images = [image_from_env(N8N_OLD_VARIABLE), image_from_env(N8N_VARIABLE)];
    let mut rig = StackRig::new().await;
    rig.deploy_ledger().await;
    say("the stack serves");
    let traffic = Traffic::start(rig.caller.clone(), rig.url(&format!("/webhook/{LEDGER_PATH}")), "swap", options.rate);
    let mut jobs = Vec::new();
    for n in 0..options.swaps {
        let image = &images[n as usize % 2];
        let job = rig.run(rig.swap_command(Service::N8n, image)).await;
        if job.state != JobState::Succeeded {
            return Err(format!("swap {n} to {image} ended as {:?}", job.result).into());
        }
        say(&format!("swap {} of {}: {}", n + 1, options.swaps, output(&job)));
        jobs.push(job);
    }
    let calls = traffic.finish().await;
    let ids = rig.ledger_ids().await;
    let mut figures = judge(&calls, &ids, &jobs);
    let (missed, doubled) = ticks(&rig).await;
    figures["schedule_slots_missed"] = json!(missed);
    figures["schedule_slots_doubled"] = json!(doubled);
    figures["swaps"] = json!(options.swaps);
    figures["rate_per_s"] = json!(options.rate);
    figures["compose_failed"] = match options.no_compose {
        true => Value::Null,
        false => compose::failed(&mut rig, &images, options.rate).await?,
    };
    figures["method"] = json!(
        "one agent on a Docker engine; containers limited to 512 + 160 + 96 MiB without swap; calls through the proxy's TLS, one at each tick, whose workflow writes the id into PostgreSQL before it answers; held are calls that waited more than a second; compose: docker compose up -d with the other tag and a plain reverse_proxy, same load"
    );
    let wrong = ["failed", "lost", "doubled", "schedule_slots_missed", "schedule_slots_doubled"];
    let is_honest = wrong.iter().all(|name| figures[*name] == 0);
    if is_honest { Ok(figures) } else { Err(figures.to_string().into()) }
}

fn output(job: &JobView) -> &Value {
    job.result.as_ref().map_or(&Value::Null, |result| &result.output[0])
}

fn judge(calls: &BTreeMap<String, Call>, ids: &[String], jobs: &[JobView]) -> Value {
    let mut written: BTreeMap<&str, u64> = BTreeMap::new();
    for id in ids {
        *written.entry(id).or_default() += 1;
    }
    let is_ok = |call: &Call| call.outcome == Ok(200);
    let failed: Vec<_> = calls.iter().filter(|(_, call)| !is_ok(call)).collect();
    for (id, call) in failed.iter().take(5) {
        say(&format!("failed: {id} sent at {:?}, took {:?}: {:?}", call.sent_at, call.took, call.outcome));
    }
    let lost = calls.iter().filter(|(id, call)| is_ok(call) && !written.contains_key(id.as_str())).count();
    let doubled = written.values().filter(|count| **count > 1).count();
    let mut held: Vec<u64> = calls.values().map(|call| millis(call.took)).filter(|took| *took > 1_000).collect();
    let mut starts: Vec<u64> = jobs.iter().filter_map(|job| output(job)["n8n_ready_ms"].as_u64()).collect();
    let mut brackets: Vec<u64> = jobs.iter().filter_map(|job| output(job)["held_ms_max"].as_u64()).collect();
    json!({
        "requests": calls.len(),
        "failed": failed.len(),
        "lost": lost,
        "doubled": doubled,
        "held_requests": held.len(),
        "held_ms_p99": percentile(&mut held, 99),
        "held_bracket_ms_p50": percentile(&mut brackets, 50),
        "n8n_start_ms_p50": percentile(&mut starts, 50),
        "n8n_start_ms_p99": percentile(&mut starts, 99),
    })
}

/// Full minutes between the first and the last that a schedule should have fired on and did not, and those on which it
/// fired more than once.
async fn ticks(rig: &StackRig) -> (u64, u64) {
    let sql = "WITH slot AS (SELECT date_trunc('minute', at + interval '30 seconds') AS at, count(*) AS n FROM tick GROUP BY 1),
               span AS (SELECT generate_series(min(at), max(at), interval '1 minute') AS at FROM slot)
               SELECT count(*) FILTER (WHERE slot.n IS NULL), count(*) FILTER (WHERE slot.n > 1)
               FROM span LEFT JOIN slot USING (at)";
    let text = rig.lab.sql("n8n", sql).await;
    let (missed, doubled) = text.split_once('|').unwrap_or(("0", "0"));
    (missed.parse().unwrap_or(u64::MAX), doubled.parse().unwrap_or(u64::MAX))
}

fn percentile(values: &mut [u64], percent: usize) -> Option<u64> {
    values.sort_unstable();
    values.get((values.len().saturating_sub(1) * percent).div_ceil(100)).copied()
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
