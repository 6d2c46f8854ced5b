//! Agents that are wrong on purpose are caught by the crash proofs, and the right one is not.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that cannot go on fails; findings are printed")]

use genesis_agent::exec::mutant::Mutant;
use genesis_tests::proofs::{Depth, Proof, Tally};
use genesis_tests::scenario::scenarios;

/// Runs the crash proofs of the action that every mutant falls over; `crash.rs` runs all for the right agent.
fn judged(mutant: Option<Mutant>) -> Tally {
    let mut scenarios = scenarios();
    scenarios.retain(|scenario| scenario.actions == ["INJECT_CREDENTIAL"]);
    assert!(scenarios.len() >= 4);
    let tally = Proof { depth: Depth::Points, mutant, ends_at_first: true }.run(&scenarios);
    println!("{mutant:?}: {:?}", tally.first);
    tally
}

#[test]
fn one_that_skips_the_journal_write_is_caught() {
    assert!(!judged(Some(Mutant::SkipJournalWrite)).is_clean());
}

#[test]
fn one_that_repeats_a_create_without_observing_is_caught() {
    assert!(!judged(Some(Mutant::RepeatCreateBlindly)).is_clean());
}

#[test]
fn one_that_reports_before_acting_is_caught() {
    assert!(!judged(Some(Mutant::ReportBeforeActing)).is_clean());
}

#[test]
fn the_right_agent_is_not() {
    assert!(judged(None).is_clean());
}
