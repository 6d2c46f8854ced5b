//! What all routes have in common: pages and filters, rates, request ids, problem documents, other origins.

use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use serde_json::{Value, json};

use super::world::*;

/// Follows a list to its end in pages of two.
async fn all(world: &World, path: &str) -> Vec<Value> {
    let (mut items, mut cursor) = (Vec::new(), String::new());
    loop {
        let sign = if path.contains('?') { '&' } else { '?' };
        let page = world.get(&format!("{path}{sign}limit=2{cursor}")).await.ok();
        let page_items = page["items"].as_array().unwrap();
        assert!(page_items.len() <= 2);
        items.extend(page_items.iter().cloned());
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return items,
        }
    }
}

fn texts(items: &[Value], key: &str) -> Vec<String> {
    items.iter().map(|item| item[key].as_str().unwrap().to_owned()).collect()
}

async fn beat(world: &World, droplet: &Droplet, state: &str) {
    let mut beat = droplet.heartbeat();
    beat["state"] = json!(state);
    world.call(Method::POST, "/api/v1/sidecar/heartbeat", &droplet.token, beat.to_string()).await.ok();
}

#[tokio::test]
async fn droplets_are_listed_by_state_condition_and_tenant_in_pages() {
    let world = World::new().await;
    let mut droplets = Vec::new();
    for name in ["a1", "a2", "a3", "a4", "a5"] {
        droplets.push(world.enrol(name).await);
    }
    world.register("a6").await;
    beat(&world, &droplets[4], "ACTIVE_HEALTHY").await;
    world.clock.advance(181_000);
    for (at, state) in [(0, "ACTIVE_HEALTHY"), (1, "ACTIVE_DEGRADED"), (2, "ACTIVE_HEALTHY"), (3, "DRIFT_DETECTED")] {
        beat(&world, &droplets[at], state).await;
    }
    let list = async |query: &str| texts(&all(&world, &format!("/api/v1/droplets{query}")).await, "droplet_id");
    assert_eq!(list("").await, ["a1", "a2", "a3", "a4", "a5", "a6"]);
    assert_eq!(list("?state=ACTIVE_HEALTHY").await, ["a1", "a3"]);
    assert_eq!(list("?state=ZOMBIE").await, ["a5"]);
    assert_eq!(list("?state=DRIFT_DETECTED").await, ["a4"]);
    assert_eq!(list("?state=HANDSHAKE_PENDING").await, ["a6"]);
    // What it said of itself last, however long ago.
    assert_eq!(list("?condition=healthy").await, ["a1", "a3", "a5"]);
    assert_eq!(list("?condition=healthy&state=ZOMBIE").await, ["a5"]);
    assert_eq!(list(&format!("?workspace_id={}", droplets[1].workspace)).await, ["a2"]);
    assert_eq!(list("?label=ring%3Da3").await, ["a3"]);
    for wrong in ["?state=SLEEPING", "?condition=ZOMBIE", "?workspace_id=x", "?sate=ZOMBIE", "?limit=0", "?limit=201"] {
        world.get(&format!("/api/v1/droplets{wrong}")).await.refused(400, "malformed");
    }
}

#[tokio::test]
async fn bundles_are_listed_newest_first_and_one_shows_its_jobs_by_state() {
    let world = World::new().await;
    let (one, two) = (world.enrol("d1").await, world.enrol("d2").await);
    let mut ids = Vec::new();
    for queue in ["health", "template", "health"] {
        let mut payload = world.payload(json!({"workspaces": [one.workspace, two.workspace]}));
        payload["queue"] = json!(queue);
        ids.push(world.push(&world.sign(&payload)).await.ok()["bundle_id"].as_str().unwrap().to_owned());
    }
    ids.reverse();
    assert_eq!(texts(&all(&world, "/api/v1/bundles").await, "bundle_id"), ids);
    let health = all(&world, "/api/v1/bundles?queue=health&action=HEALTH_CHECK&pushed_by=admin").await;
    assert_eq!(texts(&health, "bundle_id"), [ids[0].as_str(), &ids[2]]);
    assert!(all(&world, "/api/v1/bundles?action=HEALTH").await.is_empty(), "names are compared whole");
    world.poll(&one).await;
    let shown = world.get(&format!("/api/v1/bundles/{}", ids[0])).await.ok();
    assert_eq!(shown["jobs"], json!({"leased": 1, "queued": 1}));
    world.get(&format!("/api/v1/bundles/{}", crate::random::bundle_id())).await.refused(404, "not_found");
}

