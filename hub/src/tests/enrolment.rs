//! Handshake, renewal, token rotation.

use axum::body::Body;
use axum::http::Method;
use genesis_shared::limits::{PROVISIONING_TOKEN_TTL_MS, SIDECAR_TOKEN_TTL_MS};
use genesis_shared::wire::RenewClaims;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::json;

use super::world::*;
use crate::random;

#[tokio::test]
async fn a_handshake_gives_a_token_the_pace_and_the_trust_roots_and_makes_the_droplet_active() {
    let world = World::new().await;
    let droplet = world.register("d1").await;
    assert_eq!(world.get("/api/v1/droplets/d1").await.ok()["state"], "HANDSHAKE_PENDING");
    let answer = world.handshake(&droplet.handshake()).await.ok();
    assert_eq!(answer["trust_root"], json!([world.get("/api/v1/trust-root").await.ok()["document"]]));
    assert_eq!(answer["config"]["poll_wait_s"], 25);
    let view = world.get("/api/v1/droplets/d1").await.ok();
    assert_eq!((&view["state"], &view["lifecycle"]), (&json!("INITIALIZING"), &json!("active")));
}

#[tokio::test]
async fn a_repeated_handshake_of_the_same_identity_is_answered_again_and_another_identity_is_an_event() {
    let world = World::new().await;
    let mut droplet = world.register("d1").await;
    world.handshake(&droplet.handshake()).await.ok();
    world.clock.advance(PROVISIONING_TOKEN_TTL_MS - 1);
    world.handshake(&droplet.handshake()).await.ok();
    let first = std::mem::replace(&mut droplet.identity, Key::new("thief"));
    world.handshake(&droplet.handshake()).await.refused(401, "token_used");
    assert_eq!(world.events().await, ["provisioning_token_reused"]);
    droplet.identity = first;
    world.clock.advance(1);
    world.handshake(&droplet.handshake()).await.refused(401, "token_expired");
}

#[tokio::test]
async fn a_handshake_is_refused_for_each_thing_that_does_not_fit() {
    let world = World::new().await;
    let (droplet, other) = (world.register("d1").await, world.register("d2").await);

    let mut forged = droplet.handshake();
    forged.sealing_key = Key::new("x").public();
    world.handshake(&forged).await.refused(401, "bad_proof");
    forged.proof = "not base64url!".into();
    world.handshake(&forged).await.refused(401, "bad_proof");

    let mut unknown = droplet.handshake();
    unknown.provisioning_token = random::provisioning_token();
    droplet.prove(&mut unknown);
    world.handshake(&unknown).await.refused(401, "token_unknown");

    for (workspace, id) in [(other.workspace, droplet.id.clone()), (droplet.workspace, other.id.clone())] {
        let mut wrong = droplet.handshake();
        (wrong.workspace_id, wrong.droplet_id) = (workspace, id);
        droplet.prove(&mut wrong);
        world.handshake(&wrong).await.refused(403, "not_yours");
    }
    // None of that used the token up.
    world.handshake(&droplet.handshake()).await.ok();
}

#[tokio::test]
async fn without_a_trust_root_the_token_is_not_used_up() {
    let world = World::without_trust_root().await;
    let mut droplet = world.register("d1").await;
    assert_eq!(world.handshake(&droplet.handshake()).await.refused(409, "no_trust_root")["retryable"], true);
    droplet.identity = Key::new("another");
    world.put_root(&world.root_document(1)).await.ok();
    world.handshake(&droplet.handshake()).await.ok();
}

#[tokio::test]
async fn a_new_provisioning_token_ends_the_one_before() {
    let world = World::new().await;
    let droplet = world.register("d1").await;
    world.post("/api/v1/droplets/d1/provisioning-token", Body::empty()).await.ok();
    world.handshake(&droplet.handshake()).await.refused(401, "token_unknown");
}

