//! Polling, leases, redelivery, dead letters, steering, pages.

use std::time::Duration;

use axum::body::Body;
use axum::http::{Method, StatusCode};
use genesis_shared::delivery::{self, Expected};
use genesis_shared::id::Digest;
use genesis_shared::limits::{DELIVERY_ATTEMPTS_MAX, POLL_COMMANDS_MAX, RETRY_MS_MIN};
use genesis_shared::trust::TrustRoot;
use serde_json::json;

use super::world::*;

#[tokio::test]
async fn a_poll_hands_out_the_exact_bytes_with_a_token_for_this_droplet_and_nonce() {
    let world = World::new().await;
    let droplet = world.enrol("d1").await;
    // Spaces that a re-serialisation would lose.
    let document = format!(" {} ", world.sign(&world.payload(json!({"workspaces": [droplet.workspace]}))));
    world.push(&document).await.ok();
    let commands = world.poll(&droplet).await;
    assert_eq!(commands[0]["bundle"], document);
    let root = world.get("/api/v1/trust-root").await.ok()["document"].as_str().unwrap().to_owned();
    let root = TrustRoot::verify(root.as_bytes(), None).unwrap();
    let expected = Expected {
        workspace_id: droplet.workspace,
        droplet_id: &droplet.id,
        bundle: Digest::of(document.as_bytes()),
        action: "HEALTH_CHECK",
        nonce: "0123456789abcdef",
    };
    let token = commands[0]["delivery_token"].as_str().unwrap();
    delivery::verify(token, root.get(), &expected, world.clock.now()).unwrap();
}

#[tokio::test]
async fn an_unconfirmed_lease_is_taken_back_by_the_next_poll_until_the_job_is_dead() {
    let world = World::new().await;
    let droplet = world.enrol("d1").await;
    let job = world.queue(&droplet).await;
    let mut leases = std::collections::BTreeSet::new();
    for attempt in 1..=DELIVERY_ATTEMPTS_MAX {
        let commands = world.poll(&droplet).await;
        assert_eq!(commands[0]["job_id"], job);
        assert!(leases.insert(commands[0]["lease_id"].to_string()), "each hand-out has its own lease");
        assert_eq!(world.job(&job).await["attempts"], attempt);
    }
    assert!(world.poll(&droplet).await.is_empty());
    assert_eq!(world.state(&job).await, "dead");
    assert_eq!(world.events().await, ["dead_letter"]);
    assert_eq!(world.get("/api/v1/dead-letters").await.ok()["items"][0]["job_id"], job);

    world.post(&format!("/api/v1/jobs/{job}/requeue"), Body::empty()).await.ok();
    assert_eq!(world.poll(&droplet).await[0]["job_id"], job);
    world.post(&format!("/api/v1/jobs/{job}/requeue"), Body::empty()).await.refused(409, "job_state");
}

#[tokio::test]
async fn an_accepted_job_is_not_handed_out_again_and_a_lease_that_runs_out_is() {
    let world = World::new().await;
    let droplet = world.enrol("d1").await;
    let (first, second) = (world.queue(&droplet).await, world.queue(&droplet).await);
    assert_eq!(world.poll(&droplet).await.len(), 2);
    world.deliver(&droplet, vec![(1, accepted(&first))]).await.ok();
    assert_eq!((world.state(&first).await, world.state(&second).await), ("accepted".into(), "leased".into()));
    world.clock.advance(59_999);
    world.hub.sweep().await;
    assert_eq!(world.state(&second).await, "leased");
    world.clock.advance(1);
    world.hub.sweep().await;
    assert_eq!((world.state(&first).await, world.state(&second).await), ("accepted".into(), "queued".into()));
    // With full jitter: at the latest after the first bound.
    world.clock.advance(RETRY_MS_MIN.cast_signed());
    let again = world.poll(&droplet).await;
    assert_eq!((again.len(), &again[0]["job_id"]), (1, &json!(second)));
}

