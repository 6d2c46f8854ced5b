//! Outbox records: each once, in order, applied to the droplet's own jobs only.

use genesis_shared::limits::{RECORD_BYTES_MAX, RESULTS_BATCH_MAX};
use serde_json::{Value, json};

use super::world::*;

fn event(text: &str) -> Value {
    json!({"event": {"code": text, "message": "something happened"}})
}

#[tokio::test]
async fn a_batch_twice_changes_nothing_and_the_first_result_wins() {
    let world = World::new().await;
    let droplet = world.enrol("d1").await;
    let job = world.queue(&droplet).await;
    world.poll(&droplet).await;
    let batch = || vec![(1, accepted(&job)), (2, result(&job, "failed"))];
    assert_eq!(world.deliver(&droplet, batch()).await.ok()["stored_up_to"], 2);
    let first = world.job(&job).await;
    assert_eq!(first["state"], "failed");
    assert_eq!(first["result"]["output"].to_string(), OUTPUT, "every digit is kept");
    world.clock.advance(1000);
    assert_eq!(world.deliver(&droplet, batch()).await.ok()["stored_up_to"], 2);
    assert_eq!(world.deliver(&droplet, vec![(3, result(&job, "succeeded"))]).await.ok()["stored_up_to"], 3);
    assert_eq!(world.job(&job).await, first);
    assert_eq!(world.deliver(&droplet, vec![]).await.ok()["stored_up_to"], 3);
}

#[tokio::test]
async fn a_record_that_gave_way_on_the_droplet_holds_nothing_up() {
    let world = World::new().await;
    let droplet = world.enrol("d1").await;
    let stored = world.deliver(&droplet, vec![(1, event("a")), (2, event("b")), (4, event("d"))]).await.ok();
    assert_eq!(stored["stored_up_to"], 4);
    // A number that comes late after all is one that was passed over: it changes nothing.
    let late = vec![(2, event("b")), (3, event("c")), (5, event("e"))];
    assert_eq!(world.deliver(&droplet, late).await.ok()["stored_up_to"], 5);
    assert_eq!(world.events().await, ["e", "d", "b", "a"]);
    let mixed = vec![(7, event("g")), (6, event("f"))];
    world.deliver(&droplet, mixed).await.refused(400, "malformed");
    assert_eq!(world.deliver(&droplet, vec![]).await.ok()["stored_up_to"], 5, "nothing of it was stored");
}

#[tokio::test]
async fn metrics_are_taken_and_what_is_no_count_is_dropped() {
    let world = World::new().await;
    let droplet = world.enrol("d1").await;
    let mut metrics = json!({"metrics": {"total_executions": 3, "success_rate": 0.5, "avg_duration_ms": 12,
        "error_types": {"error": 1}, "since": "2026-01-01T00:00:00Z", "truncated": false}});
    assert_eq!(world.deliver(&droplet, vec![(1, metrics.clone())]).await.ok()["stored_up_to"], 1);
    assert_eq!(world.events().await, Vec::<String>::new());
    metrics["metrics"]["last_error"] = json!("tenant@example.com");
    assert_eq!(world.deliver(&droplet, vec![(2, metrics.clone())]).await.ok()["stored_up_to"], 2);
    let read: genesis_shared::report::Record = serde_json::from_value(metrics).unwrap();
    assert!(!serde_json::to_string(&read).unwrap().contains("tenant"), "there is no field for it");
}

#[tokio::test]
async fn goes_on_where_the_droplet_stands_when_records_were_lost_here_and_says_so() {
    let world = World::new().await;
    let droplet = world.enrol("d1").await;
    assert_eq!(world.deliver(&droplet, vec![(9, event("i"))]).await.ok()["stored_up_to"], 9);
    assert_eq!(world.events().await, ["i", "records_lost"]);
}

#[tokio::test]
async fn a_report_on_another_tenants_job_is_stored_as_an_event_and_does_nothing() {
    let world = World::new().await;
    let (droplet, other) = (world.enrol("d1").await, world.enrol("d2").await);
    let job = world.queue(&other).await;
    let batch = vec![(1, accepted(&job)), (2, result(&job, "succeeded"))];
    assert_eq!(world.deliver(&droplet, batch).await.ok()["stored_up_to"], 2);
    assert_eq!(world.state(&job).await, "queued");
    assert_eq!(world.events().await, ["foreign_job", "foreign_job"]);
}