#[tokio::test]
async fn events_and_audit_entries_are_listed_by_what_they_say() {
    let world = World::new().await;
    let (one, two) = (world.enrol("d1").await, world.enrol("d2").await);
    let event = |code: &str| json!({"event": {"code": code, "message": "it happened"}});
    world.deliver(&one, vec![(1, event("a")), (2, event("b")), (3, event("a"))]).await.ok();
    world.deliver(&two, vec![(1, event("a"))]).await.ok();
    let list = async |query: &str| texts(&all(&world, &format!("/api/v1/events{query}")).await, "code");
    assert_eq!(list("").await, ["a", "a", "b", "a"]);
    assert_eq!(list("?code=b").await, ["b"]);
    assert_eq!(list("?droplet_id=d1").await, ["a", "b", "a"]);
    assert_eq!(list("?droplet_id=d2&code=b").await, Vec::<String>::new());

    let created = all(&world, "/api/v1/audit?chain=hub&event=DROPLET_CREATED").await;
    assert_eq!(created.len(), 2, "{created:?}");
    assert!(created.iter().all(|line| line["entry"]["event"] == "DROPLET_CREATED"));
}

#[tokio::test]
async fn a_token_that_asks_too_often_is_told_when_to_go_on_and_no_other_token_is() {
    let world = World::new().await;
    let droplet = world.enrol("d1").await;
    let reader = world.api_token("r", "read").await;
    let burst = world.hub.settings.api_rate.burst;
    for _ in 0..burst {
        assert_eq!(world.call(Method::GET, "/api/v1/jobs", &reader, Body::empty()).await.status, StatusCode::OK);
    }
    let refused = world.call(Method::GET, "/api/v1/jobs", &reader, Body::empty()).await;
    assert_eq!(refused.headers["retry-after"], "1");
    assert_eq!(refused.refused(429, "rate_limited")["retryable"], true);
    world.get("/api/v1/jobs").await.ok();
    assert!(world.poll(&droplet).await.is_empty(), "the agent plane has a measure of its own");
    world.clock.advance(1_000);
    assert_eq!(world.call(Method::GET, "/api/v1/jobs", &reader, Body::empty()).await.status, StatusCode::OK);
    // A droplet that runs wild is held back as well; a stranger without a token costs no bucket.
    let path = "/api/v1/sidecar/trust-root";
    let mut last = StatusCode::OK;
    for _ in 0..=world.hub.settings.sidecar_rate.burst {
        last = world.call(Method::GET, path, &droplet.token, Body::empty()).await.status;
    }
    assert_eq!(last, StatusCode::TOO_MANY_REQUESTS);
    let held = world.hub.rates.len();
    world.call(Method::GET, "/api/v1/jobs", "guess", Body::empty()).await.refused(401, "unauthenticated");
    assert_eq!(world.hub.rates.len(), held);
    world.clock.advance(60_000);
    world.hub.sweep().await;
    assert!(world.hub.rates.is_empty(), "full buckets are forgotten");
}

