//! The table of credential references: sent, stored.

use serde_json::{Value, json};

use super::{Lab, hook, workflow};

fn stored(lab: &mut Lab, sent: &Value) -> Value {
    let node = json!({
        "id": "n2", "name": "H", "type": "n8n-nodes-base.httpRequest", "typeVersion": 4.2, "position": [0, 0],
        "parameters": {}, "credentials": { "httpHeaderAuth": sent }
    });
    lab.good("POST", "workflows", &workflow(json!([hook("a"), node])))["nodes"][1]["credentials"]["httpHeaderAuth"]
        .clone()
}

#[test]
fn references_are_rewritten_as_on_the_real_n8n() {
    for other in [false, true] {
        let mut lab = Lab::new();
        let id = lab.credential("mine");
        if other {
            lab.credential("other");
        }
        let real = json!({ "id": id, "name": "mine" });
        let rewritten = [
            json!({ "id": id, "name": "x" }),
            json!({ "id": id }),
            json!({ "id": id, "name": "x", "foo": 1 }),
            json!({ "id": "nope", "name": "mine" }),
            json!({ "id": "", "name": "mine" }),
            json!({ "id": null, "name": "mine" }),
            json!({ "name": "mine" }),
            json!({ "name": "nope" }),
            json!("mine"),
            json!({}),
            json!([]),
        ];
        for sent in rewritten {
            assert_eq!(stored(&mut lab, &sent), real, "{sent}");
        }
        let kept = [
            json!({ "id": "nope", "name": "nope" }),
            json!({ "id": 123, "name": "nope" }),
            json!({ "id": null, "name": "nope" }),
            json!("nope"),
        ];
        for sent in kept {
            assert_eq!(stored(&mut lab, &sent), sent);
        }
        // An unknown id without a name finds the only credential there is, and stays if there are two.
        let unnamed = json!({ "id": "nope" });
        assert_eq!(stored(&mut lab, &unnamed), if other { unnamed } else { real });
    }
}

#[test]
fn an_ambiguous_name_resolves_to_nothing() {
    let mut lab = Lab::new();
    lab.credential("twin");
    lab.credential("twin");
    let sent = json!({ "id": "nope", "name": "twin" });
    assert_eq!(stored(&mut lab, &sent), sent);
}

#[test]
fn a_null_reference_is_refused_and_a_disabled_node_is_left_alone() {
    let mut lab = Lab::new();
    let id = lab.credential("mine");
    let mut node =
        json!({ "name": "H", "type": "n8n-nodes-base.httpRequest", "credentials": { "httpHeaderAuth": null } });
    let message = "Cannot read properties of null (reading 'id')";
    lab.bad("POST", "workflows", &workflow(json!([node])), 400, message);
    node["disabled"] = json!(true);
    node["credentials"]["httpHeaderAuth"] = json!({ "id": id, "name": "x" });
    let made = lab.good("POST", "workflows", &workflow(json!([node])));
    assert_eq!(made["nodes"][0]["credentials"]["httpHeaderAuth"]["name"], "x");
}

#[test]
fn a_reference_that_gets_rewritten_makes_a_new_version_at_every_put() {
    let mut lab = Lab::new();
    let id = lab.credential("mine");
    let with = |reference: Value| {
        workflow(json!([{ "id": "n", "name": "H", "type": "n8n-nodes-base.httpRequest",
            "credentials": { "httpHeaderAuth": reference } }]))
    };
    let by_name = with(json!({ "id": "nope", "name": "mine" }));
    let made = lab.good("POST", "workflows", &by_name);
    let path = format!("workflows/{}", made["id"].as_str().unwrap());
    let put = lab.good("PUT", &path, &by_name);
    assert_ne!(put["versionId"], made["versionId"]);
    let exact = lab.good("PUT", &path, &with(json!({ "id": id, "name": "mine" })));
    assert_eq!(exact["versionId"], put["versionId"]);
}
