//! The agent dies at every port call and every journal write, singly and in pairs, and does everything twice: each
//! accepted command still ends in one outcome whose effects are there once. Enumerated, not sampled; looped over every
//! supported action.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that cannot go on fails; figures are printed")]

use std::collections::BTreeSet;

use genesis_agent::exec::twice::{Twice, repeat};
use genesis_shared::command::{Action, CommandError, CommandWire};
use genesis_shared::report::OutcomeState;
use genesis_tests::proofs::{At, Depth, Proof, Tally, play_alone};
use genesis_tests::scenario::{good_scenarios, scenarios};

/// Steps that leave nothing behind that could be taken back, or that cannot be taken back at all.
const WITHOUT_UNDO: [&str; 21] = [
    "pull_image",
    "check_swap",
    "await_quiet",
    "drain",
    "await_ready",
    "probe",
    "release",
    "note_stack",
    "dump",
    "read_logs",
    "last_metrics",
    "check_references",
    "remove_doubles",
    "note_generation",
    "check_health",
    "list_state",
    "verify",
    "collect_metrics",
    "delete_workflow",
    "delete_credential",
    "confirm_agent",
];

#[test]
fn every_step_may_repeat() {
    let (mut steps, mut repeats) = (0, 0);
    for scenario in scenarios() {
        let once = play_alone(&scenario, &[], At::Everything).unwrap();
        let repeating = repeat(Twice::Steps);
        let twice = play_alone(&scenario, &[], At::Everything).unwrap();
        assert_eq!(twice.creates, once.creates, "{}", scenario.name);
        let performed = once.result.steps.iter().filter(|step| step.attempts > 0).count();
        // Steps of the scenario's earlier commands are repeated too; one that fails has nothing to repeat.
        let succeeded = performed - usize::from(scenario.outcome == OutcomeState::Failed);
        assert!(repeating.count() as usize >= succeeded, "{}: each step was repeated", scenario.name);
        (steps, repeats) = (steps + succeeded, repeats + repeating.count());
    }
    println!("{steps} steps, each carried out twice; {repeats} repetitions with those of earlier commands");
}

#[test]
fn every_crash_resumes() {
    let tally = Proof::of(Depth::Points).run(&scenarios());
    println!("{} points in {} scenarios: {:?}", tally.points, tally.scenarios, tally.points_of);
    nothing_is_wrong(&tally);
    assert!(tally.points > 400, "{} points", tally.points);
}

#[test]
fn every_pair_of_crashes_resumes() {
    let tally = Proof::of(Depth::Pairs).run(&scenarios());
    println!("{} pairs over {} points in {} scenarios", tally.pairs, tally.points, tally.scenarios);
    nothing_is_wrong(&tally);
    assert!(tally.pairs > 10 * tally.points, "second lives pass points too: {} pairs", tally.pairs);
}

fn nothing_is_wrong(tally: &Tally) {
    assert!(tally.is_clean(), "{} lost, {} doubled; first: {:?}", tally.lost, tally.doubled, tally.first);
}

#[test]
fn every_supported_action_has_a_scenario_that_is_crashed_in_pairs() {
    let small = scenarios().into_iter().filter(|scenario| scenario.is_small);
    let covered: BTreeSet<String> = small.flat_map(|scenario| scenario.actions).collect();
    for action in Action::ALL {
        let wire = CommandWire { action: action.name().into(), payload: None };
        let supported = !matches!(wire.parse(), Err(CommandError::Unsupported(_)));
        assert_eq!(covered.contains(action.name()), supported, "{action}");
    }
}

#[test]
fn every_kind_of_undo_has_a_scenario_that_is_crashed_in_pairs() {
    let (mut seen, mut undone) = (BTreeSet::new(), BTreeSet::new());
    for scenario in scenarios() {
        for step in play_alone(&scenario, &[], At::Everything).unwrap().result.steps {
            let kind = step.name.split(' ').next().unwrap().to_owned();
            // A step before which something failed is `pending`; one that failed is undone as well.
            if scenario.is_small && step.state == "undone" {
                undone.insert(kind.clone());
            }
            seen.insert(kind);
        }
    }
    for kind in seen {
        assert!(undone.contains(&kind) || WITHOUT_UNDO.contains(&kind.as_str()), "{kind} is never undone");
    }
}

#[tokio::test(start_paused = true)]
async fn every_failure_unwinds() {
    for scenario in good_scenarios() {
        scenario.every_failure_unwinds(1).await;
    }
}

#[tokio::test(start_paused = true)]
async fn every_failure_unwinds_although_each_undo_is_disturbed_once() {
    for scenario in good_scenarios() {
        scenario.every_failure_unwinds(2).await;
    }
}

#[tokio::test(start_paused = true)]
async fn every_failure_unwinds_also_when_each_undo_is_carried_out_twice() {
    let repeating = repeat(Twice::Undos);
    for scenario in good_scenarios() {
        scenario.every_failure_unwinds(1).await;
    }
    println!("{} undos, each carried out twice", repeating.count());
    assert!(repeating.count() > 10);
}

#[tokio::test(start_paused = true)]
async fn every_failure_unwinds_also_when_each_step_was_carried_out_twice() {
    let repeating = repeat(Twice::Steps);
    for scenario in good_scenarios() {
        scenario.every_failure_unwinds(1).await;
    }
    assert!(repeating.count() > 10);
}