#[tokio::test]
async fn the_most_urgent_come_first_and_then_the_oldest_and_never_more_than_four() {
    let world = World::new().await;
    let droplet = world.enrol("d1").await;
    let mut jobs = Vec::new();
    for priority in [4, 2, 3, 1, 3, 3] {
        let mut payload = world.payload(json!({"workspaces": [droplet.workspace]}));
        payload["priority"] = json!(priority);
        let answer = world.push(&world.sign(&payload)).await.ok();
        jobs.push(answer["job_ids"][0].as_str().unwrap().to_owned());
        world.clock.advance(1);
    }
    let order: Vec<_> = world.poll(&droplet).await.iter().map(|c| c["job_id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(order, [3, 1, 2, 4].map(|n: usize| jobs[n].clone()));
    assert_eq!(order.len(), POLL_COMMANDS_MAX);
}

#[tokio::test]
async fn a_cancelled_an_expired_and_a_future_bundle_are_not_handed_out_but_the_droplets_word_counts() {
    let world = World::new().await;
    let droplet = world.enrol("d1").await;
    let mut future = world.payload(json!({"workspaces": [droplet.workspace]}));
    future["not_before"] = json!("2026-11-24T13:00:00Z");
    world.push(&world.sign(&future)).await.ok();
    let job = world.queue(&droplet).await;
    world.post(&format!("/api/v1/jobs/{job}/cancel"), Body::empty()).await.ok();
    world.post(&format!("/api/v1/jobs/{job}/cancel"), Body::empty()).await.refused(409, "job_state");
    assert!(world.poll(&droplet).await.is_empty());

    let late = world.queue(&droplet).await;
    world.clock.advance(24 * 3600 * 1000 + 1);
    assert!(world.poll(&droplet).await.is_empty());
    world.hub.sweep().await;
    assert_eq!(world.state(&late).await, "expired");
    world.deliver(&droplet, vec![(1, result(&late, "succeeded"))]).await.ok();
    assert_eq!(world.state(&late).await, "succeeded");
}

#[tokio::test]
async fn a_waiting_poll_is_woken_by_a_push_and_by_the_end_of_the_hub() {
    let world = World::new().await;
    let (droplet, other) = (world.enrol("d1").await, world.enrol("d2").await);
    let path = "/api/v1/sidecar/commands?wait=25&nonce=0123456789abcdef";
    let waiting = world.call(Method::GET, path, &droplet.token, Body::empty());
    let push = async {
        // Both orders of look and push must end in an answer; yielding lets the poll come first.
        tokio::task::yield_now().await;
        world.queue(&other).await;
        world.queue(&droplet).await
    };
    let (answer, job) = tokio::join!(waiting, push);
    assert_eq!(answer.ok()["commands"][0]["job_id"], job);
    world.deliver(&droplet, vec![(1, accepted(&job))]).await.ok();

    let waiting = world.call(Method::GET, path, &droplet.token, Body::empty());
    let stop = async { world.hub.stop() };
    let (answer, ()) =
        tokio::time::timeout(Duration::from_secs(10), async { tokio::join!(waiting, stop) }).await.unwrap();
    assert_eq!(answer.status, StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn jobs_come_in_pages_and_by_filter() {
    let world = World::new().await;
    let (one, two) = (world.enrol("d1").await, world.enrol("d2").await);
    let mut jobs = Vec::new();
    for _ in 0..5 {
        jobs.insert(0, world.queue(&one).await);
    }
    world.queue(&two).await;
    let base = format!("/api/v1/jobs?limit=2&state=queued&workspace_id={}", one.workspace);
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    for _ in 0..3 {
        let page = world.get(&format!("{base}{cursor}")).await.ok();
        seen.extend(page["items"].as_array().unwrap().iter().map(|job| job["job_id"].as_str().unwrap().to_owned()));
        cursor = page["next_cursor"].as_str().map(|cursor| format!("&cursor={cursor}")).unwrap_or_default();
    }
    assert_eq!((seen, cursor.as_str()), (jobs, ""));
    let list = world.get("/api/v1/droplets?limit=1&label=ring=d2").await.ok();
    assert_eq!((&list["items"][0]["droplet_id"], &list["next_cursor"]), (&json!("d2"), &json!(null)));
    for bad in ["limit=0", "limit=201", "state=lost", "cursor=x", "colour=red", "workspace_id=1"] {
        world.get(&format!("/api/v1/jobs?{bad}")).await.refused(400, "malformed");
    }
}

#[tokio::test]
async fn a_test_may_queue_what_no_operator_signed() {
    let world = World::new().await;
    let droplet = world.enrol("d1").await;
    for bytes in [&b"not even JSON"[..], b"not even JSON"] {
        world.hub.enqueue_unchecked(droplet.workspace, bytes).await.unwrap();
    }
    let commands = world.poll(&droplet).await;
    assert_eq!(commands.len(), 2);
    assert_eq!(commands[0]["bundle"], "not even JSON");
}
