//! Publishing, its checks, and what a failure leaves behind.

use serde_json::{Value, json};

use super::{Lab, hook, node, text, workflow};

const NO_TRIGGER: &str = "Workflow cannot be activated because it has no trigger node. At least one trigger, webhook, \
                          or polling node is required.";

fn missing(name: &str, credential: &str) -> String {
    format!(
        "Cannot publish workflow: 1 node have configuration issues:\n\nNode \"{name}\":\n  - Missing required \
         credential: {credential}"
    )
}

#[test]
fn activation_is_refused_for_the_real_reasons() {
    let mut disabled = hook("d");
    disabled["disabled"] = json!(true);
    let mut cron = node("n8n-nodes-base.scheduleTrigger");
    cron["parameters"] = json!({ "rule": { "interval": [{ "field": "cronExpression", "expression": "bogus" }] } });
    let mut header = hook("h");
    header["parameters"]["authentication"] = json!("headerAuth");
    let rows = [
        (json!([]), NO_TRIGGER.to_owned()),
        (json!([node("n8n-nodes-base.manualTrigger")]), NO_TRIGGER.to_owned()),
        (json!([disabled]), NO_TRIGGER.to_owned()),
        (json!([hook("a"), node("n8n-nodes-base.bogus")]), "Unrecognized node type: n8n-nodes-base.bogus".to_owned()),
        (
            json!([hook("a"), node("n8n-nodes-base.executeCommand")]),
            "Unrecognized node type: n8n-nodes-base.executeCommand".to_owned(),
        ),
        (json!([hook("a"), { "name": "x" }]), "Cannot read properties of undefined (reading 'endsWith')".to_owned()),
        (json!([hook("a"), node("n8n-nodes-base.gmail")]), missing("T", "gmailOAuth2")),
        (json!([node("n8n-nodes-base.gmailTrigger")]), missing("T", "gmailOAuth2")),
        (json!([header]), missing("Webhook", "httpHeaderAuth")),
        (json!([cron]), "There was a problem activating the workflow: \"Invalid cron expression\"".to_owned()),
        (json!([hook("a"), hook("a")]), "There is a conflict with one of the webhooks.".to_owned()),
    ];
    for (nodes, message) in rows {
        let mut lab = Lab::new();
        let id = lab.create(nodes);
        lab.bad("POST", &format!("workflows/{id}/activate"), &json!({}), 400, &message);
        assert_eq!(lab.get(&id)["active"], false);
    }
}

#[test]
fn nodes_that_need_a_credential_need_it_only_when_connected() {
    let rows = [
        ("n8n-nodes-base.googleSheets", "googleSheetsOAuth2Api"),
        ("@n8n/n8n-nodes-langchain.lmChatOpenAi", "openAiApi"),
        ("@n8n/n8n-nodes-langchain.lmChatAnthropic", "anthropicApi"),
        ("n8n-nodes-base.supabase", "supabaseApi"),
        ("n8n-nodes-base.postgres", "postgres"),
    ];
    for (kind, credential) in rows {
        let mut lab = Lab::new();
        let mut body = workflow(json!([hook("a"), node(kind)]));
        let id = text(&lab.good("POST", "workflows", &body), "id");
        lab.good("POST", &format!("workflows/{id}/activate"), &json!({}));
        lab.good("POST", &format!("workflows/{id}/deactivate"), &json!({}));
        body["connections"] = json!({ "Webhook": { "main": [[{ "node": "T", "type": "main", "index": 0 }]] } });
        lab.good("PUT", &format!("workflows/{id}"), &body);
        lab.bad("POST", &format!("workflows/{id}/activate"), &json!({}), 400, &missing("T", credential));
        // Whether the id exists is not checked.
        body["nodes"][1]["credentials"] = json!({ credential: { "id": "doesNotExist", "name": "x" } });
        lab.good("PUT", &format!("workflows/{id}"), &body);
        lab.good("POST", &format!("workflows/{id}/activate"), &json!({}));
    }
}

#[test]
fn publishing_pins_rolls_back_and_unpins() {
    let mut lab = Lab::new();
    let made = lab.good("POST", "workflows", &workflow(json!([hook("a")])));
    let (id, first) = (text(&made, "id"), text(&made, "versionId"));
    let (path, activate) = (format!("workflows/{id}"), format!("workflows/{id}/activate"));
    let published = lab.bare("POST", &activate).value();
    assert_eq!((&published["active"], text(&published, "activeVersionId")), (&json!(true), first.clone()));
    let put = lab.good("PUT", &path, &workflow(json!([hook("b")])));
    assert_eq!(put["activeVersionId"], put["versionId"]);
    assert_eq!((lab.webhook("POST", "a").status, lab.webhook("POST", "b").status), (404, 200));
    let pinned = lab.good("POST", &activate, &json!({ "versionId": first }));
    assert_eq!((text(&pinned, "activeVersionId"), &pinned["versionId"]), (first, &put["versionId"]));
    assert_eq!((lab.webhook("POST", "a").status, lab.webhook("POST", "b").status), (200, 404));
    let same = lab.good("PUT", &path, &workflow(json!([hook("b")])));
    assert_eq!(same["activeVersionId"], put["versionId"]);
    lab.bad("POST", &activate, &json!({ "versionId": "nope" }), 404, "Not Found");
    lab.good("POST", &format!("{path}/deactivate"), &json!({}));
    assert_eq!(lab.bare("POST", &format!("{path}/deactivate")).value()["activeVersionId"], Value::Null);
    assert_eq!(lab.webhook("POST", "b").status, 404);
}

