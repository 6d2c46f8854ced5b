//! What a workflow may carry, and what saving does to it.

use serde_json::{Value, json};

use super::{Lab, hook, text, workflow};

#[test]
fn only_five_keys_are_allowed_and_four_are_required() {
    let mut lab = Lab::new();
    for key in ["name", "nodes", "connections", "settings"] {
        let mut body = workflow(json!([]));
        body.as_object_mut().unwrap().shift_remove(key);
        lab.bad("POST", "workflows", &body, 400, &format!("request/body must have required property '{key}'"));
    }
    let extra = "request/body must NOT have additional properties";
    let rows = [
        ("id", json!("a"), "request/body/id is read-only"),
        ("active", json!(false), "request/body/active is read-only"),
        ("tags", json!([]), "request/body/tags is read-only"),
        ("activeVersion", json!({}), "request/body/activeVersion is read-only"),
        ("activeVersion", json!(null), "request/body/activeVersion must pass \"readOnly\" keyword validation"),
        ("shared", json!([{ "project": { "id": "x" } }]), "request/body/shared/0/project/id is read-only"),
        ("versionId", json!("x"), extra),
        ("pinData", json!({}), extra),
        ("meta", json!({}), extra),
        ("description", json!(""), extra),
        ("isArchived", json!(false), extra),
    ];
    for (key, value, message) in rows {
        let mut body = workflow(json!([]));
        body[key] = value;
        lab.bad("POST", "workflows", &body, 400, message);
    }
}

#[test]
fn settings_and_nodes_have_their_own_lists() {
    let mut lab = Lab::new();
    let settings = [
        ("binaryMode", json!("x"), "request/body/settings must NOT have additional properties"),
        (
            "saveDataErrorExecution",
            json!("DEFAULT"),
            "request/body/settings/saveDataErrorExecution must be equal to one of the allowed values: all, none",
        ),
        ("executionTimeout", json!("x"), "request/body/settings/executionTimeout must be number"),
    ];
    for (key, value, message) in settings {
        let mut body = workflow(json!([]));
        body["settings"][key] = value;
        lab.bad("POST", "workflows", &body, 400, message);
    }
    let nodes = [
        (json!({ "color": "x" }), "request/body/nodes/0 must NOT have additional properties"),
        (json!({ "typeVersion": "x" }), "request/body/nodes/0/typeVersion must be number"),
        (json!({ "position": ["a", 1] }), "request/body/nodes/0/position/0 must be number"),
        (json!("a"), "request/body/nodes/0 must be object"),
    ];
    for (node, message) in nodes {
        lab.bad("POST", "workflows", &workflow(json!([node])), 400, message);
    }
    // Almost nothing inside a node is checked at save.
    lab.create(json!([{ "type": "no.such", "typeVersion": 99 }, {}]));
}

#[test]
fn a_new_workflow_gets_ids_and_settings() {
    let mut lab = Lab::new();
    let made = lab.good("POST", "workflows", &workflow(json!([{ "name": "A" }])));
    assert_eq!(text(&made, "id").len(), 16);
    assert_eq!((&made["active"], &made["activeVersionId"]), (&json!(false), &Value::Null));
    assert_eq!(made["settings"], json!({ "callerPolicy": "workflowsFromSameOwner", "availableInMCP": false }));
    assert_eq!(text(&made["nodes"][0], "id").len(), 36);
}

#[test]
fn settings_merge_and_some_can_be_removed() {
    let mut lab = Lab::new();
    let path = format!("workflows/{}", lab.create(json!([])));
    let mut body = workflow(json!([]));
    body["settings"] = json!({ "timezone": "Europe/Berlin", "executionTimeout": 10, "executionOrder": "v1" });
    lab.good("PUT", &path, &body);
    body["settings"] = json!({});
    assert_eq!(lab.good("PUT", &path, &body)["settings"]["timezone"], "Europe/Berlin");
    body["settings"] = json!({ "timezone": "DEFAULT", "executionTimeout": -1 });
    let left = lab.good("PUT", &path, &body)["settings"].clone();
    let kept = json!({ "callerPolicy": "workflowsFromSameOwner", "availableInMCP": false, "executionOrder": "v1" });
    assert_eq!(left, kept);
}