#[tokio::test]
async fn a_plain_request_id_is_taken_over_and_any_other_is_replaced() {
    let world = World::new().await;
    let ask = async |id: Option<&str>, path: &str| {
        let mut request = Request::get(path);
        if let Some(id) = id {
            request = request.header("x-request-id", id);
        }
        let answer = world.send(request.body(Body::empty()).unwrap()).await;
        answer.headers["x-request-id"].to_str().unwrap().to_owned()
    };
    for path in ["/healthz", "/nowhere", "/api/v1/jobs"] {
        assert_eq!(ask(Some("ci-4711.a_B"), path).await, "ci-4711.a_B");
        let long = "x".repeat(65);
        for other in [None, Some(""), Some("a b"), Some("a\tb"), Some("{}"), Some("ä"), Some(long.as_str())] {
            let given = ask(other, path).await;
            assert!(given.len() == 36 && Some(given.as_str()) != other, "{given}");
        }
    }
}

#[tokio::test]
async fn pages_of_listed_origins_may_call_and_no_others() {
    let mut world = World::new().await;
    world.restart_with(|settings| settings.cors_origins = ["https://dashboard.example.com".to_owned()].into()).await;
    let ask = async |method: Method, origin: &str, preflight: bool| {
        let mut request = Request::builder().method(method).uri("/api/v1/jobs").header("origin", origin);
        if preflight {
            request = request.header("access-control-request-method", "GET");
        }
        world.send(request.body(Body::empty()).unwrap()).await
    };
    let good = ask(Method::OPTIONS, "https://dashboard.example.com", true).await;
    assert_eq!(good.status, StatusCode::NO_CONTENT);
    assert_eq!(good.headers["access-control-allow-origin"], "https://dashboard.example.com");
    assert!(good.headers["access-control-allow-headers"].to_str().unwrap().contains("authorization"));
    assert!(!good.headers.contains_key("access-control-allow-credentials"));
    // A refusal can be read by the page as well.
    let refused = ask(Method::GET, "https://dashboard.example.com", false).await;
    assert_eq!(refused.headers["access-control-allow-origin"], "https://dashboard.example.com");
    assert_eq!(refused.headers["vary"], "origin");
    refused.refused(401, "unauthenticated");
    for other in ["https://dashboard.example.com.evil.test", "http://dashboard.example.com", "null"] {
        let answer = ask(Method::OPTIONS, other, true).await;
        assert!(answer.headers.keys().all(|name| !name.as_str().starts_with("access-control")), "{other}");
        let answer = ask(Method::GET, other, false).await;
        assert!(!answer.headers.contains_key("access-control-allow-origin"), "{other}");
    }
}

#[tokio::test]
async fn the_same_push_again_is_one_push_even_at_the_same_time() {
    let world = World::new().await;
    let droplet = world.enrol("d1").await;
    let document = world.sign(&world.payload(json!({"workspaces": [droplet.workspace]})));
    let (one, two, three) = tokio::join!(world.push(&document), world.push(&document), world.push(&document));
    let (one, two, three) = (one.ok(), two.ok(), three.ok());
    assert!(one == two && two == three, "{one} {two} {three}");
    assert_eq!(all(&world, "/api/v1/jobs").await.len(), 1);
}

#[tokio::test]
async fn the_fleet_fits_in_a_byte_per_droplet_and_is_counted_once_a_second() {
    let world = World::new().await;
    let (one, _two) = (world.enrol("d1").await, world.enrol("d2").await);
    world.register("d3").await;
    beat(&world, &one, "ACTIVE_DEGRADED").await;
    world.queue(&one).await;
    let map = world.get("/api/v1/fleet/map").await.ok();
    let ids = world.get("/api/v1/fleet/ids").await.ok();
    assert_eq!(
        (&ids["ids"], &map["states"], &map["order"]),
        (&json!(["d1", "d2", "d3"]), &json!("310"), &ids["order"])
    );
    assert_eq!(map["names"][3], "ACTIVE_DEGRADED");
    assert_eq!(map["regions"], json!([{"region": "fra1", "droplets": 3}]));
    // What comes within the second is seen after it.
    beat(&world, &one, "ACTIVE_HEALTHY").await;
    assert_eq!(world.get("/api/v1/fleet/map").await.ok()["states"], "310");
    world.clock.advance(1_000);
    let summary = world.get("/api/v1/fleet/summary").await.ok();
    assert_eq!((&summary["droplets"], &summary["states"]["ACTIVE_HEALTHY"]), (&json!(3), &json!(1)));
    assert_eq!(summary["states"]["ZOMBIE"], 0, "each state is there");
    assert_eq!(summary["queues"], json!([{"queue": "template", "queued": 1, "leased": 0, "accepted": 0, "dead": 0}]));
    // A droplet that comes changes the order.
    world.register("d0").await;
    world.clock.advance(1_000);
    assert_ne!(world.get("/api/v1/fleet/map").await.ok()["order"], map["order"]);
}