#[tokio::test]
async fn the_result_of_a_bundle_that_was_applied_by_hand_is_an_event_that_operators_see_and_blocks_nothing() {
    let world = World::new().await;
    let droplet = world.enrol("d1").await;
    let job = crate::random::job_id().to_string();
    let queued = world.queue(&droplet).await;
    let batch = || vec![(1, accepted(&job)), (2, result(&job, "failed")), (3, accepted(&queued))];
    assert_eq!(world.deliver(&droplet, batch()).await.ok()["stored_up_to"], 3);
    assert_eq!(world.deliver(&droplet, batch()).await.ok()["stored_up_to"], 3, "once, however often it is delivered");
    assert_eq!(world.state(&queued).await, "accepted", "what comes after it in the batch counts");

    let page = world.get("/api/v1/events?limit=1").await.ok();
    let event = &page["items"][0];
    assert_eq!(
        (&event["code"], &event["droplet_id"], &event["job_id"]),
        (&json!("applied_by_hand"), &json!("d1"), &json!(job))
    );
    assert!(event["message"].as_str().unwrap().contains("ended as failed (ok): done"), "{event}");
    assert!(page["next_cursor"].is_null(), "one event for one bundle: {page}");
}

#[tokio::test]
async fn events_come_in_pages_newest_first() {
    let world = World::new().await;
    let droplet = world.enrol("d1").await;
    world.deliver(&droplet, vec![(1, event("a")), (2, event("b")), (3, event("c"))]).await.ok();
    let first = world.get("/api/v1/events?limit=2").await.ok();
    let codes = |page: &Value| page["items"].as_array().unwrap().iter().map(|e| e["code"].clone()).collect::<Vec<_>>();
    assert_eq!(codes(&first), ["c", "b"]);
    let cursor = first["next_cursor"].as_str().unwrap();
    let second = world.get(&format!("/api/v1/events?limit=2&cursor={cursor}")).await.ok();
    assert_eq!((codes(&second), second["next_cursor"].is_null()), (vec![json!("a")], true));
    world.get("/api/v1/events?cursor=x").await.refused(400, "malformed");
}

#[tokio::test]
async fn two_droplets_count_by_themselves() {
    let world = World::new().await;
    let (one, two) = (world.enrol("d1").await, world.enrol("d2").await);
    assert_eq!(world.deliver(&one, vec![(1, event("a")), (2, event("b"))]).await.ok()["stored_up_to"], 2);
    assert_eq!(world.deliver(&two, vec![(1, event("c"))]).await.ok()["stored_up_to"], 1);
}

#[tokio::test]
async fn too_many_and_too_large_records_are_refused_and_none_is_stored() {
    let world = World::new().await;
    let droplet = world.enrol("d1").await;
    let many = (1..=RESULTS_BATCH_MAX as u64 + 1).map(|seq| (seq, event("x"))).collect();
    world.deliver(&droplet, many).await.refused(422, "batch_too_large");
    let large = vec![(1, event("x")), (2, json!({"event": {"code": "x", "message": "m".repeat(RECORD_BYTES_MAX)}}))];
    world.deliver(&droplet, large).await.refused(422, "record_too_large");
    world.deliver(&droplet, vec![(1, json!({"unheard_of": {}}))]).await.refused(400, "malformed");
    assert_eq!(world.deliver(&droplet, vec![]).await.ok()["stored_up_to"], 0);
}

#[tokio::test]
async fn a_deposit_outlives_the_records_and_only_admins_see_the_latest() {
    let world = World::new().await;
    let droplet = world.enrol("d1").await;
    let path = "/api/v1/droplets/d1/escrow";
    world.get(path).await.refused(404, "not_found");
    let deposit = |name: &str| {
        let sealed = json!({"recipient": Key::new("rec").public(), "enc": "AA", "ciphertext": "AA"});
        json!({"escrow": {"recovery": name, "sealed": sealed}})
    };
    let event = json!({"event": {"code": "told", "message": "once"}});
    world.deliver(&droplet, vec![(1, deposit("rec-1")), (2, event), (3, deposit("rec-2"))]).await.ok();
    world.clock.advance(400 * 24 * 3600 * 1000);
    world.hub.sweep().await;
    world.hub.sweep().await;
    assert_eq!(world.get(path).await.ok()["recovery"], "rec-2");
}