#[tokio::test]
async fn a_claimed_address_that_differs_from_the_one_seen_is_an_event() {
    let world = World::new().await;
    let droplet = world.register("d1").await;
    let mut request = droplet.handshake();
    request.droplet_ip = Some("203.0.113.7".into());
    let body = serde_json::to_string(&request).unwrap();
    let mut http = axum::http::Request::post("/api/v1/sidecar/handshake")
        .header("content-type", "application/json")
        .body(Body::from(body))
        .unwrap();
    http.extensions_mut().insert(crate::api::Peer("198.51.100.1".parse().unwrap()));
    world.send(http).await.ok();
    assert_eq!(world.events().await, ["address_mismatch"]);
}

#[tokio::test]
async fn a_reinstalled_droplet_counts_from_one_again_and_the_old_token_is_dead() {
    let world = World::new().await;
    let old = world.enrol("d1").await;
    let job = world.queue(&old).await;
    world.poll(&old).await;
    world.deliver(&old, vec![(1, accepted(&job)), (2, json!({"event": {"code": "x", "message": "y"}}))]).await.ok();

    let answer = world.post("/api/v1/droplets/d1/provisioning-token", Body::empty()).await.ok();
    let mut new = Droplet {
        id: old.id.clone(),
        workspace: old.workspace,
        provisioning: answer["provisioning_token"].as_str().unwrap().into(),
        identity: Key::new("new"),
        token: String::new(),
    };
    new.token = world.handshake(&new.handshake()).await.ok()["sidecar_token"].as_str().unwrap().into();
    world.deliver(&old, vec![]).await.refused(401, "unauthenticated");
    assert_eq!(world.state(&job).await, "stuck", "the journal that held the job is gone");
    let stored = world.deliver(&new, vec![(1, result(&job, "succeeded"))]).await.ok();
    assert_eq!(stored["stored_up_to"], 1);
    assert_eq!(world.state(&job).await, "succeeded");
}

#[tokio::test]
async fn a_droplet_that_lost_its_journal_but_kept_its_identity_is_heard_again() {
    let world = World::new().await;
    let mut droplet = world.enrol("d1").await;
    let event = |code: &str| json!({"event": {"code": code, "message": "y"}});
    world.deliver(&droplet, vec![(1, event("old-1")), (2, event("old-2"))]).await.ok();
    let answer = world.post("/api/v1/droplets/d1/provisioning-token", Body::empty()).await.ok();
    droplet.provisioning = answer["provisioning_token"].as_str().unwrap().into();
    droplet.token = world.handshake(&droplet.handshake()).await.ok()["sidecar_token"].as_str().unwrap().into();
    assert_eq!(world.deliver(&droplet, vec![(1, event("new-1"))]).await.ok()["stored_up_to"], 1);
    assert_eq!(world.events().await, ["new-1", "old-2", "old-1"]);
}

#[tokio::test]
async fn a_new_identity_over_an_older_journal_goes_on_where_its_outbox_stands() {
    let world = World::new().await;
    let mut droplet = world.register("d1").await;
    let mut request = droplet.handshake();
    request.outbox_next = 8;
    droplet.token = world.handshake(&request).await.ok()["sidecar_token"].as_str().unwrap().into();
    let stored = world.deliver(&droplet, vec![(8, json!({"event": {"code": "x", "message": "y"}}))]).await.ok();
    assert_eq!(stored["stored_up_to"], 8);
}

fn assertion(droplet: &Droplet, key: &Key, claims: &RenewClaims) -> String {
    let mut header = Header::new(Algorithm::EdDSA);
    header.kid = Some(droplet.id.to_string());
    let jwt = jsonwebtoken::encode(&header, claims, &EncodingKey::from_ed_der(&key.pkcs8)).unwrap();
    json!({"assertion": jwt}).to_string()
}

