//! Data that each credential type takes and refuses.

use serde_json::{Value, json};

use super::Lab;

fn oauth() -> Value {
    json!({
        "clientId": "i", "clientSecret": "s", "serverUrl": "", "sendAdditionalBodyProperties": false,
        "additionalBodyProperties": ""
    })
}

fn passing() -> Vec<(&'static str, Value)> {
    vec![
        ("gmailOAuth2", oauth()),
        ("googleSheetsOAuth2Api", oauth()),
        ("openAiApi", json!({ "apiKey": "sk", "header": false })),
        ("openAiApi", json!({ "apiKey": "sk", "header": false, "url": "u", "organizationId": "o" })),
        ("anthropicApi", json!({ "apiKey": "sk", "header": false })),
        ("supabaseApi", json!({ "host": "https://x.supabase.co", "serviceRole": "k" })),
        ("supabaseApi", json!({})),
        ("smtp", json!({ "host": "h", "port": 587, "user": "u", "password": "p", "secure": true })),
        ("smtp", json!({ "host": "h", "port": 587, "secure": false, "disableStartTls": false })),
        ("httpHeaderAuth", json!({ "name": "X-A", "value": "s" })),
        ("httpHeaderAuth", json!({})),
        ("postgres", json!({ "host": "h", "port": 5432, "ssl": "disable", "sshTunnel": false })),
        ("postgres", json!({ "host": "h", "port": 5432, "allowUnauthorizedCerts": true, "sshTunnel": false })),
    ]
}

#[test]
fn data_that_passes_in_the_real_n8n_passes_and_is_never_shown() {
    let mut lab = Lab::new();
    for (kind, data) in passing() {
        let answer = lab.good("POST", "credentials", &json!({ "name": "n", "type": kind, "data": data }));
        assert!(answer.get("data").is_none());
        assert_eq!(answer["id"].as_str().unwrap().len(), 16);
    }
    let mut data = oauth();
    data["oauthTokenData"] = json!({ "access_token": "a" });
    lab.good("POST", "credentials", &json!({ "name": "n", "type": "gmailOAuth2", "data": data }));
    let list = lab.bare("GET", "credentials").value();
    assert!(list["data"].as_array().unwrap().iter().all(|item| item.get("data").is_none()));
}

#[test]
fn every_demanded_field_is_demanded() {
    let mut lab = Lab::new();
    let demanded = [
        ("gmailOAuth2", oauth(), vec!["clientId", "clientSecret", "serverUrl", "sendAdditionalBodyProperties"]),
        ("openAiApi", json!({ "apiKey": "sk", "header": false }), vec!["apiKey", "header"]),
        ("smtp", json!({ "secure": true }), vec!["secure"]),
        ("postgres", json!({ "ssl": "disable", "sshTunnel": false }), vec!["ssl", "sshTunnel"]),
    ];
    for (kind, data, fields) in demanded {
        for field in fields {
            let mut data = data.clone();
            data.as_object_mut().unwrap().shift_remove(field);
            let answer = lab.call("POST", "credentials", &json!({ "name": "n", "type": kind, "data": data }));
            assert_eq!(answer.status, 400, "{kind} without {field}");
        }
    }
}

#[test]
fn refusals_have_the_real_words() {
    let mut lab = Lab::new();
    let nested = "request.body.data does not match allOf schema [subschema 0] with 2 error[s]:,request.body.data does \
                  not match allOf schema [subschema 0] with 1 error[s]:,request.body.data ";
    let rows = [
        ("openAiApi", json!({ "header": false }), "request.body.data requires property \"apiKey\"".to_owned()),
        (
            "httpHeaderAuth",
            json!({ "bogus": 1 }),
            "request.body.data is not allowed to have the additional property \"bogus\"".to_owned(),
        ),
        ("httpHeaderAuth", json!({ "name": 1 }), "request.body.data is not of a type(s) string".to_owned()),
        ("smtp", json!({ "port": "x", "secure": true }), "request.body.data is not of a type(s) number".to_owned()),
        ("smtp", json!({ "secure": false }), format!("{nested}requires property \"disableStartTls\"")),
        (
            "smtp",
            json!({ "secure": true, "disableStartTls": false }),
            format!("{nested}is of prohibited type [object Object]"),
        ),
        (
            "postgres",
            json!({ "ssl": "bogus", "sshTunnel": false }),
            "request.body.data is not one of enum values: allow,disable,require".to_owned(),
        ),
        ("bogusApi", json!({}), "req.body.type is not a known type".to_owned()),
    ];
    for (kind, data, message) in rows {
        lab.bad("POST", "credentials", &json!({ "name": "n", "type": kind, "data": data }), 400, &message);
    }
    let with_id = json!({ "id": "x", "name": "n", "type": "smtp", "data": {} });
    lab.bad("POST", "credentials", &with_id, 400, "request/body/id is read-only");
    for field in ["grantType", "useDynamicClientRegistration", "scope"] {
        let mut data = oauth();
        data[field] = json!("x");
        let answer = lab.call("POST", "credentials", &json!({ "name": "n", "type": "gmailOAuth2", "data": data }));
        assert_eq!(answer.status, 400, "{field} is forbidden");
    }
}

#[test]
fn a_patch_replaces_all_data_unless_it_says_partial() {
    let mut lab = Lab::new();
    let id = lab.credential("n");
    let path = format!("credentials/{id}");
    lab.good("PATCH", &path, &json!({ "data": { "name": "X", "value": "1" } }));
    lab.good("PATCH", &path, &json!({ "data": { "value": "2" }, "isPartialData": true }));
    assert_eq!(Value::Object(lab.n8n.credentials[0].data.clone()), json!({ "name": "X", "value": "2" }));
    lab.good("PATCH", &path, &json!({ "data": { "value": "3" }, "name": "m" }));
    assert_eq!(Value::Object(lab.n8n.credentials[0].data.clone()), json!({ "value": "3" }));
    assert_eq!(lab.n8n.credentials[0].name, "m");
    lab.good("PATCH", &path, &json!({}));
    let without_data = "req.body.data is required when changing credential type. The existing data cannot be used with \
                        the new type.";
    lab.bad("PATCH", &path, &json!({ "type": "smtp" }), 400, without_data);
    lab.bad("PATCH", &path, &json!({ "isGlobal": true }), 403, "You are not licensed for sharing credentials");
    lab.bad("PATCH", "credentials/unknown", &json!({ "name": "a" }), 404, "Credential not found");
}

#[test]
fn a_credential_in_use_can_be_deleted() {
    let mut lab = Lab::new();
    let id = lab.credential("n");
    assert_eq!(lab.bare("GET", &format!("credentials/{id}")).status, 405);
    assert_eq!(lab.bare("DELETE", &format!("credentials/{id}")).value()["name"], "n");
    assert_eq!(lab.bare("DELETE", &format!("credentials/{id}")).status, 404);
}
