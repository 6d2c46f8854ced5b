//! Who may do what: every route against every kind of caller, and the OpenAPI document against the routes.

use std::collections::{BTreeMap, BTreeSet};

use axum::body::Body;
use axum::http::{Method, StatusCode};
use genesis_shared::limits::SIDECAR_TOKEN_TTL_MS;
use serde_json::{Value, json};

use super::world::*;

/// Who asks, in the order of the table's columns.
const CALLERS: [&str; 9] = [
    "nobody",
    "a token that nobody gave out",
    "tenant A's droplet with a token that has ended",
    "tenant A's droplet",
    "tenant B's droplet",
    "an operator who may read",
    "an operator who may submit",
    "an operator who may enrol",
    "an operator who may do everything",
];

/// Every route, always about tenant A, and what each caller meets: `+` is let in, `?` is told 401 `unauthenticated`,
/// `w` 403 `wrong_plane`, `s` 403 `scope_missing`, `n` 403 `not_yours`. A route that is not here fails the test.
const TABLE: &[(&str, &str, &str)] = &[
    //                                                     none garbage ended A B read submit enrol admin
    ("POST", "/api/v1/sidecar/handshake", "+++++++++"),
    ("POST", "/api/v1/sidecar/renew", "+++++++++"),
    ("POST", "/api/v1/sidecar/heartbeat", "???+nwwww"),
    ("GET", "/api/v1/sidecar/commands", "???++wwww"),
    ("POST", "/api/v1/sidecar/results", "???++wwww"),
    ("GET", "/api/v1/sidecar/trust-root", "???++wwww"),
    ("POST", "/api/v1/droplets", "???wwss++"),
    ("GET", "/api/v1/droplets", "???ww+ss+"),
    ("GET", "/api/v1/droplets/{droplet_id}", "???ww+ss+"),
    ("POST", "/api/v1/droplets/{droplet_id}/provisioning-token", "???wwss++"),
    ("POST", "/api/v1/droplets/{droplet_id}/resume", "???wwsss+"),
    ("PUT", "/api/v1/droplets/{droplet_id}/lifecycle", "???wws+s+"),
    ("GET", "/api/v1/droplets/{droplet_id}/escrow", "???wwsss+"),
    ("GET", "/api/v1/droplets/{droplet_id}/health", "???ww+ss+"),
    ("GET", "/api/v1/fleet/summary", "???ww+ss+"),
    ("GET", "/api/v1/fleet/map", "???ww+ss+"),
    ("GET", "/api/v1/fleet/ids", "???ww+ss+"),
    ("POST", "/api/v1/bundles", "???wws+s+"),
    ("GET", "/api/v1/bundles", "???ww+ss+"),
    ("GET", "/api/v1/bundles/{bundle_id}", "???ww+ss+"),
    ("GET", "/api/v1/jobs", "???ww+ss+"),
    ("GET", "/api/v1/jobs/{job_id}", "???ww+ss+"),
    ("POST", "/api/v1/jobs/{job_id}/cancel", "???wws+s+"),
    ("POST", "/api/v1/jobs/{job_id}/requeue", "???wws+s+"),
    ("GET", "/api/v1/queues", "???ww+ss+"),
    ("PUT", "/api/v1/queues", "???wwsss+"),
    ("GET", "/api/v1/rollouts", "???ww+ss+"),
    ("GET", "/api/v1/rollouts/{rollout_id}", "???ww+ss+"),
    ("POST", "/api/v1/rollouts/{rollout_id}/pause", "???wws+s+"),
    ("POST", "/api/v1/rollouts/{rollout_id}/resume", "???wws+s+"),
    ("POST", "/api/v1/rollouts/{rollout_id}/abort", "???wws+s+"),
    ("GET", "/api/v1/dead-letters", "???ww+ss+"),
    ("GET", "/api/v1/events", "???ww+ss+"),
    ("GET", "/api/v1/events/stream", "???ww+ss+"),
    ("GET", "/api/v1/audit", "???ww+ss+"),
    ("GET", "/api/v1/trust-root", "???ww+ss+"),
    ("PUT", "/api/v1/trust-root", "???wwsss+"),
    ("GET", "/healthz", "+++++++++"),
    ("GET", "/readyz", "+++++++++"),
    ("GET", "/", "+++++++++"),
    ("GET", "/page/{file}", "+++++++++"),
    ("GET", "/metrics", "???ww+ss+"),
    ("GET", "/openapi.json", "+++++++++"),
    ("GET", "/api/v1/openapi.json", "+++++++++"),
];

