//! The errors that every call of the public API shares, and paging.

use serde_json::json;

use super::super::{Config, Request};
use super::{Lab, workflow};

#[test]
fn generic_errors_come_in_the_real_order() {
    let mut lab = Lab::new();
    let rows = [
        ("GET", "nope", 404, "not found"),
        ("PATCH", "workflows/x", 405, "PATCH method not allowed"),
        ("GET", "workflows", 401, "'X-N8N-API-KEY' header required"),
        ("GET", "workflows?bogus=1", 401, "'X-N8N-API-KEY' header required"),
    ];
    for (method, path, status, message) in rows {
        let answer = lab.n8n.handle(&Request::new(method, &format!("/api/v1/{path}")));
        assert_eq!((answer.status, answer.value()["message"].as_str()), (status, Some(message)), "{path}");
    }
    let rows = [
        ("GET", "workflows/unknown", 404, "Not Found"),
        ("DELETE", "workflows/unknown", 404, "Not Found"),
        ("POST", "workflows/unknown/activate", 404, "Not Found"),
        ("POST", "workflows/unknown/deactivate", 404, "Workflow with ID \"unknown\" not found."),
        ("GET", "workflows?bogus=1", 400, "Unknown query parameter 'bogus'"),
        ("GET", "workflows?limit=251", 400, "request/query/limit must be <= 250"),
        ("GET", "workflows?limit=abc", 400, "request/query/limit must be number"),
        ("GET", "workflows?cursor=zzz", 400, "An invalid cursor was provided"),
        ("POST", "workflows", 415, "unsupported media type undefined"),
        ("GET", "executions/abc", 400, "request/params/id must be number"),
        (
            "GET",
            "executions?status=crashed",
            400,
            "request/query/status must be equal to one of the allowed values: canceled, error, running, success, waiting",
        ),
    ];
    for (method, path, status, message) in rows {
        let answer = lab.bare(method, path);
        assert_eq!((answer.status, answer.value()["message"].as_str()), (status, Some(message)), "{path}");
    }
}

#[test]
fn broken_and_large_bodies_are_answered_with_pages() {
    let mut lab = Lab::new();
    let mut broken = lab.request("POST", "workflows").header("content-type", "application/json");
    broken.body = b"{bad".to_vec();
    let answer = lab.n8n.handle(&broken);
    assert_eq!((answer.status, answer.content_type), (500, Some("text/html; charset=utf-8")));
    broken.body = vec![b' '; 17 << 20];
    let answer = lab.n8n.handle(&broken);
    assert_eq!((answer.status, answer.content_type), (413, Some("text/html; charset=utf-8")));
}

#[test]
fn pages_follow_each_other_until_the_cursor_is_null() {
    let mut lab = Lab::new();
    for _ in 0..5 {
        lab.create(json!([]));
        lab.credential("c");
        lab.n8n.add_execution("w", "success", "webhook");
    }
    for kind in ["workflows", "credentials", "executions"] {
        let (mut seen, mut path) = (Vec::new(), format!("{kind}?limit=2"));
        loop {
            let page = lab.bare("GET", &path).value();
            seen.extend(page["data"].as_array().unwrap().iter().map(|item| item["id"].to_string()));
            let Some(cursor) = page["nextCursor"].as_str() else { break };
            path = format!("{kind}?cursor={}", cursor.replace('=', "%3D"));
        }
        assert_eq!(seen.len(), 5, "{kind}");
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), 5, "{kind}");
    }
}

#[test]
fn before_2_8_credentials_cannot_be_listed() {
    let mut lab = Lab::with(Config { credentials_list: false, ..Config::default() });
    assert_eq!(lab.bare("GET", "credentials").status, 405);
    lab.credential("c");
}

#[test]
fn executions_are_listed_newest_first_without_the_running() {
    let mut lab = Lab::new();
    for status in ["success", "running", "crashed"] {
        lab.n8n.add_execution("w", status, "trigger");
    }
    let all = lab.bare("GET", "executions").value();
    let ids: Vec<_> = all["data"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["3", "1"]);
    assert_eq!(lab.bare("GET", "executions?status=running").value()["data"][0]["id"], "2");
    assert_eq!(lab.bare("DELETE", "executions/2").status, 400);
    assert_eq!(lab.bare("DELETE", "executions/1").value()["id"], 1);
}

#[test]
fn tags_are_made_set_and_found() {
    let mut lab = Lab::new();
    let made = lab.call("POST", "tags", &json!({ "name": "t" }));
    assert_eq!(made.status, 201);
    lab.bad("POST", "tags", &json!({ "name": "t" }), 409, "Tag already exists");
    let id = lab.create(json!([]));
    lab.bad("PUT", &format!("workflows/{id}/tags"), &json!([{ "id": "nope" }]), 404, "Some tags not found");
    lab.good("PUT", &format!("workflows/{id}/tags"), &json!([{ "id": made.value()["id"] }]));
    assert_eq!(lab.bare("GET", "workflows?tags=t").value()["data"][0]["id"], id.as_str());
    assert_eq!(lab.bare("GET", "workflows?tags=u").value()["data"], json!([]));
}

#[test]
fn a_clone_is_a_snapshot() {
    let mut lab = Lab::new();
    let before = lab.n8n.clone();
    lab.good("POST", "workflows", &workflow(json!([])));
    assert_eq!((before.workflows.len(), lab.n8n.workflows.len()), (0, 1));
}
