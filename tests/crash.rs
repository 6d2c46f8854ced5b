//! The agent dies at every port call and every journal write, singly and in pairs: each accepted command still ends in
//! one outcome whose effects are there once. Enumerated, not sampled; looped over every supported action.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use genesis_shared::command::{Action, CommandError, CommandWire};
use genesis_shared::report::OutcomeState;
use genesis_tests::proofs::{Ran, play};
use genesis_tests::scenario::scenarios;

#[tokio::test(start_paused = true)]
async fn every_crash_resumes() {
    for scenario in scenarios() {
        let Ran { passed: points, creates, .. } = play(&scenario, &[]).await;
        assert!(points >= 10, "{} passes {points} points", scenario.name);
        for point in 1..=points {
            let ran = play(&scenario, &[point]).await;
            assert_eq!(ran.creates, creates, "{}: a create was repeated after a crash at {point}", scenario.name);
            assert_eq!(ran.crashed, 1, "{}: the crash at {point} of {points} took place", scenario.name);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn every_pair_of_crashes_resumes() {
    let (mut pairs, mut points_in_all) = (0, 0);
    for scenario in scenarios().into_iter().filter(|scenario| scenario.is_small) {
        let Ran { passed: points, creates, .. } = play(&scenario, &[]).await;
        let pairs_before = pairs;
        points_in_all += points;
        for first in 1..=points {
            let mut second = 1;
            loop {
                let ran = play(&scenario, &[first, second]).await;
                assert_eq!(ran.creates, creates, "{}: repeated after {first} and {second}", scenario.name);
                if ran.crashed < 2 {
                    break;
                }
                (pairs, second) = (pairs + 1, second + 1);
            }
        }
        assert!(pairs - pairs_before > points, "{}: second lives pass points too", scenario.name);
    }
    assert!(pairs > 1000, "{pairs} pairs over {points_in_all} points");
}

#[test]
fn every_supported_action_has_a_scenario() {
    let covered: Vec<String> = scenarios().into_iter().flat_map(|scenario| scenario.actions).collect();
    for action in Action::ALL {
        let wire = CommandWire { action: action.name().into(), payload: None };
        let supported = !matches!(wire.parse(), Err(CommandError::Unsupported(_)));
        assert_eq!(covered.contains(&action.name().to_owned()), supported, "{action}");
    }
}

#[tokio::test(start_paused = true)]
async fn every_failure_unwinds() {
    for scenario in scenarios().into_iter().filter(|scenario| scenario.outcome == OutcomeState::Succeeded) {
        scenario.every_failure_unwinds(1).await;
    }
}

#[tokio::test(start_paused = true)]
async fn every_failure_unwinds_although_each_undo_is_disturbed_once() {
    for scenario in scenarios().into_iter().filter(|scenario| scenario.outcome == OutcomeState::Succeeded) {
        scenario.every_failure_unwinds(2).await;
    }
}
