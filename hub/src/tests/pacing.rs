//! The governor, rollouts and their limits as callers of the API meet them.

use axum::body::Body;
use axum::http::Method;
use genesis_shared::limits::RUN_LEASE_MS;
use serde_json::{Value, json};

use super::world::*;
use crate::queue::Limits;

async fn limit(world: &World, limits: Limits) {
    let body = serde_json::to_string(&limits).unwrap();
    world.call(Method::PUT, "/api/v1/queues", &world.admin, body).await.ok();
}

/// Pushes one bundle to everybody.
async fn push_to_all(world: &World, rollout: Option<Value>) -> Value {
    let mut payload = world.payload(json!({"all": true}));
    if let Some(rollout) = rollout {
        payload["rollout"] = rollout;
    }
    world.push(&world.sign(&payload)).await.ok()
}

async fn droplets(world: &World, count: usize) -> Vec<Droplet> {
    let mut droplets = Vec::new();
    for n in 0..count {
        droplets.push(world.enrol(&format!("d{n}")).await);
    }
    droplets
}

/// Each polls once; the jobs that were handed out, by droplet.
async fn poll_all(world: &World, droplets: &[Droplet]) -> Vec<(usize, String)> {
    let mut given = Vec::new();
    for (n, droplet) in droplets.iter().enumerate() {
        for command in world.poll(droplet).await {
            given.push((n, command["job_id"].as_str().unwrap().to_owned()));
        }
    }
    given
}

#[tokio::test]
async fn no_more_of_a_queue_is_in_flight_than_operators_say_and_a_restart_knows_what_is() {
    let mut world = World::new().await;
    let all = droplets(&world, 4).await;
    limit(&world, Limits { template: 2, ..Limits::default() }).await;
    push_to_all(&world, None).await;
    let given = poll_all(&world, &all).await;
    assert_eq!(given.len(), 2, "{given:?}");
    let (first, job) = given[0].clone();
    world.deliver(&all[first], vec![(1, accepted(&job))]).await.ok();
    world.restart().await;
    let queues = world.get("/api/v1/queues").await.ok();
    assert_eq!((&queues["limits"]["template"], &queues["queues"][3]["in_flight"]), (&json!(2), &json!(2)));
    assert!(poll_all(&world, &all[2..]).await.is_empty());
    world.deliver(&all[first], vec![(2, result(&job, "succeeded"))]).await.ok();
    assert_eq!(poll_all(&world, &all[2..]).await.len(), 1, "an end makes room");
}

#[tokio::test]
async fn a_cancelled_job_and_a_silent_droplet_make_room() {
    let world = World::new().await;
    let all = droplets(&world, 3).await;
    limit(&world, Limits { template: 1, ..Limits::default() }).await;
    push_to_all(&world, None).await;
    let given = poll_all(&world, &all).await;
    assert_eq!(given.len(), 1);
    world.post(&format!("/api/v1/jobs/{}/cancel", given[0].1), Body::empty()).await.ok();
    let second = poll_all(&world, &all).await;
    assert_eq!(second.len(), 1);
    world.deliver(&all[second[0].0], vec![(1, accepted(&second[0].1))]).await.ok();
    assert!(poll_all(&world, &all).await.is_empty());
    world.clock.advance(RUN_LEASE_MS);
    assert_eq!(poll_all(&world, &all).await.len(), 1, "its droplet gave no sign of life");
}

#[tokio::test]
async fn a_heartbeat_extends_the_lease_of_what_its_droplet_is_still_writing_down() {
    let world = World::new().await;
    let droplet = world.enrol("d1").await;
    let job = world.queue(&droplet).await;
    world.poll(&droplet).await;
    world.clock.advance(50_000);
    let beat = droplet.heartbeat().to_string();
    world.call(Method::POST, "/api/v1/sidecar/heartbeat", &droplet.token, beat).await.ok();
    world.clock.advance(50_000);
    world.hub.sweep().await;
    assert_eq!(world.state(&job).await, "leased");
    world.clock.advance(10_000);
    world.hub.sweep().await;
    assert_eq!(world.state(&job).await, "queued");
}

