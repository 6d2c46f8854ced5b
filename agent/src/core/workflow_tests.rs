//! Tests of how n8n takes and holds workflows.

use serde_json::json;

use super::*;

#[test]
fn the_request_body_keeps_what_n8n_accepts_and_names_what_it_drops() {
    let mapped = json!({"name": "W", "nodes": [{"name": "N", "color": 1}], "connections": {}, "active": true,
                        "settings": {"timezone": "UTC", "binaryMode": "x"}, "pinData": {}});
    let (body, dropped) = request_body(&mapped);
    assert_eq!(
        body,
        json!({"name": "W", "nodes": [{"name": "N"}], "connections": {}, "settings": {"timezone": "UTC"}})
    );
    assert_eq!(dropped, ["nodes[0].color", "active", "settings.binaryMode", "pinData"]);
}

#[test]
fn names_the_addresses_of_webhooks_as_n8n_makes_them() {
    let hook = |path: Value, id: Value| json!({"type": "n8n-nodes-base.webhook", "webhookId": id, "parameters": {"path": path}});
    let workflow = json!({"nodes": [
        hook(json!("/email-1/"), json!("a")), hook(json!("user/:id"), json!("b")), hook(json!(null), json!("c")),
        hook(json!("={{ 1 }}"), json!("d")), hook(json!("e"), json!(null)), json!({"type": "n8n-nodes-base.set"}),
    ]});
    let expected = ["https://x/webhook/email-1", "https://x/webhook/b/user/:id", "https://x/webhook/c"];
    assert_eq!(webhook_urls(&workflow, "https://x/webhook/"), expected);
}

#[test]
fn n8n_holds_a_workflow_when_only_its_own_additions_differ() {
    let wanted = json!({"name": "W", "nodes": [{"typeVersion": 1.0}], "connections": {}, "settings": {"a": 1}});
    let mut actual = json!({"name": "W", "nodes": [{"typeVersion": 1}], "connections": {}, "settings": {"a": 1, "b": 2},
                            "id": "x", "versionId": "y"});
    assert!(holds(&actual, &wanted));
    actual["nodes"][0]["id"] = json!("made by n8n");
    assert!(holds(&actual, &wanted));
    actual["settings"]["a"] = json!(2);
    assert!(!holds(&actual, &wanted));
    actual["settings"]["a"] = json!(1);
    actual["nodes"][0]["disabled"] = json!(true);
    assert!(!holds(&actual, &wanted));
}
