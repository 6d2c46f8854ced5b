//! Enumerates the crash points of every action, singly and in pairs, and counts what was lost or done twice.

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::time::Instant;

use genesis_tests::proofs::{Ran, play};
use genesis_tests::scenario::{Scenario, scenarios};
use serde_json::{Value, json};

use super::{Failure, say};

/// What the runs came to.
#[derive(Default)]
struct Tally {
    points: u64,
    pairs: u64,
    lost: u64,
    doubled: u64,
}

pub fn run() -> Result<Value, Failure> {
    let scenarios = scenarios();
    let actions: BTreeSet<String> = scenarios.iter().flat_map(|scenario| scenario.actions.clone()).collect();
    let mut tally = Tally::default();
    #[allow(clippy::disallowed_methods, reason = "a bench measures time")]
    let started = Instant::now();
    for scenario in &scenarios {
        let whole = once(scenario, &[]).ok_or_else(|| format!("{} fails without a crash", scenario.name))?;
        for first in 1..=whole.passed {
            tally.count(&whole, once(scenario, &[first]));
            tally.points += 1;
            if scenario.is_small {
                tally.pairs_after(scenario, &whole, first);
            }
        }
        say(&format!("{}: {} points; {} pairs so far", scenario.name, whole.passed, tally.pairs));
    }
    let Tally { points, pairs, lost, doubled } = tally;
    let figures = json!({
        "actions": actions.len(),
        "points": points,
        "pairs": pairs,
        "lost": lost,
        "doubled": doubled,
        "seconds": started.elapsed().as_secs(),
        "method": "simulated ports, real journal; each point is a port call or journal write that did not happen, or happened and nobody heard",
    });
    if lost + doubled == 0 { Ok(figures) } else { Err(figures.to_string().into()) }
}

impl Tally {
    fn pairs_after(&mut self, scenario: &Scenario, whole: &Ran, first: u64) {
        for second in 1.. {
            let ran = once(scenario, &[first, second]);
            if ran.is_some_and(|ran| ran.crashed < 2) {
                return;
            }
            self.count(whole, ran);
            self.pairs += 1;
        }
    }

    fn count(&mut self, whole: &Ran, ran: Option<Ran>) {
        match ran {
            // A check of the scenario failed: the outcome or what n8n holds is not what it should be.
            None => self.lost += 1,
            Some(ran) if ran.creates != whole.creates => self.doubled += 1,
            Some(_) => {}
        }
    }
}

/// One run in a runtime of its own, whose time is paused; `None` if one of its checks failed.
fn once(scenario: &Scenario, crashes: &[u64]) -> Option<Ran> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().ok()?;
    std::panic::catch_unwind(AssertUnwindSafe(|| runtime.block_on(play(scenario, crashes)))).ok()
}
