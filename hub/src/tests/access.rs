//! Who may do what: every route against every kind of caller, and the OpenAPI document against the routes.

use std::collections::BTreeSet;

use axum::body::Body;
use axum::http::Method;
use serde_json::Value;

use super::world::*;

/// Method, path, and who may: `-` nobody needs a token, `s` a sidecar token, `r` `b` `e` `a` the API scopes read,
/// submit, enrol, admin.
const ROUTES: &[(&str, &str, &str)] = &[
    ("POST", "/api/v1/sidecar/handshake", "-"),
    ("POST", "/api/v1/sidecar/renew", "-"),
    ("POST", "/api/v1/sidecar/heartbeat", "s"),
    ("GET", "/api/v1/sidecar/commands", "s"),
    ("POST", "/api/v1/sidecar/results", "s"),
    ("GET", "/api/v1/sidecar/trust-root", "s"),
    ("POST", "/api/v1/droplets", "ea"),
    ("GET", "/api/v1/droplets", "ra"),
    ("GET", "/api/v1/droplets/{droplet_id}", "ra"),
    ("POST", "/api/v1/droplets/{droplet_id}/provisioning-token", "ea"),
    ("GET", "/api/v1/droplets/{droplet_id}/escrow", "a"),
    ("POST", "/api/v1/bundles", "ba"),
    ("GET", "/api/v1/jobs", "ra"),
    ("GET", "/api/v1/jobs/{job_id}", "ra"),
    ("POST", "/api/v1/jobs/{job_id}/cancel", "ba"),
    ("POST", "/api/v1/jobs/{job_id}/requeue", "ba"),
    ("GET", "/api/v1/dead-letters", "ra"),
    ("GET", "/api/v1/events", "ra"),
    ("GET", "/api/v1/trust-root", "ra"),
    ("PUT", "/api/v1/trust-root", "a"),
    ("GET", "/healthz", "-"),
    ("GET", "/readyz", "-"),
    ("GET", "/openapi.json", "-"),
];

/// A body that the route can read, so that what is refused is refused for want of a right.
fn body(world: &World, droplet: &Droplet, path: &str) -> String {
    match path {
        "/api/v1/sidecar/heartbeat" => droplet.heartbeat().to_string(),
        "/api/v1/sidecar/results" => "{\"records\":[]}".into(),
        "/api/v1/droplets" => {
            format!("{{\"workspace_id\":\"{}\",\"droplet_id\":\"new\"}}", crate::random::job_id())
        }
        "/api/v1/trust-root" => world.root_document(1),
        _ => "{}".into(),
    }
}

#[tokio::test]
async fn every_route_lets_in_whom_it_should_and_nobody_else() {
    let world = World::new().await;
    let droplet = world.enrol("d1").await;
    let callers = [
        ('-', String::new()),
        ('x', "no-such-token".to_owned()),
        ('s', droplet.token.clone()),
        ('r', world.api_token("r", "read").await),
        ('b', world.api_token("b", "submit").await),
        ('e', world.api_token("e", "enrol").await),
        ('a', world.admin.clone()),
    ];
    for (method, route, may) in ROUTES {
        let path = route.replace("{droplet_id}", "d1").replace("{job_id}", &crate::random::job_id().to_string());
        let query = if *route == "/api/v1/sidecar/commands" { "?wait=0&nonce=0123456789abcdef" } else { "" };
        for (who, token) in &callers {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            let body = body(&world, &droplet, route);
            let answer = world.call(method.clone(), &format!("{path}{query}"), token, body).await;
            assert!(answer.headers.contains_key("x-request-id"), "{route}");
            let (status, named) = (answer.status.as_u16(), format!("{method} {route} by {who}: {}", answer.body));
            if *may == "-" || may.contains(*who) {
                let codes = ["unauthenticated", "scope_missing", "wrong_plane"];
                assert!(!codes.contains(&answer.code()) && status < 500, "{named}");
            } else if matches!(who, '-' | 'x') {
                assert_eq!((status, answer.code()), (401, "unauthenticated"), "{named}");
            } else if (*who == 's') != may.contains('s') {
                assert_eq!((status, answer.code()), (403, "wrong_plane"), "{named}");
            } else {
                assert_eq!((status, answer.code()), (403, "scope_missing"), "{named}");
            }
        }
    }
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
    let mut listed = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys().filter(|key| *key != "parameters") {
            listed.insert((method.to_uppercase(), path.clone()));
        }
    }
    let routes: BTreeSet<_> = ROUTES.iter().map(|(m, p, _)| ((*m).to_owned(), (*p).to_owned())).collect();
    assert_eq!(listed, routes);
    // Every path of the router's source is in the table as well.
    let source = include_str!("../api/mod.rs");
    let written: BTreeSet<_> = source.split(".route(\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert_eq!(written, ROUTES.iter().map(|(_, path, _)| *path).collect());
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
