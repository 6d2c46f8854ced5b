//! Pushing bundles and trust roots: early refusal with stable codes, and repetition without effect.

use genesis_shared::limits::BUNDLE_BYTES_MAX;
use serde_json::{Value, json};

use super::world::*;
use crate::random;

#[tokio::test]
async fn the_same_bundle_twice_gives_the_same_answer_and_other_bytes_under_its_id_are_a_conflict() {
    let world = World::new().await;
    let droplet = world.enrol("d1").await;
    let mut payload = world.payload(json!({"workspaces": [droplet.workspace, droplet.workspace]}));
    let document = world.sign(&payload);
    let first = world.push(&document).await.ok();
    assert_eq!(first["job_ids"].as_array().unwrap().len(), 1);
    assert_eq!(world.push(&document).await.ok(), first);
    payload["priority"] = json!(1);
    world.push(&world.sign(&payload)).await.refused(409, "bundle_id_taken");
    // A lost answer may be asked for again after the bundle has expired.
    world.clock.advance(10 * 24 * 3600 * 1000);
    assert_eq!(world.push(&document).await.ok(), first);
}

#[tokio::test]
async fn each_unacceptable_bundle_is_refused_with_its_code() {
    let world = World::new().await;
    let droplet = world.register("d1").await;
    let good = || world.payload(json!({"workspaces": [droplet.workspace]}));
    let with = |name: &str, value: Value| {
        let mut payload = good();
        payload[name] = value;
        world.sign(&payload)
    };
    let stranger = random::bundle_id().to_string();
    let flipped = world.sign(&good()).replacen("\"payload\":\"ey", "\"payload\":\"eX", 1);
    let table = [
        ("{not json".to_owned(), 400, "malformed"),
        ("{}".to_owned(), 422, "bundle_invalid"),
        (flipped, 422, "bundle_signature"),
        (Key::new("ops-1").jws(genesis_shared::bundle::TYP, &good()), 422, "bundle_signature"),
        (Key::new("ops-9").jws(genesis_shared::bundle::TYP, &good()), 422, "bundle_signature"),
        (world.operator.jws("JWT", &good()), 422, "bundle_signature"),
        (world.operator.jws(genesis_shared::bundle::TYP, &json!({"id": 1})), 422, "bundle_invalid"),
        (with("commands", json!([])), 422, "bundle_invalid"),
        (with("commands", json!([{"action": "FORMAT_DISK"}])), 422, "bundle_invalid"),
        (with("queue", json!("fast lane")), 422, "bundle_invalid"),
        (with("issuer", json!("ops-2")), 422, "bundle_invalid"),
        (with("not_after", json!("2026-12-25T12:00:00Z")), 422, "bundle_invalid"),
        (with("not_before", json!("2026-11-26T12:00:00Z")), 422, "bundle_invalid"),
        (with("targets", json!({"workspaces": [droplet.workspace, stranger]})), 422, "bundle_unknown_target"),
        (with("targets", json!({"labels": {"ring": "nowhere"}})), 422, "bundle_unknown_target"),
        (format!("[{}]", "1,".repeat(BUNDLE_BYTES_MAX / 2) + "1"), 413, "too_large"),
    ];
    for (document, status, code) in table {
        let answer = world.push(&document).await.refused(status, code);
        if code == "bundle_unknown_target" && document.len() > 600 {
            assert!(answer["message"].as_str().unwrap().contains(&stranger) || !document.contains(&stranger));
        }
    }
    let expired = world.sign(&good());
    world.clock.advance(24 * 3600 * 1000 + 1);
    world.push(&expired).await.refused(422, "bundle_expired");
    assert_eq!(world.get("/api/v1/jobs").await.ok()["items"], json!([]), "nothing was queued");
}

#[tokio::test]
async fn labels_and_all_reach_the_registered_droplets_that_match() {
    let world = World::new().await;
    for name in ["d1", "d2", "d3"] {
        world.register(name).await;
    }
    let push = async |targets: Value| {
        let answer = world.push(&world.sign(&world.payload(targets))).await.ok();
        answer["job_ids"].as_array().unwrap().len()
    };
    assert_eq!(push(json!({"labels": {"ring": "d2"}})).await, 1);
    assert_eq!(push(json!({"all": true})).await, 3);
}

#[tokio::test]
async fn a_trust_root_must_be_well_signed_and_newer() {
    let world = World::without_trust_root().await;
    world.get("/api/v1/trust-root").await.refused(404, "not_found");
    let droplet = world.register("d1").await;
    let bundle = world.sign(&world.payload(json!({"workspaces": [droplet.workspace]})));
    world.push(&bundle).await.refused(409, "no_trust_root");

    let second = world.root_document(2);
    world.put_root("{}").await.refused(422, "trust_root_invalid");
    world.put_root("nonsense").await.refused(400, "malformed");
    let forged = Key::new("root-1").jws(genesis_shared::trust::TYP, &json!({"version": 2}));
    world.put_root(&forged).await.refused(422, "trust_root_invalid");
    let first = world.put_root(&second).await.ok();
    assert_eq!(world.put_root(&second).await.ok(), first, "the same again is no conflict");
    world.put_root(&world.root_document(2)).await.refused(409, "trust_root_not_newer");
    world.put_root(&world.root_document(1)).await.refused(409, "trust_root_not_newer");
    world.put_root(&world.root_document(4)).await.refused(422, "trust_root_not_next");
    let third = world.root_document(3);
    world.put_root(&third).await.ok();
    assert_eq!(world.get("/api/v1/trust-root").await.ok()["document"], third);

    let droplet = world.enrol("d2").await;
    let chain = async |after: u64| {
        let path = format!("/api/v1/sidecar/trust-root?after={after}");
        world.call(axum::http::Method::GET, &path, &droplet.token, axum::body::Body::empty()).await.ok()
    };
    assert_eq!(chain(0).await["trust_root"], json!([second, third]));
    assert_eq!(chain(2).await["trust_root"], json!([third]));
    assert_eq!(chain(9).await["trust_root"], json!([]));
}