/// A body that the route can read, so that what is refused is refused for want of a right.
fn body(world: &World, droplet: &Droplet, path: &str) -> String {
    match path {
        "/api/v1/sidecar/heartbeat" => droplet.heartbeat().to_string(),
        "/api/v1/sidecar/results" => "{\"records\":[]}".into(),
        "/api/v1/droplets" => {
            format!("{{\"workspace_id\":\"{}\",\"droplet_id\":\"new\"}}", crate::random::job_id())
        }
        "/api/v1/droplets/{droplet_id}/resume" => "{\"reason\":\"x\"}".into(),
        "/api/v1/droplets/{droplet_id}/lifecycle" => "{\"lifecycle\":\"waking\",\"reason\":\"x\"}".into(),
        "/api/v1/queues" => serde_json::to_string(&crate::queue::Limits::default()).unwrap(),
        "/api/v1/trust-root" => world.root_document(1),
        _ => "{}".into(),
    }
}

/// Method and path of every route in the served document.
async fn served(world: &World) -> BTreeSet<(String, String)> {
    let document = world.get("/openapi.json").await.ok();
    let mut listed = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys().filter(|key| *key != "parameters") {
            listed.insert((method.to_uppercase(), path.clone()));
        }
    }
    listed
}

#[tokio::test]
async fn every_route_lets_in_whom_it_should_and_nobody_else() {
    let world = World::new().await;
    let mut one = world.enrol("d1").await;
    let gone = one.token.clone();
    world.clock.advance(SIDECAR_TOKEN_TTL_MS);
    let answer = world.post("/api/v1/droplets/d1/provisioning-token", Body::empty()).await.ok();
    one.provisioning = answer["provisioning_token"].as_str().unwrap().into();
    one.token = world.handshake(&one.handshake()).await.ok()["sidecar_token"].as_str().unwrap().into();
    let two = world.enrol("d2").await;
    let tokens = [
        String::new(),
        "no-such-token".to_owned(),
        gone,
        one.token.clone(),
        two.token.clone(),
        world.api_token("r", "read").await,
        world.api_token("b", "submit").await,
        world.api_token("e", "enrol").await,
        world.admin.clone(),
    ];
    let table: BTreeMap<_, _> = TABLE.iter().map(|(method, path, expected)| ((*method, *path), *expected)).collect();
    for (method, route) in served(&world).await {
        let expected = table.get(&(method.as_str(), route.as_str())).unwrap_or_else(|| {
            panic!("{method} {route} is served, and the table does not say to whom");
        });
        assert_eq!(expected.len(), CALLERS.len(), "{route}");
        let (job, rollout) = (crate::random::job_id().to_string(), crate::random::bundle_id().to_string());
        let path = route.replace("{droplet_id}", "d1").replace("{job_id}", &job).replace("{rollout_id}", &rollout);
        let path = path.replace("{file}", "app.js").replace("{bundle_id}", &crate::random::bundle_id().to_string());
        let query = match route.as_str() {
            "/api/v1/sidecar/commands" => "?wait=0&nonce=0123456789abcdef",
            "/api/v1/audit" => "?chain=hub",
            _ => "",
        };
        for ((who, token), expected) in CALLERS.iter().zip(&tokens).zip(expected.chars()) {
            let body = body(&world, &one, &route);
            let called = Method::from_bytes(method.as_bytes()).unwrap();
            let answer = world.call(called, &format!("{path}{query}"), token, body).await;
            assert!(answer.headers.contains_key("x-request-id"), "{route}");
            let met = match (answer.status.as_u16(), answer.code()) {
                (401, "unauthenticated") => '?',
                (403, "wrong_plane") => 'w',
                (403, "scope_missing") => 's',
                (403, "not_yours") => 'n',
                (500.., _) => '!',
                _ => '+',
            };
            assert_eq!(met, expected, "{method} {route} by {who}: {} {}", answer.status, answer.body);
        }
    }
}

