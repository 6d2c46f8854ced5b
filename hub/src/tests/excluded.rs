//! Tenants that must never receive commands.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::body::Body;
use axum::http::Method;
use genesis_shared::id::WorkspaceId;
use serde_json::json;

use super::world::*;
use crate::api;
use crate::hub::Hub;

/// The hub starts again with these on its list.
async fn exclude(world: &mut World, workspaces: &[WorkspaceId]) {
    let mut settings = world.hub.settings.clone();
    settings.excluded_workspaces = Arc::new(workspaces.iter().copied().collect::<BTreeSet<_>>());
    world.hub.store.close().await.unwrap();
    world.hub = Hub::open(settings, world.clock.clone()).unwrap();
    world.router = api::router(world.hub.clone());
}

#[tokio::test]
async fn an_excluded_workspace_is_refused_by_name_and_left_out_where_labels_or_all_reach_it() {
    let mut world = World::new().await;
    let (legacy, other) = (world.enrol("legacy").await, world.enrol("other").await);
    exclude(&mut world, &[legacy.workspace]).await;

    for named in [vec![legacy.workspace], vec![other.workspace, legacy.workspace]] {
        let bundle = world.sign(&world.payload(json!({"workspaces": named})));
        let refusal = world.push(&bundle).await.refused(422, "workspace_excluded");
        assert!(refusal["message"].as_str().unwrap().contains(&legacy.workspace.to_string()), "{refusal}");
    }
    let bundle = world.sign(&world.payload(json!({"labels": {"ring": "legacy"}})));
    world.push(&bundle).await.refused(422, "workspace_excluded");
    assert!(world.get("/api/v1/jobs").await.ok()["items"].as_array().unwrap().is_empty());

    let bundle = world.sign(&world.payload(json!({"all": true})));
    let answer = world.push(&bundle).await.ok();
    assert_eq!((answer["job_ids"].as_array().unwrap().len(), &answer["excluded"]), (1, &json!([legacy.workspace])));
    assert_eq!(world.push(&bundle).await.ok(), answer, "the same bundle, the same answer");
    assert_eq!(world.poll(&other).await.len(), 1);
}

#[tokio::test]
async fn what_was_queued_for_a_workspace_before_its_exclusion_is_never_handed_out() {
    let mut world = World::new().await;
    let legacy = world.enrol("legacy").await;
    let job = world.queue(&legacy).await;
    exclude(&mut world, &[legacy.workspace]).await;
    world.hub.enqueue_unchecked(legacy.workspace, b"whatever").await.unwrap();
    assert!(world.poll(&legacy).await.is_empty());
    let beat = legacy.heartbeat().to_string();
    let beat = world.call(Method::POST, "/api/v1/sidecar/heartbeat", &legacy.token, Body::from(beat)).await.ok();
    assert_eq!(beat["work_waiting"], false, "it is heard, and not called");
    assert_eq!(world.state(&job).await, "queued");

    exclude(&mut world, &[]).await;
    assert_eq!(world.poll(&legacy).await.len(), 2, "the list alone kept it back");
}
