//! The watch as callers of the API meet it.

use axum::http::Method;
use genesis_shared::limits::WATCH_GRACE_MS;
use serde_json::{Value, json};

use super::world::*;

async fn lifecycle(world: &World, body: Value) -> Answer {
    world.call(Method::PUT, "/api/v1/droplets/d1/lifecycle", &world.admin, body.to_string()).await
}

async fn passes(world: &World, seconds: i64) {
    for _ in 0..seconds {
        world.clock.advance(1000);
        world.hub.watch_once().await;
    }
}

#[tokio::test]
async fn a_silent_droplet_is_an_event_with_its_reason_and_any_request_is_a_sign_of_life() {
    let world = World::new().await;
    let droplet = world.enrol("d1").await;
    passes(&world, 100).await;
    world.poll(&droplet).await;
    passes(&world, 60 + WATCH_GRACE_MS / 1000 - 1).await;
    assert_eq!(world.events().await, ["droplet_back", "droplet_late"], "the poll counted");
    passes(&world, 121).await;
    let events = world.hub.store.events(None, 10).await.unwrap();
    assert_eq!(events[0].code, "droplet_silent");
    assert!(events[0].message.contains("195 s") && events[0].droplet_id == Some(droplet.id.clone()), "{events:?}");
    world.poll(&droplet).await;
    world.hub.watch_once().await;
    assert_eq!(world.events().await[0], "droplet_back");
}

#[tokio::test]
async fn a_lifecycle_explains_silence_over_a_restart_and_is_shown() {
    let mut world = World::new().await;
    world.enrol("d1").await;
    lifecycle(&world, json!({"lifecycle": "hibernated", "reason": "ticket 7"})).await.ok();
    world.restart().await;
    passes(&world, 300).await;
    assert_eq!(world.events().await, ["droplet_silence_explained"]);
    let view = world.get("/api/v1/droplets/d1").await.ok();
    assert_eq!((&view["lifecycle"], &view["state"]), (&json!("hibernated"), &json!("HIBERNATING")));
    lifecycle(&world, json!({"reason": "it is back"})).await.ok();
    assert_eq!(world.get("/api/v1/droplets/d1").await.ok()["lifecycle"], "active");
    passes(&world, 197).await;
    assert_eq!(world.events().await[0], "droplet_silent", "it has its whole time, and no more");
}

#[tokio::test]
async fn a_lifecycle_that_cannot_be_is_refused() {
    let world = World::new().await;
    world.enrol("d1").await;
    for body in [
        json!({"lifecycle": "waking", "reason": " "}),
        json!({"until": "2030-01-01T00:00:00Z", "reason": "x"}),
        json!({"lifecycle": "waking", "until": START, "reason": "x"}),
    ] {
        lifecycle(&world, body).await.refused(422, "lifecycle_invalid");
    }
    lifecycle(&world, json!({"lifecycle": "asleep", "reason": "x"})).await.refused(400, "malformed");
    let path = "/api/v1/droplets/nobody/lifecycle";
    world.call(Method::PUT, path, &world.admin, "{\"reason\":\"x\"}").await.refused(404, "not_found");
}