#[tokio::test]
async fn a_waiting_poll_gets_its_job_when_room_is_made_and_one_that_is_given_up_leaves_nothing_behind() {
    let world = World::new().await;
    let all = droplets(&world, 2).await;
    limit(&world, Limits { template: 1, ..Limits::default() }).await;
    push_to_all(&world, None).await;
    let given = poll_all(&world, &all[..1]).await;
    let path = "/api/v1/sidecar/commands?wait=20&nonce=0123456789abcdef";
    {
        // Given up in the middle of its wait.
        let waits = world.call(Method::GET, path, &all[1].token, Body::empty());
        let given_up = tokio::time::timeout(std::time::Duration::from_millis(50), waits).await;
        assert!(given_up.is_err());
    }
    let waits = world.call(Method::GET, path, &all[1].token, Body::empty());
    let ends = async {
        while world.hub.pace.state().1.iter().all(|load| load.waiting == 0) {
            tokio::task::yield_now().await;
        }
        world.deliver(&all[0], vec![(1, result(&given[0].1, "succeeded"))]).await.ok();
    };
    let (answer, ()) = tokio::join!(waits, ends);
    assert_eq!(answer.ok()["commands"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn limits_that_cannot_be_are_refused_and_what_was_set_is_in_the_audit() {
    let world = World::new().await;
    let put = async |body: Value| world.call(Method::PUT, "/api/v1/queues", &world.admin, body.to_string()).await;
    let mut limits = serde_json::to_value(Limits::default()).unwrap();
    limits["template"] = json!(2_000_000);
    put(limits.clone()).await.refused(422, "limits_invalid");
    limits["template"] = json!(7);
    put(limits.clone()).await.ok();
    limits["quick"] = json!(1);
    put(limits).await.refused(400, "malformed");
    let audit = world.get("/api/v1/audit?chain=hub").await.ok();
    assert!(audit.to_string().contains("LIMITS_SET"));
}

/// Answers for what was handed out.
async fn end(world: &World, droplets: &[Droplet], given: &[(usize, String)], seq: u64, state: &str) {
    for (n, job) in given {
        world.deliver(&droplets[*n], vec![(seq, result(job, state))]).await.ok();
    }
}

#[tokio::test]
async fn a_rollout_goes_wave_by_wave_over_restarts() {
    let mut world = World::new().await;
    let all = droplets(&world, 6).await;
    let pushed = push_to_all(&world, Some(json!({"waves": [1, 3], "pause_s": 30}))).await;
    let path = format!("/api/v1/rollouts/{}", pushed["rollout_id"].as_str().unwrap());
    for (wave, size) in [(1, 1), (2, 2), (3, 3)] {
        world.restart().await;
        let given = poll_all(&world, &all).await;
        assert_eq!(given.len(), size, "wave {wave}");
        let view = world.get(&path).await.ok();
        assert_eq!((&view["wave"], &view["phase"]["phase"]), (&json!(wave), &json!("running")));
        end(&world, &all, &given, 1, "succeeded").await;
        world.hub.advance_rollouts().await;
        assert!(poll_all(&world, &all).await.is_empty(), "there is a pause");
        world.restart().await;
        world.clock.advance(30_000);
        world.hub.sweep().await;
    }
    assert_eq!(world.get(&path).await.ok()["phase"]["phase"], "finished");
    assert!(world.events().await.contains(&"rollout_finished".to_owned()));
    assert_eq!(world.get("/api/v1/rollouts").await.ok().as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn an_abort_withdraws_the_rest_and_brings_the_rollback_to_those_who_have_it() {
    let world = World::new().await;
    let all = droplets(&world, 5).await;
    let rollback = world.sign(&world.payload(json!({"all": true})));
    let rollout = json!({"waves": [2], "pause_s": 0, "min_sample": 2, "rollback": rollback});
    let pushed = push_to_all(&world, Some(rollout)).await;
    let path = format!("/api/v1/rollouts/{}", pushed["rollout_id"].as_str().unwrap());
    let given = poll_all(&world, &all).await;
    end(&world, &all, &given, 1, "failed").await;
    world.hub.advance_rollouts().await;
    let view = world.get(&path).await.ok();
    assert_eq!((&view["phase"]["phase"], &view["counts"]["failed"]), (&json!("aborted"), &json!(2)));
    let cancelled = world.get("/api/v1/jobs?state=cancelled").await.ok();
    assert_eq!(cancelled["items"].as_array().unwrap().len(), 3);
    let taken_back: Vec<usize> = poll_all(&world, &all).await.into_iter().map(|(n, _)| n).collect();
    let had_it: Vec<usize> = given.into_iter().map(|(n, _)| n).collect();
    assert_eq!(taken_back, had_it);
    world.post(&format!("{path}/resume"), Body::empty()).await.refused(409, "rollout_state");
}

#[tokio::test]
async fn an_operator_pauses_resumes_and_aborts() {
    let world = World::new().await;
    let all = droplets(&world, 3).await;
    let pushed = push_to_all(&world, Some(json!({"waves": [1, 2], "pause_s": 0}))).await;
    let path = format!("/api/v1/rollouts/{}", pushed["rollout_id"].as_str().unwrap());
    let steer = async |wish: &str| world.post(&format!("{path}/{wish}"), Body::empty()).await;
    assert_eq!(steer("pause").await.ok()["phase"]["phase"], "paused");
    steer("pause").await.refused(409, "rollout_state");
    let given = poll_all(&world, &all).await;
    end(&world, &all, &given, 1, "succeeded").await;
    world.hub.advance_rollouts().await;
    assert!(poll_all(&world, &all).await.is_empty(), "no wave comes while it is paused");
    assert_eq!(steer("resume").await.ok()["wave"], 2);
    assert_eq!(poll_all(&world, &all).await.len(), 1);
    assert_eq!(steer("abort").await.ok()["phase"]["phase"], "aborted");
    assert!(poll_all(&world, &all).await.is_empty());
    let audit = world.get("/api/v1/audit?chain=hub").await.ok().to_string();
    assert_eq!(audit.matches("ROLLOUT_STEERED").count(), 3);
}

#[tokio::test]
async fn a_rollout_or_rollback_that_cannot_be_is_refused_when_it_is_pushed() {
    let world = World::new().await;
    droplets(&world, 2).await;
    let other = world.sign(&world.payload(json!({"labels": {"ring": "d1"}})));
    for rollout in [
        json!({"waves": []}),
        json!({"strategy": "brave"}),
        json!({"rollback": "{}"}),
        json!({"rollback": 7}),
        json!({"rollback": other}),
    ] {
        let mut payload = world.payload(json!({"all": true}));
        payload["rollout"] = rollout.clone();
        let answer = world.push(&world.sign(&payload)).await;
        assert_eq!(answer.code(), "rollout_invalid", "{rollout}: {}", answer.body);
    }
    assert!(world.get("/api/v1/jobs").await.ok()["items"].as_array().unwrap().is_empty());
}