#[tokio::test]
async fn a_droplets_health_is_kept_as_one_sample_a_minute() {
    let world = World::new().await;
    let one = world.enrol("d1").await;
    for state in ["ACTIVE_HEALTHY", "ACTIVE_DEGRADED", "ACTIVE_HEALTHY"] {
        beat(&world, &one, state).await;
        beat(&world, &one, "ACTIVE_HEALTHY").await;
        world.clock.advance(60_000);
    }
    let history = world.get("/api/v1/droplets/d1/health").await.ok();
    let samples = history["samples"].as_array().unwrap();
    assert_eq!(
        samples.iter().map(|sample| sample["healthy"].as_bool().unwrap()).collect::<Vec<_>>(),
        [true, false, true]
    );
    assert_eq!(
        samples[0],
        json!({"at": "2026-11-24T12:00:00.000Z", "cpu_percent": 2, "memory_percent": 50,
        "disk_percent": 3, "healthy": true})
    );
    world.get("/api/v1/droplets/nobody/health").await.refused(404, "not_found");
}

#[tokio::test]
async fn the_page_may_ask_nobody_but_this_hub_and_holds_nothing_that_its_policy_forbids() {
    let world = World::new().await;
    let index = world.call(Method::GET, "/", "", Body::empty()).await;
    let policy = index.headers["content-security-policy"].to_str().unwrap().to_owned();
    assert!(
        policy.starts_with("default-src 'none'") && !policy.contains("unsafe") && !policy.contains('*'),
        "{policy}"
    );
    assert!(policy.contains("frame-ancestors 'none'") && policy.contains("base-uri 'none'"));
    let html = index.body.as_str().unwrap().to_owned();
    // What the policy would block is not there to begin with.
    for word in ["<style", " style=", " onclick", "javascript:", "http://", "https://", "<script>"] {
        assert!(!html.contains(word), "{word}");
    }
    let mut bytes = html.len();
    let mut files: Vec<_> = html.split('"').filter_map(|part| part.strip_prefix("page/")).map(str::to_owned).collect();
    let mut seen = std::collections::BTreeSet::new();
    while let Some(name) = files.pop() {
        if !seen.insert(name.clone()) {
            continue;
        }
        let file = world.call(Method::GET, &format!("/page/{name}"), "", Body::empty()).await;
        assert_eq!(
            (file.status, &file.headers["x-content-type-options"]),
            (StatusCode::OK, &"nosniff".parse().unwrap())
        );
        let text = file.body.as_str().unwrap();
        for word in ["innerHTML", "outerHTML", "insertAdjacent", "document.write", "eval(", "localStorage"] {
            assert!(!text.contains(word), "{name}: {word}");
        }
        bytes += text.len();
        files.extend(text.split("from \"./").skip(1).map(|rest| rest.split('"').next().unwrap().to_owned()));
        // Whoever has it is told so.
        let request = Request::get(format!("/page/{name}")).header("if-none-match", &file.headers["etag"]);
        assert_eq!(world.send(request.body(Body::empty()).unwrap()).await.status, StatusCode::NOT_MODIFIED);
    }
    assert_eq!(seen.len(), 7, "every file is reached from the page: {seen:?}");
    assert!(bytes < 64 * 1024, "small: {bytes}");
}
