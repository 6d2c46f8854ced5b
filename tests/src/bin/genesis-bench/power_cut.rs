//! Cuts the power at every change that the journal asks its disk for, and under the whole agent; counts what was lost.

use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use genesis_tests::power::script::{a_full_log, a_life, forgetting};
use genesis_tests::power::{Cuts, agent, cut_everywhere};
use genesis_tests::scenario::scenarios;
use serde_json::{Value, json};

use super::{Failure, say};

/// The longest that a journal may take to be ready again.
const RECOVERY_MAX: Duration = Duration::from_secs(2);

#[derive(clap::Args)]
pub struct Options {
    /// Random choices of what survives a cut, beside nothing, everything, and all but for a torn last write.
    #[arg(long, default_value_t = 3)]
    seeds: u64,
}

pub fn run(options: &Options) -> Result<Value, Failure> {
    #[allow(clippy::disallowed_methods, reason = "a bench measures time")]
    let started = Instant::now();
    let mut cuts = Cuts::default();
    for script in [a_life(), forgetting(), a_full_log()] {
        let of_script = cut_everywhere(&script, options.seeds, true);
        say(&format!("{}: {of_script:?}", script.name));
        cuts = cuts.and(of_script);
    }
    let (mut agent_cuts, mut agent_lost) = (0, 0);
    for scenario in scenarios().into_iter().filter(|scenario| scenario.is_small) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build()?;
        let run = || runtime.block_on(agent::cut_everywhere(&scenario, 0));
        match std::panic::catch_unwind(AssertUnwindSafe(run)) {
            Ok(cuts) => agent_cuts += cuts,
            // A check of the scenario failed: the outcome, or what n8n holds, is not what it should be.
            Err(_) => agent_lost += 1,
        }
        say(&format!("{}: {agent_cuts} cuts under the agent so far", scenario.name));
    }
    let pretended = cut_everywhere(&a_life(), options.seeds, false);
    let figures = json!({
        "cuts": cuts.cuts + agent_cuts,
        "cuts_journal": cuts.cuts,
        "cuts_agent": agent_cuts,
        "lost": cuts.lost + agent_lost,
        "corrupt": cuts.corrupt,
        "recovery_ms_max": cuts.recovery_max.as_millis(),
        "found_without_sync": pretended.lost + pretended.corrupt,
        "seconds": started.elapsed().as_secs(),
        "method": "SQLite file layer in memory; cut at every write, truncation, sync, creation and removal; unsynced changes survive not at all, wholly, with the last write torn, or in random subsets of writes and 512-byte sectors; recovery is open to next command; found_without_sync is the same on a drive that ignores syncs, which must find losses",
    });
    let is_honest = pretended.lost + pretended.corrupt > 0;
    let holds = cuts.lost + agent_lost + cuts.corrupt == 0 && cuts.recovery_max <= RECOVERY_MAX;
    if is_honest && holds { Ok(figures) } else { Err(figures.to_string().into()) }
}
