//! n8n fails in every way at every call of an ignition: it completes all the same, and nothing is there twice.
#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test that cannot go on, or meets anything else, fails"
)]

use std::time::Duration;

use genesis_agent::sim::n8n::{Answer, Fault, Kind, Phase};
use genesis_shared::command::CommandWire;
use genesis_shared::report::{OutboxRecord, OutcomeState, Record};
use genesis_tests::droplet::{Droplet, wait_for};
use serde_json::json;

/// A fault that hits the n-th request of any kind.
fn nth(n: u32, kind: Kind) -> Fault {
    Fault { method: None, path: "/".into(), skip: n - 1, count: Some(1), kind }
}

fn failing(status: u16) -> Kind {
    Kind::Answer(Answer::json(status, &json!({"message": "made to fail"})))
}

/// Ignites with a fault at the n-th request; `false` when there were fewer requests.
async fn ignites_with(n: u32, kind: Kind) -> bool {
    let droplet = Droplet::new(u64::from(n));
    let commands = droplet.ignition().await;
    droplet.outside.n8n.borrow_mut().faults.push(nth(n, kind.clone()));
    let result = droplet.run(commands).await;
    let hit = !droplet.outside.n8n.borrow().faults.any_left();
    assert_eq!(result.state, OutcomeState::Succeeded, "{kind:?} at request {n}: {}", result.message);
    let (credentials, workflows) = droplet.held();
    assert_eq!((credentials.len(), workflows.len()), (6, 7), "{kind:?} at request {n}: {credentials:?} {workflows:?}");
    hit
}

async fn every_request_may_meet(kind: Kind) {
    let mut n = 1;
    while ignites_with(n, kind.clone()).await {
        n += 1;
    }
    assert!(n > 60, "an ignition has many requests, {n} were tried");
}

#[tokio::test(start_paused = true)]
async fn an_internal_error_at_any_request() {
    every_request_may_meet(failing(500)).await;
}

#[tokio::test(start_paused = true)]
async fn a_lost_database_at_any_request() {
    every_request_may_meet(failing(503)).await;
}

#[tokio::test(start_paused = true)]
async fn a_connection_lost_before_any_request_is_heard() {
    every_request_may_meet(Kind::DropBefore).await;
}

#[tokio::test(start_paused = true)]
async fn a_connection_lost_after_any_request_was_heard() {
    every_request_may_meet(Kind::DropAfter).await;
}

#[tokio::test(start_paused = true)]
async fn half_an_answer_to_any_request() {
    every_request_may_meet(Kind::HalfBody).await;
}

#[tokio::test(start_paused = true)]
async fn no_answer_to_any_request() {
    every_request_may_meet(Kind::Hang).await;
}

#[tokio::test(start_paused = true)]
async fn no_answer_to_any_request_which_is_carried_out_later() {
    // Requests of other lanes come between too, so that the late one lands at any point of what follows.
    for requests in [1, 3, 5, 7, 9, 12] {
        every_request_may_meet(Kind::HandledLater(requests)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn waits_for_an_n8n_that_is_away_and_then_starting() {
    let droplet = Droplet::new(1);
    let commands = droplet.ignition().await;
    droplet.outside.n8n.borrow_mut().phase = Phase::Refusing;
    droplet
        .while_running(async {
            let job = droplet.push(commands);
            for phase in [Phase::Migrating, Phase::Loading, Phase::Up] {
                tokio::time::sleep(Duration::from_secs(8)).await;
                droplet.outside.n8n.borrow_mut().phase = phase;
            }
            assert_eq!(droplet.result(job).await.state, OutcomeState::Succeeded);
        })
        .await;
    assert_eq!(droplet.held().1.len(), 7);
}

#[tokio::test(start_paused = true)]
async fn a_look_does_not_wait_behind_a_change_that_takes_long() {
    let droplet = Droplet::new(1);
    let commands = droplet.ignition().await;
    droplet.outside.n8n.borrow_mut().phase = Phase::Refusing;
    droplet
        .while_running(async {
            let change = droplet.push(commands);
            let accepted = |record: &OutboxRecord| matches!(record.record, Record::Accepted { .. });
            wait_for(|| async { droplet.outside.hub.records().into_iter().find(accepted) }).await;
            let look = droplet.push(vec![CommandWire { action: "HEALTH_CHECK".into(), payload: None }]);
            let result = droplet.result(look).await;
            assert_eq!((result.state, &result.output[0]["n8n_status"]), (OutcomeState::Succeeded, &json!("down")));
            assert!(droplet.outside.hub.results(change).is_empty(), "the change is still under way");
            droplet.outside.n8n.borrow_mut().phase = Phase::Up;
            assert_eq!(droplet.result(change).await.state, OutcomeState::Succeeded);
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn an_n8n_that_stays_away_fails_the_command_with_its_code_and_nothing_is_lost() {
    let droplet = Droplet::new(1);
    let commands = droplet.ignition().await;
    droplet.outside.n8n.borrow_mut().phase = Phase::Refusing;
    let result = droplet.run(commands.clone()).await;
    assert_eq!((result.state, result.code.as_str()), (OutcomeState::Failed, "n8n_unreachable"), "{}", result.message);
    assert!(result.retryable);
    droplet.outside.n8n.borrow_mut().phase = Phase::Up;
    assert!(droplet.is_empty());
    assert_eq!(droplet.run(commands).await.state, OutcomeState::Succeeded);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_undone_ends_as_stuck_and_says_where() {
    let droplet = Droplet::new(1);
    let mut commands = droplet.ignition().await;
    commands.truncate(7);
    // The workflow is refused for good, and then the credentials cannot be deleted again.
    for (method, path) in [("POST", "/api/v1/workflows"), ("DELETE", "/api/v1/credentials")] {
        let fault = Fault { count: None, ..Fault::once(method, path, failing(400)) };
        droplet.outside.n8n.borrow_mut().faults.push(fault);
    }
    let result = droplet.run(commands).await;
    assert_eq!((result.state, result.code.as_str()), (OutcomeState::Stuck, "n8n_refused"), "{}", result.message);
    assert!(result.steps.iter().any(|step| step.state == "undoing"), "{:?}", result.steps);
}

#[tokio::test(start_paused = true)]
async fn a_hub_that_is_away_changes_no_outcome_and_hears_of_it_later() {
    let droplet = Droplet::new(1);
    let commands = droplet.ignition().await;
    // n8n is away at first, so that the hub can go between the acceptance and the work.
    droplet.outside.n8n.borrow_mut().phase = Phase::Refusing;
    droplet
        .while_running(async {
            let job = droplet.push(commands);
            let accepted = Record::Accepted { job_id: job };
            wait_for(|| async { droplet.outside.hub.records().into_iter().find(|r| r.record == accepted) }).await;
            droplet.outside.hub.set_away(true);
            droplet.outside.n8n.borrow_mut().phase = Phase::Up;
            wait_for(|| async { (droplet.held().1.len() == 7).then_some(()) }).await;
            tokio::time::sleep(Duration::from_secs(3 * 3600)).await;
            assert!(droplet.outside.hub.results(job).is_empty());
            droplet.outside.hub.set_away(false);
            assert_eq!(droplet.result(job).await.state, OutcomeState::Succeeded);
            wait_for(|| async { (droplet.outside.hub.beats() > 0).then_some(()) }).await;
        })
        .await;
    assert!(!droplet.outside.files.is_outside("/run/token"), "the spent token is removed");
}