#[test]
fn a_version_is_new_only_if_nodes_or_connections_changed() {
    let mut lab = Lab::new();
    let made = lab.good("POST", "workflows", &workflow(json!([hook("a")])));
    let path = format!("workflows/{}", text(&made, "id"));
    let same = lab.good("PUT", &path, &workflow(json!([hook("a")])));
    assert_eq!(same["versionId"], made["versionId"]);
    assert_ne!((&same["updatedAt"], &same["versionCounter"]), (&made["updatedAt"], &made["versionCounter"]));
    let mut renamed = workflow(json!([hook("a")]));
    renamed["name"] = json!("other");
    renamed["settings"] = json!({ "timezone": "UTC" });
    assert_eq!(lab.good("PUT", &path, &renamed)["versionId"], made["versionId"]);
    let mut moved = hook("a");
    moved["position"] = json!([1, 1]);
    assert_ne!(lab.good("PUT", &path, &workflow(json!([moved])))["versionId"], made["versionId"]);
    let old = lab.bare("GET", &format!("{path}/{}", text(&made, "versionId"))).value();
    assert_eq!(old["nodes"][0]["position"], json!([0, 0]));
    assert_eq!(lab.bare("GET", &format!("{path}/nope")).value()["message"], "Version not found");
}

#[test]
fn static_data_stays_when_a_put_leaves_it_out() {
    let mut lab = Lab::new();
    let id = lab.create(json!([]));
    let path = format!("workflows/{id}");
    let mut body = workflow(json!([]));
    body["staticData"] = json!({ "lastId": 1 });
    lab.good("PUT", &path, &body);
    lab.good("PUT", &path, &workflow(json!([])));
    assert_eq!(lab.get(&id)["staticData"], json!({ "lastId": 1 }));
    body["staticData"] = json!("{\"a\":1}");
    lab.good("PUT", &path, &body);
    assert_eq!(lab.get(&id)["staticData"], json!({ "a": 1 }));
    body["staticData"] = json!("x");
    assert_eq!(lab.call("PUT", &path, &body).status, 400);
}

#[test]
fn numbers_pass_through_doubles_and_unknown_values_survive() {
    let sent: Value = serde_json::from_str(
        r#"[{"id":"n","parameters":{"n":12345678901234567890,"f":1.10,"x":null,"deep":{"y":[{}]}}}]"#,
    )
    .unwrap();
    let mut lab = Lab::new();
    let id = lab.create(sent.clone());
    assert_eq!(
        lab.get(&id)["nodes"].to_string(),
        r#"[{"id":"n","parameters":{"n":12345678901234567000,"f":1.1,"x":null,"deep":{"y":[{}]}}}]"#
    );
    lab.n8n.config.js_numbers = false;
    let id = lab.create(sent.clone());
    assert_eq!(lab.get(&id)["nodes"].to_string(), sent.to_string());
}

#[test]
fn list_items_lack_what_the_real_ones_lack() {
    let mut lab = Lab::new();
    let id = lab.create(json!([]));
    let item = lab.bare("GET", "workflows").value()["data"][0].clone();
    assert!(item.get("versionCounter").is_none() && item.get("description").is_none());
    assert_eq!(item["id"], id.as_str());
    assert_eq!(lab.bare("GET", "workflows?name=W").value()["data"].as_array().unwrap().len(), 1);
    assert_eq!(lab.bare("GET", "workflows?name=zz").value()["data"], json!([]));
    assert_eq!(lab.bare("GET", "workflows?active=true").value()["data"], json!([]));
    assert_eq!(lab.bare("DELETE", &format!("workflows/{id}")).status, 200);
    assert_eq!(lab.bare("GET", &format!("workflows/{id}")).status, 404);
}
