//! Enumerates the crash points of every action, singly and in pairs, and counts what was lost or done twice.

use std::collections::BTreeSet;
use std::time::Instant;

use genesis_tests::proofs::{Depth, Proof};
use genesis_tests::scenario::scenarios;
use serde_json::{Value, json};

use super::{Failure, say};

#[derive(clap::Args)]
pub struct Options {
    /// Pairs of crashes of the large scenarios too, which takes about an hour.
    #[arg(long)]
    all_pairs: bool,
}

pub fn run(options: &Options) -> Result<Value, Failure> {
    let scenarios = scenarios();
    let actions: BTreeSet<String> = scenarios.iter().flat_map(|scenario| scenario.actions.clone()).collect();
    #[allow(clippy::disallowed_methods, reason = "a bench measures time")]
    let started = Instant::now();
    let singly = Proof::of(Depth::Points).run(&scenarios);
    say(&format!("{} scenarios: {} points", singly.scenarios, singly.points));
    let in_pairs = Proof::of(if options.all_pairs { Depth::AllPairs } else { Depth::Pairs }).run(&scenarios);
    say(&format!("{} scenarios: {} pairs", in_pairs.scenarios, in_pairs.pairs));
    for wrong in [&singly.first, &in_pairs.first].into_iter().flatten() {
        say(&format!("{wrong:?}"));
    }
    let figures = json!({
        "actions": actions.len(),
        "points": singly.points,
        "pairs": in_pairs.pairs,
        "lost": singly.lost + in_pairs.lost,
        "doubled": singly.doubled + in_pairs.doubled,
        "seconds": started.elapsed().as_secs(),
        "scenarios": singly.scenarios,
        "method": "simulated ports, real journal; each point is a port call or journal write that did not happen, or happened and nobody heard",
    });
    if singly.is_clean() && in_pairs.is_clean() { Ok(figures) } else { Err(figures.to_string().into()) }
}
