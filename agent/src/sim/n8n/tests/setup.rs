//! Owner, login and keys.

use serde_json::json;

use super::super::{Config, N8n, Request};
use super::{Lab, key, owner};

fn fresh() -> N8n {
    N8n::new(Config::default(), 1)
}

#[test]
fn settings_tell_whether_an_owner_exists() {
    let mut n8n = fresh();
    let get = Request::new("GET", "/rest/settings");
    assert_eq!(n8n.handle(&get).value()["data"]["userManagement"]["showSetupOnFirstLoad"], true);
    let mut lab = Lab::new();
    let short = lab.n8n.handle(&get).value();
    assert_eq!(short["data"]["userManagement"]["showSetupOnFirstLoad"], false);
    assert!(short["data"].get("versionCli").is_none());
    let long = lab.rest("GET", "/rest/settings", &json!({})).value();
    assert_eq!(long["data"]["versionCli"], "stand-in");
    assert_eq!(long["data"]["urlBaseWebhook"], "http://localhost:5678/");
}

#[test]
fn an_owner_is_set_up_once() {
    let mut lab = Lab::new();
    let again = lab.n8n.handle(&Request::new("POST", "/rest/owner/setup").json(&owner()));
    assert_eq!(again.status, 400);
    assert_eq!(again.value(), json!({ "code": 400, "message": "Instance owner already setup" }));
}

#[test]
fn a_bad_owner_is_refused_in_the_words_of_the_form_checker() {
    let mut n8n = fresh();
    let rows = [
        ("lastName", None, "Required"),
        ("email", Some("a"), "Invalid email"),
        ("password", Some("a"), "Password must be 8 to 64 characters long."),
        ("password", Some("Genesissss"), "Password must contain at least 1 number."),
        ("password", Some("genesis123"), "Password must contain at least 1 uppercase letter."),
    ];
    for (field, value, message) in rows {
        let mut body = owner();
        match value {
            Some(value) => body[field] = json!(value),
            None => drop(body.as_object_mut().unwrap().shift_remove(field)),
        }
        let answer = n8n.handle(&Request::new("POST", "/rest/owner/setup").json(&body));
        assert_eq!((answer.status, answer.value()["message"].as_str()), (400, Some(message)));
    }
    assert!(n8n.owner.is_none());
}

#[test]
fn the_sixth_login_within_a_minute_is_one_too_many() {
    let mut lab = Lab::new();
    let login = |password: &str| {
        Request::new("POST", "/rest/login")
            .json(&json!({ "emailOrLdapLoginId": "o@example.com", "password": password }))
    };
    assert!(lab.n8n.handle(&login("Genesis123")).set_cookie.unwrap().starts_with("n8n-auth=eyJ"));
    for _ in 0..4 {
        assert_eq!(lab.n8n.handle(&login("x")).status, 401);
    }
    let limited = lab.n8n.handle(&login("Genesis123"));
    assert_eq!((limited.status, limited.content_type), (429, Some("text/html; charset=utf-8")));
    lab.n8n.seed.advance(60_000);
    assert_eq!(lab.n8n.handle(&login("Genesis123")).status, 200);
    let wrong_field = Request::new("POST", "/rest/login").json(&json!({ "email": "o@example.com", "password": "x" }));
    assert_eq!(lab.n8n.handle(&wrong_field).status, 400);
}

#[test]
fn a_key_is_shown_once_and_its_label_is_unique() {
    let mut lab = Lab::new();
    let again = lab.rest("POST", "/rest/api-keys", &key("agent"));
    assert_eq!(again.status, 500);
    assert_eq!(again.value(), json!({ "code": 0, "message": "There is already an entry with this name" }));
    let list = lab.rest("GET", "/rest/api-keys", &json!({})).value();
    assert!(list["data"][0].get("rawApiKey").is_none());
    let id = list["data"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(lab.bare("GET", "workflows").status, 200);
    lab.rest("DELETE", &format!("/rest/api-keys/{id}"), &json!({}));
    assert_eq!(lab.bare("GET", "workflows").value()["message"], "unauthorized");
    assert_eq!(lab.rest("DELETE", "/rest/api-keys/unknown", &json!({})).status, 200);
    assert_eq!(lab.rest("POST", "/rest/api-keys", &key("agent")).status, 200);
}

#[test]
fn a_key_expires() {
    let mut lab = Lab::new();
    let soon = lab.n8n.seed.now_ms() / 1000 + 2;
    let body = json!({ "label": "b", "scopes": ["a:b"], "expiresAt": soon });
    let key = lab.rest("POST", "/rest/api-keys", &body).value();
    lab.key = key["data"]["rawApiKey"].as_str().unwrap().to_owned();
    assert_eq!(lab.bare("GET", "workflows").status, 200);
    lab.n8n.seed.advance(2_000);
    assert_eq!(lab.bare("GET", "workflows").status, 401);
}

#[test]
fn the_internal_api_wants_the_cookie() {
    let mut lab = Lab::new();
    lab.cookie = String::new();
    let answer = lab.rest("GET", "/rest/credentials", &json!({}));
    assert_eq!(answer.status, 401);
    assert_eq!(answer.value(), json!({ "status": "error", "message": "Unauthorized" }));
}
