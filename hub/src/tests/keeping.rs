//! What is kept, what goes, and copies.

use axum::body::Body;
use serde_json::{Value, json};

use super::world::*;
use crate::backup::{self, BackupError};
use crate::hub::Hub;
use crate::store::prune::{Pruned, Retention};

const DAY_MS: i64 = 24 * 3600 * 1000;

/// A job that its droplet has ended.
async fn ended(world: &World, droplet: &Droplet, seq: u64) -> String {
    let job = world.queue(droplet).await;
    world.poll(droplet).await;
    world.deliver(droplet, vec![(seq, result(&job, "succeeded"))]).await.ok();
    job
}

async fn prune(world: &World, bytes_max: u64) -> Pruned {
    let retention = Retention { jobs_ms: 90 * DAY_MS, records_ms: 30 * DAY_MS, bytes_max };
    world.hub.store.prune(retention, world.clock.now()).await.unwrap()
}

#[tokio::test]
async fn what_ended_long_ago_goes_and_what_is_not_over_stays() {
    let world = World::new().await;
    let droplet = world.enrol("d1").await;
    let old = ended(&world, &droplet, 1).await;
    let mut payload = world.payload(json!({"workspaces": [droplet.workspace]}));
    payload["not_after"] = json!("2026-12-20T12:00:00Z");
    let open = world.push(&world.sign(&payload)).await.ok()["job_ids"][0].as_str().unwrap().to_owned();
    world.poll(&droplet).await;
    world.deliver(&droplet, vec![(2, accepted(&open))]).await.ok();
    world.clock.advance(90 * DAY_MS);
    assert_eq!(prune(&world, u64::MAX).await, Pruned { jobs: 0, bundles: 0, records: 2 });
    world.clock.advance(1000);
    assert_eq!(prune(&world, u64::MAX).await, Pruned { jobs: 1, bundles: 1, records: 0 });
    world.get(&format!("/api/v1/jobs/{old}")).await.refused(404, "not_found");
    assert_eq!(world.state(&open).await, "accepted");
}

#[tokio::test]
async fn a_file_that_is_too_large_loses_its_oldest_first_but_no_bundle_that_could_come_again() {
    let world = World::new().await;
    let droplet = world.enrol("d1").await;
    let job = ended(&world, &droplet, 1).await;
    world.clock.advance(1000);
    let early = prune(&world, 1).await;
    assert_eq!((early.jobs, early.records), (0, 1), "its bundle is good for a day");
    world.clock.advance(2 * DAY_MS);
    assert_eq!(prune(&world, 1).await, Pruned { jobs: 1, bundles: 1, records: 0 });
    world.get(&format!("/api/v1/jobs/{job}")).await.refused(404, "not_found");
    let audit = world.get("/api/v1/audit?chain=hub").await.ok();
    assert!(audit["items"].as_array().is_some_and(|items| items.len() > 3), "the audit stays");
}

#[tokio::test]
async fn a_copy_of_a_running_hub_is_a_hub_with_everything_that_was_acknowledged() {
    let mut world = World::new().await;
    let droplet = world.enrol("d1").await;
    let job = ended(&world, &droplet, 1).await;
    let data_dir = world.hub.settings.data_dir.clone();
    let (copy, restored) = (data_dir.with_extension("copy"), data_dir.with_extension("restored"));
    let copied = backup::backup(&data_dir, &copy).unwrap();
    assert!(copied.database_bytes > 0 && copied.files.contains(&"delivery.key".to_owned()), "{copied:?}");
    let after = world.queue(&droplet).await;
    assert!(matches!(backup::backup(&data_dir, &copy), Err(BackupError::Exists(_))));
    backup::restore(&copy, &restored).unwrap();
    let mut settings = world.hub.settings.clone();
    settings.data_dir = restored;
    world.hub.store.close().await.unwrap();
    world.hub = Hub::open(settings, world.clock.clone()).unwrap();
    world.router = crate::api::router(world.hub.clone());
    assert_eq!(world.job(&job).await["result"]["state"], "succeeded");
    world.get(&format!("/api/v1/jobs/{after}")).await.refused(404, "not_found");
    // The droplet goes on with the token that it has, and what the copy does not know is noted, not lost.
    world.deliver(&droplet, vec![(5, result(&after, "succeeded"))]).await.ok();
    assert_eq!(world.events().await[..2], ["applied_by_hand", "records_lost"]);
}

#[tokio::test]
async fn a_damaged_copy_is_not_restored() {
    let world = World::new().await;
    let data_dir = world.hub.settings.data_dir.clone();
    let (copy, restored) = (data_dir.with_extension("copy"), data_dir.with_extension("restored"));
    backup::backup(&data_dir, &copy).unwrap();
    let database = crate::setup::database(&copy);
    let mut bytes = std::fs::read(&database).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 4096].fill(0xAA);
    std::fs::write(&database, bytes).unwrap();
    assert!(matches!(backup::restore(&copy, &restored), Err(BackupError::Database(..))));
    assert!(!restored.exists());
    assert!(matches!(backup::restore(&restored, &copy), Err(BackupError::Nothing(_))));
}

/// The hub is gone with everything but its keys: it is filled again by the droplets and by pushing again.
#[tokio::test]
async fn after_a_total_loss_a_new_hub_learns_from_droplets_and_from_bundles_that_are_pushed_again() {
    let lost = World::new().await;
    let mut droplet = lost.enrol("d1").await;
    let bundle = lost.sign(&lost.payload(json!({"workspaces": [droplet.workspace]})));
    lost.push(&bundle).await.ok();
    let mut world = World::without_trust_root().await;
    // The same operators, and so the same trust root; droplets get new provisioning tokens.
    (world.root, world.operator) = (lost.root, lost.operator);
    world.put_root(&world.root_document(1)).await.ok();
    let body = json!({"workspace_id": droplet.workspace, "droplet_id": "d1"});
    let answer = world.post("/api/v1/droplets", body.to_string()).await.ok();
    droplet.provisioning = answer["provisioning_token"].as_str().unwrap().to_owned();
    let mut request = droplet.handshake();
    (request.journal_high_water, request.outbox_next) = (9, 8);
    droplet.prove(&mut request);
    droplet.token = world.handshake(&request).await.ok()["sidecar_token"].as_str().unwrap().to_owned();
    // What it still holds comes first; then the bundle again, which it knows and answers for.
    world.deliver(&droplet, vec![(8, json!({"event": {"code": "kept", "message": "x"}}))]).await.ok();
    let job = world.push(&bundle).await.ok()["job_ids"][0].as_str().unwrap().to_owned();
    assert_eq!(world.poll(&droplet).await[0]["bundle"], Value::String(bundle));
    world.deliver(&droplet, vec![(9, result(&job, "succeeded"))]).await.ok();
    assert_eq!(world.state(&job).await, "succeeded");
    assert_eq!(world.events().await, ["kept"], "no number is missing");
    world.post("/api/v1/droplets/d1/provisioning-token", Body::empty()).await.ok();
}
