//! Wrong input of every kind gets an error body with a code, and harms nobody.

use axum::body::Body;
use axum::http::{Method, Request};
use genesis_shared::limits::REQUEST_BODY_BYTES_MAX;

use super::world::*;
use crate::api::body::STRANGER_BYTES_MAX;

#[tokio::test]
async fn what_cannot_be_read_is_answered_with_the_parsers_words() {
    let world = World::new().await;
    for (body, words) in [
        ("", "EOF"),
        ("{", "line 1 column 1"),
        ("{}", "missing field `workspace_id`"),
        ("{\"workspace_id\":7}", "invalid type"),
        ("{\"workspace_id\":\"x\",\"droplet_id\":\"d\"}", "UUID"),
        ("{\"surprise\":1}", "unknown field `surprise`"),
        ("\u{0}\u{1}", "expected value"),
    ] {
        let answer = world.post("/api/v1/droplets", body).await.refused(400, "malformed");
        assert!(answer["message"].as_str().unwrap().contains(words), "{body}: {answer}");
    }
    let binary = world.post("/api/v1/bundles", vec![0xff_u8, 0xfe]).await;
    binary.refused(400, "malformed");
}

#[tokio::test]
async fn unknown_paths_methods_and_content_types_have_their_own_codes() {
    let world = World::new().await;
    for path in [
        "/page",
        "/page/",
        "/page/nothing.js",
        "/page/..%2Findex.html",
        "/api",
        "/api/v2/jobs",
        "/api/v1/jobs/",
        "/api/v1/nothing",
    ] {
        world.get(path).await.refused(404, "not_found");
    }
    let wrong = world.call(Method::DELETE, "/api/v1/trust-root", &world.admin, Body::empty()).await;
    assert!(wrong.headers.contains_key("allow"));
    wrong.refused(405, "method_not_allowed");
    for kind in [None, Some("text/plain"), Some("application/xml"), Some("application/json-seq")] {
        let mut request = Request::post("/api/v1/droplets").header("authorization", format!("Bearer {}", world.admin));
        if let Some(kind) = kind {
            request = request.header("content-type", kind);
        }
        world.send(request.body(Body::from("{}")).unwrap()).await.refused(415, "unsupported_media_type");
    }
    world.get("/api/v1/jobs/not-a-uuid").await.refused(400, "malformed");
    world.get("/api/v1/droplets/..%2F..").await.refused(400, "malformed");
    world.get("/api/v1/droplets/nobody").await.refused(404, "not_found");
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_and_one_at_the_limit_is_read() {
    let world = World::new().await;
    for size in [REQUEST_BODY_BYTES_MAX + 1, 10 * 1024 * 1024, 40 * 1024 * 1024] {
        world.post("/api/v1/bundles", vec![b'x'; size]).await.refused(413, "too_large");
    }
    world.post("/api/v1/bundles", vec![b'x'; REQUEST_BODY_BYTES_MAX]).await.refused(400, "malformed");
    for path in ["/api/v1/sidecar/handshake", "/api/v1/sidecar/renew"] {
        let large = vec![b'x'; STRANGER_BYTES_MAX + 1];
        world.call(Method::POST, path, "", large).await.refused(413, "too_large");
    }
}

#[tokio::test]
async fn a_nonce_that_does_not_fit_is_refused() {
    let world = World::new().await;
    let droplet = world.enrol("d1").await;
    for query in [
        "",
        "?nonce=short",
        "?nonce=0123456789abcde%20",
        &format!("?nonce={}", "a".repeat(129)),
        "?nonce=0123456789abcdef&wait=x",
    ] {
        let path = format!("/api/v1/sidecar/commands{query}");
        world.call(Method::GET, &path, &droplet.token, Body::empty()).await.refused(400, "malformed");
    }
}

#[tokio::test]
async fn a_panic_in_a_handler_is_one_500_and_the_next_request_is_answered() {
    let world = World::new().await;
    let broken = axum::Router::new()
        .route("/panic", axum::routing::get(async || -> &'static str { panic!("a bug, as the test wants it") }))
        .layer(axum::middleware::from_fn_with_state(world.hub.clone(), crate::api::request::around));
    let world = World { router: broken.merge(world.router.clone()), ..world };
    world.get("/panic").await.refused(500, "internal");
    world.get("/healthz").await.ok();
}