#[tokio::test]
async fn the_identity_key_wins_a_token_back_once_per_assertion_whatever_the_droplets_clock_says() {
    let world = World::new().await;
    let mut droplet = world.enrol("d1").await;
    world.clock.advance(10 * SIDECAR_TOKEN_TTL_MS);
    world.deliver(&droplet, vec![]).await.refused(401, "unauthenticated");

    let claims = RenewClaims { sub: droplet.id.clone(), aud: "genesis-hub".into(), iat: 7, jti: random::token() };
    let body = assertion(&droplet, &droplet.identity, &claims);
    let renew = async |body: String| world.call(Method::POST, "/api/v1/sidecar/renew", "", body).await;
    let answer = renew(body.clone()).await.ok();
    renew(body).await.refused(401, "assertion_used");
    droplet.token = answer["sidecar_token"].as_str().unwrap().into();
    world.deliver(&droplet, vec![]).await.ok();

    let fresh = || RenewClaims { jti: random::token(), ..claims.clone() };
    for bad in [
        assertion(&droplet, &Key::new("thief"), &fresh()),
        assertion(&droplet, &droplet.identity, &RenewClaims { aud: "other".into(), ..fresh() }),
        assertion(&droplet, &droplet.identity, &RenewClaims { sub: "d2".parse().unwrap(), ..fresh() }),
        assertion(&droplet, &droplet.identity, &RenewClaims { jti: "short".into(), ..fresh() }),
        json!({"assertion": "a.b.c"}).to_string(),
    ] {
        renew(bad).await.refused(401, "bad_assertion");
    }
}

#[tokio::test]
async fn an_identity_that_used_its_renewals_up_is_told_to_enrol_and_may_renew_again_after_that() {
    let world = World::new().await;
    let droplet = world.enrol("d1").await;
    world.hub.store.use_up_renewals().await.unwrap();
    let renew = async || {
        let claims = RenewClaims { sub: droplet.id.clone(), aud: "genesis-hub".into(), iat: 7, jti: random::token() };
        let body = assertion(&droplet, &droplet.identity, &claims);
        world.call(Method::POST, "/api/v1/sidecar/renew", "", body).await
    };
    let refusal = renew().await.refused(409, "renewals_used_up");
    assert!(refusal["message"].as_str().unwrap().contains("provisioning token"), "{refusal}");
    let answer = world.post("/api/v1/droplets/d1/provisioning-token", Body::empty()).await.ok();
    let mut request = droplet.handshake();
    request.provisioning_token = answer["provisioning_token"].as_str().unwrap().to_owned();
    droplet.prove(&mut request);
    world.handshake(&request).await.ok();
    renew().await.ok();
}

#[tokio::test]
async fn a_heartbeat_rotates_an_old_token_and_the_old_one_stays_good_until_the_new_one_is_used() {
    let world = World::new().await;
    let mut droplet = world.enrol("d1").await;
    let beat = async |droplet: &Droplet| {
        let body = droplet.heartbeat().to_string();
        world.call(Method::POST, "/api/v1/sidecar/heartbeat", &droplet.token, body).await
    };
    assert!(beat(&droplet).await.ok()["rotated"].is_null());
    world.clock.advance(SIDECAR_TOKEN_TTL_MS / 2 + 1);
    let mut rotated = String::new();
    // More lost answers than unused tokens are kept: the one in use must survive them.
    for _ in 0..20 {
        rotated = beat(&droplet).await.ok()["rotated"]["sidecar_token"].as_str().unwrap().to_owned();
    }
    let mut old = std::mem::replace(&mut droplet.token, rotated);
    assert!(beat(&droplet).await.ok()["rotated"].is_null());
    // Requests with the old one may still be under way.
    world.clock.advance(10 * 60 * 1000 - 1);
    std::mem::swap(&mut droplet.token, &mut old);
    assert!(beat(&droplet).await.status.is_success());
    std::mem::swap(&mut droplet.token, &mut old);
    world.clock.advance(1);
    assert!(beat(&droplet).await.status.is_success());
    droplet.token = old;
    beat(&droplet).await.refused(401, "unauthenticated");
}

async fn rotated(world: &World, droplet: &Droplet) -> Option<String> {
    let body = droplet.heartbeat().to_string();
    let answer = world.call(Method::POST, "/api/v1/sidecar/heartbeat", &droplet.token, body).await.ok();
    answer["rotated"]["sidecar_token"].as_str().map(str::to_owned)
}

