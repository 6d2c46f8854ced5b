//! The agent dies at every port call and every journal write, singly and in pairs: each accepted command still ends in
//! one outcome whose effects are there once. Enumerated, not sampled; looped over every supported action.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use genesis_shared::command::{Action, CommandError, CommandWire};
use genesis_shared::id::JobId;
use genesis_shared::report::OutcomeState;
use genesis_tests::droplet::Droplet;
use genesis_tests::scenario::{Scenario, scenarios};

/// Lives after which a command must have ended: two planned crashes and one that runs to the end.
const LIVES_MAX: usize = 3;

/// What one run came to.
struct Ran {
    /// Points passed in the life that ended first.
    passed: u64,
    /// How many planned crashes took place.
    crashed: usize,
    /// Creations that n8n carried out.
    creates: u64,
}

/// Plays a scenario with crashes at the given points of the first lives, and checks what is left.
async fn play(scenario: &Scenario, crashes: &[u64]) -> Ran {
    let droplet = Droplet::new(7);
    let before = scenario.prepare(&droplet).await;
    let job = droplet.push(scenario.commands(&droplet).await);
    let mut ran = Ran { passed: 0, crashed: 0, creates: 0 };
    for life in 0..LIVES_MAX {
        droplet.outside.crash.plan(crashes.get(life).copied());
        let ended = live(&droplet, job).await;
        if life == 0 {
            ran.passed = droplet.outside.crash.passed();
        }
        if ended {
            break;
        }
        ran.crashed += 1;
    }
    droplet.outside.crash.plan(None);
    let what = format!("{} with crashes at {crashes:?}", scenario.name);
    let result = droplet.while_running(droplet.result(job)).await;
    assert_eq!(result.state, scenario.outcome, "{what}: {} {}", result.code, result.message);
    scenario.check(&droplet, &before, &what);
    let standin = droplet.outside.n8n.borrow();
    ran.creates = ["/api/v1/credentials", "/api/v1/workflows"].map(|path| standin.count("POST", path)).iter().sum();
    ran
}

/// One life of the agent: until the hub has the result (`true`) or the planned crash.
async fn live(droplet: &Droplet, job: JobId) -> bool {
    let crash = droplet.outside.crash.clone();
    droplet
        .one_life(async {
            tokio::select! {
                _ = droplet.result(job) => true,
                () = crash.happened() => false,
            }
        })
        .await
        .unwrap_or(false)
}

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
