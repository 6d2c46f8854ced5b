//! Swaps between two versions of n8n under a steady load: what failed, was lost or doubled, and how long callers waited.

use std::collections::BTreeMap;
use std::time::Duration;

use genesis_shared::stack::{ImageRef, Service};
use genesis_shared::wire::{JobState, JobView};
use serde_json::{Value, json};

use crate::engine::{N8N_OLD_VARIABLE, N8N_VARIABLE, image_from_env};
use crate::stack::{LEDGER_PATH, StackRig};
use crate::traffic::{Call, Traffic};

/// A call that took longer than this was held.
const HELD: Duration = Duration::from_secs(1);

/// The two images, the older one first.
pub fn two_versions() -> [ImageRef; 2] {
    [image_from_env(N8N_OLD_VARIABLE), image_from_env(N8N_VARIABLE)]
}

/// One swap of a run.
#[derive(Debug)]
pub struct Swap {
    /// The job as the hub has it.
    pub job: JobView,
    /// From when to when it ran, since the load began.
    pub span: [Duration; 2],
}

impl Swap {
    /// What the agent said of it.
    pub fn output(&self) -> &Value {
        self.job.result.as_ref().map_or(&Value::Null, |result| &result.output[0])
    }

    fn millis(&self, member: &str) -> Option<u64> {
        self.output()[member].as_u64()
    }
}

/// Everything that a run left behind to be judged.
#[derive(Debug)]
pub struct Run {
    /// The swaps in order.
    pub swaps: Vec<Swap>,
    /// Every call by its id.
    pub calls: BTreeMap<String, Call>,
    /// Ids that the workflow wrote into the database.
    pub written: Vec<String>,
    /// Full minutes on which a schedule should have fired and did not, and those on which it fired more than once.
    pub ticks: [u64; 2],
}

/// Swaps n8n so many times, each time to the other version, under `rate` calls a second; `each` hears of every one.
///
/// # Errors
/// A swap that did not succeed, in the agent's words.
pub async fn run(rig: &StackRig, swaps: u32, rate: u32, mut each: impl FnMut(&Swap)) -> Result<Run, String> {
    let images = two_versions();
    let traffic = Traffic::start(rig.caller.clone(), rig.url(&format!("/webhook/{LEDGER_PATH}")), "swap", rate);
    let mut done = Vec::new();
    for n in 0..swaps as usize {
        let begun = traffic.elapsed();
        let job = rig.run(rig.swap_command(Service::N8n, &images[n % 2])).await;
        if job.state != JobState::Succeeded {
            return Err(format!("swap {n} to {} ended as {:?}", images[n % 2], job.result));
        }
        done.push(Swap { job, span: [begun, traffic.elapsed()] });
        each(&done[n]);
    }
    let calls = traffic.finish().await;
    Ok(Run { swaps: done, calls, written: rig.ledger_ids().await, ticks: ticks(rig).await })
}

impl Run {
    /// Calls that were not answered with 200.
    pub fn failed(&self) -> Vec<(&String, &Call)> {
        self.calls.iter().filter(|(_, call)| call.outcome != Ok(200)).collect()
    }

    /// Calls that were answered with 200 and whose workflow wrote nothing.
    pub fn lost(&self) -> Vec<&String> {
        let written = self.times_written();
        let is_lost = |(id, call): &(&String, &Call)| call.outcome == Ok(200) && !written.contains_key(id.as_str());
        self.calls.iter().filter(is_lost).map(|(id, _)| id).collect()
    }

    /// Ids that were written more than once.
    pub fn doubled(&self) -> Vec<&str> {
        self.times_written().into_iter().filter(|(_, times)| *times > 1).map(|(id, _)| id).collect()
    }

    fn times_written(&self) -> BTreeMap<&str, u64> {
        let mut times = BTreeMap::new();
        for id in &self.written {
            *times.entry(id.as_str()).or_default() += 1;
        }
        times
    }

    /// Whether nobody outside could tell that there were swaps, but by waiting.
    pub fn is_flawless(&self) -> bool {
        self.failed().is_empty() && self.lost().is_empty() && self.doubled().is_empty() && self.ticks == [0, 0]
    }

    /// The figures.
    pub fn figures(&self) -> Value {
        let held = || self.calls.values().filter(|call| call.took > HELD);
        // How much longer than n8n itself needed to start.
        let beyond = held().filter_map(|call| {
            let swap = self.swaps.iter().find(|swap| swap.span[0] <= call.sent_at && call.sent_at <= swap.span[1])?;
            Some(millis(call.took).saturating_sub(swap.millis("n8n_ready_ms")?))
        });
        let of_swaps = |member: &str| self.swaps.iter().filter_map(|swap| swap.millis(member)).collect::<Vec<_>>();
        json!({
            "swaps": self.swaps.len(),
            "requests": self.calls.len(),
            "failed": self.failed().len(),
            "lost": self.lost().len(),
            "doubled": self.doubled().len(),
            "schedule_slots_missed": self.ticks[0],
            "schedule_slots_doubled": self.ticks[1],
            "held_requests": held().count(),
            "held_ms_p99": percentile(held().map(|call| millis(call.took)).collect(), 99),
            "held_beyond_n8n_start_ms_p50": percentile(beyond.clone().collect(), 50),
            "held_beyond_n8n_start_ms_p99": percentile(beyond.collect(), 99),
            "door_closed_ms_p50": percentile(of_swaps("held_ms_max"), 50),
            "door_closed_ms_p99": percentile(of_swaps("held_ms_max"), 99),
            "n8n_start_ms_p50": percentile(of_swaps("n8n_ready_ms"), 50),
            "n8n_start_ms_p99": percentile(of_swaps("n8n_ready_ms"), 99),
        })
    }
}

/// Minutes between the first and the last that the schedule missed, and those on which it fired twice.
async fn ticks(rig: &StackRig) -> [u64; 2] {
    let sql = "WITH slot AS (SELECT date_trunc('minute', at + interval '30 seconds') AS at, count(*) AS n FROM tick GROUP BY 1),
               span AS (SELECT generate_series(min(at), max(at), interval '1 minute') AS at FROM slot)
               SELECT count(*) FILTER (WHERE slot.n IS NULL), count(*) FILTER (WHERE slot.n > 1)
               FROM span LEFT JOIN slot USING (at)";
    let text = rig.lab.sql("n8n", sql).await;
    let (missed, doubled) = text.split_once('|').unwrap();
    [missed.parse().unwrap(), doubled.parse().unwrap()]
}

/// The value below which `percent` of all lie.
pub fn percentile(mut values: Vec<u64>, percent: usize) -> Option<u64> {
    values.sort_unstable();
    values.get((values.len().saturating_sub(1) * percent).div_ceil(100)).copied()
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