#[test]
fn a_failing_put_on_an_active_workflow_is_stored_and_live_until_repaired() {
    let rows = [
        (json!([hook("a"), node("n8n-nodes-base.bogus")]), "Unrecognized node type: n8n-nodes-base.bogus"),
        (json!([]), "Cannot read properties of null (reading 'disabled')"),
    ];
    for (nodes, message) in rows {
        let mut lab = Lab::new();
        let made = lab.good("POST", "workflows", &workflow(json!([hook("a")])));
        let (id, first) = (text(&made, "id"), text(&made, "versionId"));
        lab.bare("POST", &format!("workflows/{id}/activate"));
        assert_eq!(lab.call("PUT", &format!("workflows/{id}"), &workflow(nodes)).status, 400);
        let after = lab.get(&id);
        assert_eq!(after["active"], true);
        assert_ne!(text(&after, "activeVersionId"), first);
        let answer = lab.webhook("POST", "a");
        assert_eq!((answer.status, answer.value()["message"].as_str()), (500, Some(message)));
        lab.good("POST", &format!("workflows/{id}/activate"), &json!({ "versionId": first }));
        assert_eq!(lab.webhook("POST", "a").status, 200);
        assert_ne!(text(&lab.get(&id), "versionId"), first);
    }
}

#[test]
fn a_webhook_path_belongs_to_one_active_workflow() {
    let mut lab = Lab::new();
    let (one, two) = (lab.create(json!([hook("a")])), lab.create(json!([hook("/a/")])));
    lab.bare("POST", &format!("workflows/{one}/activate"));
    let conflict = "There is a conflict with one of the webhooks.";
    lab.bad("POST", &format!("workflows/{two}/activate"), &json!({}), 400, conflict);
    assert_eq!(lab.get(&two)["active"], false);
    assert_eq!(lab.bare("DELETE", &format!("workflows/{one}")).status, 200);
    lab.good("POST", &format!("workflows/{two}/activate"), &json!({}));
}

#[test]
fn webhooks_answer_as_the_real_ones() {
    let mut lab = Lab::new();
    let unknown = lab.webhook("POST", "__x/y");
    assert_eq!(unknown.value()["message"], "The requested webhook \"POST __x/y\" is not registered.");
    assert_eq!((unknown.status, unknown.content_type), (404, Some("application/json; charset=utf-8")));
    let mut responding = hook("r");
    responding["parameters"]["responseMode"] = json!("responseNode");
    let mut dynamic = hook(":id/x");
    (dynamic["webhookId"], dynamic["name"]) = (json!("dyn"), json!("D"));
    let mut bare = hook("bare");
    bare["name"] = json!("My Hook");
    bare.as_object_mut().unwrap().shift_remove("webhookId");
    let mut multi = hook("m");
    (multi["name"], multi["parameters"]["httpMethod"]) = (json!("M"), json!(["GET", "PUT"]));
    let id = lab.create(json!([hook("a"), dynamic, bare, multi]));
    lab.good("POST", &format!("workflows/{id}/activate"), &json!({}));
    assert_eq!(lab.webhook("POST", "a").value(), json!({ "message": "Workflow was started" }));
    let other = "This webhook is not registered for GET requests. Did you mean to make a POST request?";
    assert_eq!(lab.webhook("GET", "a").value()["message"], other);
    assert_eq!(lab.webhook("POST", "dyn/5/x").status, 200);
    assert_eq!(lab.webhook("POST", &format!("{id}/my%2520hook/bare")).status, 200);
    let others = "This webhook is not registered for POST requests. Did you mean to make a GET or PUT request?";
    assert_eq!(lab.webhook("POST", "m").value()["message"], others);
    responding["name"] = json!("R");
    let nodes = json!([responding, node("n8n-nodes-base.respondToWebhook")]);
    lab.good("PUT", &format!("workflows/{id}"), &workflow(nodes.clone()));
    assert_eq!(lab.webhook("POST", "r").value(), json!({ "stand_in": true }));
    let mut nodes = nodes;
    nodes[1]["credentials"] = json!({ "httpHeaderAuth": { "id": "nope", "name": "nope" } });
    lab.good("PUT", &format!("workflows/{id}"), &workflow(nodes));
    let failed = lab.webhook("POST", "r");
    assert_eq!((failed.status, failed.body.len()), (200, 0));
    assert_eq!(lab.bare("GET", "executions?status=error").value()["data"].as_array().unwrap().len(), 1);
}

#[test]
fn a_schedule_writes_static_data_when_it_starts() {
    let mut lab = Lab::new();
    let id = lab.create(json!([node("n8n-nodes-base.scheduleTrigger")]));
    lab.good("POST", &format!("workflows/{id}/activate"), &json!({}));
    assert_eq!(lab.get(&id)["staticData"], json!({ "node:T": { "recurrenceRules": [] } }));
}