#[tokio::test]
async fn a_rotation_whose_answer_was_lost_locks_nobody_out_also_when_the_hub_starts_again() {
    let mut world = World::new().await;
    let mut droplet = world.enrol("d1").await;
    world.clock.advance(SIDECAR_TOKEN_TTL_MS / 2 + 1);
    let lost = rotated(&world, &droplet).await.unwrap();
    world.crash();
    // To the last moment of its own life the old one is good, for nobody has used the new one.
    world.clock.advance(SIDECAR_TOKEN_TTL_MS / 2 - 2);
    world.deliver(&droplet, vec![]).await.ok();
    droplet.token = rotated(&world, &droplet).await.unwrap();
    world.deliver(&droplet, vec![]).await.ok();
    // The lost one was never used, and is older than the one in use: it ends with the other old ones.
    world.clock.advance(10 * 60 * 1000);
    droplet.token = lost;
    world.deliver(&droplet, vec![]).await.refused(401, "unauthenticated");
}

#[tokio::test]
async fn a_droplet_that_died_between_the_answer_and_keeping_it_goes_on_with_the_old_token_and_rotates_again() {
    let world = World::new().await;
    let mut droplet = world.enrol("d1").await;
    for _ in 0..24 {
        world.clock.advance(SIDECAR_TOKEN_TTL_MS / 2 + 1);
        // The first answer dies with the agent, the second is kept.
        rotated(&world, &droplet).await.unwrap();
        droplet.token = rotated(&world, &droplet).await.unwrap();
        world.deliver(&droplet, vec![]).await.ok();
    }
    assert!(rotated(&world, &droplet).await.is_none(), "a young token is not rotated");
}

#[tokio::test]
async fn a_droplet_that_was_off_for_400_days_comes_back_by_its_identity_key_and_gets_its_job() {
    let world = World::new().await;
    let mut droplet = world.enrol("d1").await;
    world.clock.advance(400 * 24 * 3600 * 1000);
    world.hub.sweep().await;
    world.deliver(&droplet, vec![]).await.refused(401, "unauthenticated");
    let claims = RenewClaims { sub: droplet.id.clone(), aud: "genesis-hub".into(), iat: 7, jti: random::token() };
    let body = assertion(&droplet, &droplet.identity, &claims);
    let answer = world.call(Method::POST, "/api/v1/sidecar/renew", "", body).await.ok();
    droplet.token = answer["sidecar_token"].as_str().unwrap().into();
    let mut payload = world.payload(json!({"workspaces": [droplet.workspace]}));
    let now = world.clock.now();
    payload["issued_at"] = json!(now);
    payload["not_before"] = json!(now);
    payload["not_after"] = json!(now.plus_millis(3_600_000));
    let job = world.push(&world.sign(&payload)).await.ok()["job_ids"][0].clone();
    assert_eq!(world.poll(&droplet).await[0]["job_id"], job);
}

#[tokio::test]
async fn a_heartbeat_for_another_droplet_is_refused_and_silence_makes_a_zombie() {
    let world = World::new().await;
    let (droplet, other) = (world.enrol("d1").await, world.enrol("d2").await);
    let send = async |body: String| world.call(Method::POST, "/api/v1/sidecar/heartbeat", &droplet.token, body).await;
    send(other.heartbeat().to_string()).await.refused(403, "not_yours");
    let job = world.queue(&droplet).await;
    let answer = send(droplet.heartbeat().to_string()).await.ok();
    assert_eq!((&answer["work_waiting"], &answer["next_interval_s"]), (&json!(true), &json!(60)));
    assert_eq!(world.get("/api/v1/droplets/d1").await.ok()["state"], "ACTIVE_HEALTHY");
    world.clock.advance(180_000);
    assert_eq!(world.get("/api/v1/droplets/d1").await.ok()["state"], "ZOMBIE");
    assert_eq!(world.state(&job).await, "queued");
}
