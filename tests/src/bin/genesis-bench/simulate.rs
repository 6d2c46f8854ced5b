//! Plays seeds of the fleet simulation and counts violated invariants.

use std::collections::BTreeMap;

use clap::Args;
use genesis_tests::fleet::{Outcome, Sabotage, simulate};
use ring::digest::{Context, SHA256};
use serde_json::{Value, json};

use super::{Failure, say};

/// Violations that are printed before the rest is only counted.
const SHOWN_MAX: u64 = 20;

#[derive(Args)]
pub struct Options {
    /// How many seeds to play, one after the other.
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// The first seed; alone, its trace goes to stderr.
    #[arg(long)]
    seed: Option<u64>,
}

/// What the seeds came to.
#[derive(Default)]
struct Tally {
    violated: u64,
    simulated_s: f64,
    ended: BTreeMap<String, u64>,
}

pub fn run(options: &Options) -> Result<Value, Failure> {
    let first = options.seed.unwrap_or(1);
    let aloud = options.seed.is_some() && options.seeds == 1;
    let (mut tally, mut hash) = (Tally::default(), Context::new(&SHA256));
    let before = cpu_seconds()?;
    for seed in first..first.saturating_add(options.seeds) {
        let outcome = simulate(seed, aloud, Sabotage::None);
        hash.update(outcome.trace_hash.as_bytes());
        tally.add(seed, &outcome);
        let done = seed - first + 1;
        if done.is_multiple_of(100) {
            say(&format!("{done} seeds, {} violated", tally.violated));
        }
    }
    let cpu_s = cpu_seconds()? - before;
    let per_minute = tally.simulated_s / 3600.0 / (cpu_s / 60.0);
    let figures = json!({
        "seeds": options.seeds,
        "first_seed": first,
        "violations": tally.violated,
        "fleet_hours_per_cpu_minute": per_minute.round(),
        "trace_hash": data_encoding::HEXLOWER.encode(hash.finish().as_ref()),
        "fleet_hours": (tally.simulated_s / 3600.0).round(),
        "cpu_seconds": cpu_s.round(),
        "jobs": tally.ended,
        "method": "3 agents over simulated ports and the hub's own handlers in one thread; 40 transitions a seed, then healed until rest; hours are those of the simulated clock, whatever the number of agents; CPU time of the process",
    });
    if tally.violated == 0 { Ok(figures) } else { Err(figures.to_string().into()) }
}

impl Tally {
    fn add(&mut self, seed: u64, outcome: &Outcome) {
        self.simulated_s += outcome.seconds;
        for (how, count) in &outcome.ended {
            *self.ended.entry(how.clone()).or_default() += count;
        }
        if let Some(first) = outcome.violations.first() {
            self.violated += 1;
            if self.violated <= SHOWN_MAX {
                say(&format!("seed {seed}: {first}"));
            }
        }
    }
}

/// CPU time that this process has used, user and system.
fn cpu_seconds() -> Result<f64, Failure> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    // The name in parentheses may hold anything; what follows it does not. utime and stime are fields 14 and 15.
    let rest = stat.rsplit_once(')').ok_or("/proc/self/stat has no name")?.1;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks: f64 = fields[11].parse::<f64>()? + fields[12].parse::<f64>()?;
    // USER_HZ is 100 on every Linux that there is.
    Ok(ticks / 100.0)
}