#[tokio::test]
async fn a_droplet_can_neither_read_nor_write_anything_of_another_tenant() {
    let world = World::new().await;
    let (one, two) = (world.enrol("d1").await, world.enrol("d2").await);
    let job = world.queue(&two).await;
    // Whatever it says of itself in a body, it gets and moves its own things only.
    assert!(world.poll(&one).await.is_empty());
    let theft = vec![(1, accepted(&job)), (2, result(&job, "succeeded"))];
    world.deliver(&one, theft).await.ok();
    assert_eq!((world.state(&job).await.as_str(), &world.job(&job).await["result"]), ("queued", &Value::Null));
    let leased = world.poll(&two).await;
    assert_eq!(leased[0]["job_id"], job);
    // A poll takes back the leases of its own tenant, and no others.
    world.poll(&one).await;
    assert_eq!(world.state(&job).await, "leased");
    world.deliver(&one, vec![(3, accepted(&job))]).await.ok();
    assert_eq!(world.state(&job).await, "leased");
    // Its outbox is its own: the other's numbers are untouched.
    assert_eq!(world.deliver(&two, vec![]).await.ok()["stored_up_to"], 0);
    for path in ["/api/v1/droplets/d2", "/api/v1/jobs", "/api/v1/events"] {
        world.call(Method::GET, path, &one.token, Body::empty()).await.refused(403, "wrong_plane");
    }
    let path = format!("/api/v1/jobs/{job}");
    world.call(Method::GET, &path, &one.token, Body::empty()).await.refused(403, "wrong_plane");
    // Nor can it pass for the other with its own key.
    let mut beat = two.heartbeat();
    beat["droplet_id"] = json!("d1");
    let path = "/api/v1/sidecar/heartbeat";
    world.call(Method::POST, path, &one.token, beat.to_string()).await.refused(403, "not_yours");
    assert_eq!(world.get("/api/v1/droplets/d2").await.ok()["state"], "INITIALIZING");
    assert_eq!(world.call(Method::POST, path, &two.token, two.heartbeat().to_string()).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_revoked_api_token_is_no_token() {
    let world = World::new().await;
    let token = world.api_token("gone", "admin").await;
    assert!(world.hub.store.revoke_api_token("gone".into(), world.clock.now()).await.unwrap());
    world.call(Method::GET, "/api/v1/jobs", &token, Body::empty()).await.refused(401, "unauthenticated");
}

#[tokio::test]
async fn the_openapi_document_lists_every_route_and_each_listed_one_exists() {
    let world = World::new().await;
    let document = world.get("/openapi.json").await.ok();
    assert!(document["openapi"].as_str().unwrap().starts_with("3."));
    let routes: BTreeSet<_> = TABLE.iter().map(|(m, p, _)| ((*m).to_owned(), (*p).to_owned())).collect();
    assert_eq!(served(&world).await, routes);
    // What the router is made of says the same as the handlers' own descriptions.
    let made: BTreeSet<_> = crate::api::ROUTES.iter().map(|r| (r.method.to_uppercase(), r.path.to_owned())).collect();
    assert_eq!(made, routes);
    // Each has a name of its own, and each body of JSON an example.
    let mut names = BTreeSet::new();
    for route in crate::api::ROUTES {
        let operation = &document["paths"][route.path][route.method];
        assert!(names.insert(operation["operationId"].as_str().unwrap().to_owned()), "{route:?}");
        assert!(operation["summary"].is_string() && operation["tags"].is_array(), "{route:?}");
        let bodies = operation["responses"].as_object().unwrap().values();
        for body in bodies.chain([&operation["requestBody"]]) {
            for (kind, media) in body["content"].as_object().into_iter().flatten() {
                let plain = !kind.ends_with("json") || media["schema"].get("$ref").is_none();
                assert!(plain || media.get("example").is_some(), "{route:?}: {media}");
            }
        }
    }
    // Every schema that is referred to is there.
    fn refs<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
        match value {
            Value::Object(map) => {
                found.extend(map.get("$ref").and_then(Value::as_str));
                map.values().for_each(|value| refs(value, found));
            }
            Value::Array(list) => list.iter().for_each(|value| refs(value, found)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    let mut found = Vec::new();
    refs(&document, &mut found);
    assert!(!found.is_empty());
    for target in found {
        assert!(document.pointer(target.trim_start_matches('#')).is_some(), "{target}");
    }
}

#[tokio::test]
async fn numbers_are_bounded_by_what_fits_their_type() {
    let world = World::new().await;
    let document = world.get("/api/v1/openapi.json").await.ok();
    let property =
        |schema: &str, name: &str| document["components"]["schemas"][schema]["properties"][name]["maximum"].clone();
    assert_eq!(property("Heartbeat", "swap_used_mb"), json!(u64::MAX));
    assert_eq!(property("Heartbeat", "active_workflows"), json!(u32::MAX));
    assert_eq!(property("Heartbeat", "clock_offset_ms"), json!(i64::MAX));
    assert_eq!(property("OutboxRecord", "seq"), json!(i64::MAX));
    assert_eq!(property("HealthSample", "cpu_percent"), json!(100));
}
