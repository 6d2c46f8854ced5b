//! Real swaps between two versions of n8n under a steady load, and swaps that are forced to fail.

use genesis_tests::forced::{EVENTS_OF_A_SWAP, Forced, force};
use genesis_tests::stack::StackRig;
use genesis_tests::swaps::{self, percentile, two_versions};
use genesis_tests::traffic::with_traffic;
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
    /// How many swaps that cannot succeed, or in whose middle the power is cut, come afterwards.
    #[arg(long, default_value_t = 0)]
    failures: u32,
    /// Leave out what a user would do otherwise (`docker compose up -d` with the new tag).
    #[arg(long)]
    no_compose: bool,
}

const METHOD: &str = "one agent on a Docker engine; containers limited to 512 + 160 + 96 MiB without swap; calls through \
    the proxy's TLS, one at each tick, whose workflow writes the id into PostgreSQL before it answers; held are calls that \
    waited more than a second; compose: docker compose up -d with the other tag and a plain reverse_proxy, same load; \
    failures: images that end or never answer, a migration that fails, and agent and containers killed at once after each \
    event of the journal";

pub fn run(options: &Options) -> Result<Value, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(with_traffic(measure(options)))
}

async fn measure(options: &Options) -> Result<Value, Failure> {
    let mut rig = StackRig::new().await;
    rig.deploy_ledger().await;
    say("the stack serves");
    let mut count = 0;
    let run = swaps::run(&rig, options.swaps, options.rate, |swap| {
        count += 1;
        say(&format!("swap {count} of {}: {}", options.swaps, swap.output()));
    })
    .await?;
    for (id, call) in run.failed().into_iter().take(5) {
        say(&format!("failed: {id} sent at {:?}, took {:?}: {:?}", call.sent_at, call.took, call.outcome));
    }
    let mut figures = run.figures();
    figures["rate_per_s"] = json!(options.rate);
    let (failures, is_clean) = failures(&mut rig, options.failures).await;
    figures["forced"] = failures;
    figures["compose_failed"] = match options.no_compose {
        true => Value::Null,
        false => compose::failed(&mut rig, &two_versions(), options.rate).await?,
    };
    figures["method"] = json!(METHOD);
    if run.is_flawless() && is_clean { Ok(figures) } else { Err(figures.to_string().into()) }
}

/// Each kind in turn; one in ten never answers, which takes its minute.
fn kind(n: u32) -> Forced {
    match n % 10 {
        0 => Forced::NeverHealthy,
        3 => Forced::Ends,
        6 => Forced::Migration,
        _ => Forced::PowerCut(1 + n * 7 % EVENTS_OF_A_SWAP),
    }
}

async fn failures(rig: &mut StackRig, count: u32) -> (Value, bool) {
    let (mut unanswered, mut broken, mut lost, mut doubled, mut calls) = (0, 0, 0, 0, 0);
    let mut back = Vec::new();
    for n in 0..count {
        let forced = kind(n);
        let outcome = force(rig, forced, &format!("forced-{n}"), 5).await;
        say(&format!(
            "{forced:?}: {:?} after {:?}; {} calls, {} unanswered, {} lost: {}",
            outcome.job.state,
            outcome.took,
            outcome.calls,
            outcome.unanswered.len(),
            outcome.lost,
            outcome.job.result.as_ref().map_or("", |result| result.message.as_str()),
        ));
        match forced {
            Forced::PowerCut(_) => broken += outcome.unanswered.len(),
            Forced::Ends | Forced::NeverHealthy | Forced::Migration => unanswered += outcome.unanswered.len(),
        }
        (lost, doubled, calls) = (lost + outcome.lost, doubled + outcome.doubled, calls + outcome.calls);
        back.push(u64::try_from(outcome.took.as_millis()).unwrap_or(u64::MAX));
    }
    let figures = json!({
        "failures": count, "calls": calls, "unanswered": unanswered, "broken_by_power_cuts": broken,
        "lost": lost, "doubled": doubled, "back_ms_p50": percentile(back.clone(), 50), "back_ms_max": percentile(back, 100),
    });
    (figures, unanswered + lost == 0 && doubled == 0)
}
