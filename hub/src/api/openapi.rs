//! The OpenAPI document: the handlers' own descriptions, completed by what all routes have in common.
//!
//! Handlers say what is theirs. Added here, once for all: the errors that every route of a kind may answer, headers,
//! limits of numbers and forms of ids, and an example for each type ([`super::examples`]).

use std::sync::LazyLock;

use axum::body::Body;
use axum::http::HeaderValue;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};
use utoipa::OpenApi;

use super::{Described, ROUTES, examples};

/// JSON pointer of the type of every error.
const ERROR: &str = "#/components/schemas/ErrorBody";

static DOCUMENT: LazyLock<String> = LazyLock::new(|| document().to_string());

const DESCRIPTION: &str = "Queues signed bundles for droplets and stores what they answer.\n\n\
    Every error is a problem document (RFC 9457) with a stable `code`, and every answer carries `x-request-id`: the one \
    that came with the request, where it was 1 to 64 of A-Z a-z 0-9 . _ -, or a new one. Lists come in pages: give \
    `next_cursor` as `cursor` until it is absent. Each token has a measure of requests; `429` and `503` say in \
    `retry-after` when to go on. Fields may be added to any answer; ignore those that you do not know.";

/// What each group of routes is.
const TAGS: [(&str, &str); 8] = [
    ("agent", "What agents on droplets call, with the token that their handshake gave them."),
    ("droplets", "Registered droplets."),
    ("jobs", "Bundles, and the jobs that came of them: one per target."),
    ("rollouts", "Bundles that go to a fleet in waves."),
    ("events", "What happened that somebody may have to look at, and the audit chains."),
    ("trust", "The signed trust root."),
    ("fleet", "All droplets at a glance."),
    ("machines", "For monitors, generators, proxies."),
];

/// Forms of texts, by the name of the property or parameter.
const FORMS: [(&str, &str); 10] = [
    ("droplet_id", "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"),
    ("identity_key", "^[A-Za-z0-9_-]{43}$"),
    ("sealing_key", "^[A-Za-z0-9_-]{43}$"),
    ("recipient", "^[A-Za-z0-9_-]{43}$"),
    ("digest", "^sha256:[0-9a-f]{64}$"),
    ("hash", "^sha256:[0-9a-f]{64}$"),
    ("prev", "^sha256:[0-9a-f]{64}$"),
    ("cursor", "^[0-9]{1,18}$"),
    ("nonce", "^[A-Za-z0-9_-]{16,128}$"),
    ("label", "^[^=]+=.*$"),
];

/// Ids that are UUIDs wherever they stand.
const UUIDS: [&str; 5] = ["workspace_id", "job_id", "bundle_id", "lease_id", "rollout_id"];

/// The document.
pub fn document() -> Value {
    let mut document = serde_json::to_value(Described::openapi()).unwrap_or_default();
    document["info"] = json!({"title": "Genesis hub", "version": env!("CARGO_PKG_VERSION"),
        "description": DESCRIPTION, "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"}});
    document["tags"] = TAGS.iter().map(|(name, what)| json!({"name": name, "description": what})).collect();
    document["components"]["securitySchemes"] = json!({
        "api_token": {"type": "http", "scheme": "bearer",
            "description": "API token of an operator or dashboard, with scopes read, submit, enrol, admin"},
        "sidecar_token": {"type": "http", "scheme": "bearer", "description": "Token of a droplet, from its handshake"},
    });
    for route in ROUTES {
        complete(&mut document["paths"][route.path][route.method], route.name);
    }
    if let Some(schemas) = document["components"]["schemas"].as_object_mut() {
        for (name, schema) in schemas {
            refine(schema);
            if let Some(example) = examples::of(name) {
                schema["examples"] = json!([example]);
            }
        }
    }
    document
}

/// Adds to an operation what every one of its kind has.
fn complete(operation: &mut Value, name: &str) {
    operation["operationId"] = json!(name);
    let secured = operation["security"].as_array().is_some_and(|all| all.iter().any(|one| one != &json!({})));
    let takes_body = operation.get("requestBody").is_some();
    let takes_parameters = operation["parameters"].as_array().is_some_and(|all| !all.is_empty());
    let mut common = vec![
        ("500", "A bug; the hub's log has the details under the request's id."),
        ("503", "Nothing was done; try again after `retry-after` seconds."),
    ];
    if secured {
        common.push(("401", "unauthenticated: no good token"));
        common.push(("403", "scope_missing, wrong_plane: a good token that may not do this"));
        common.push(("429", "rate_limited: go on after `retry-after` seconds"));
    }
    if takes_body || takes_parameters {
        common.push(("400", "malformed: the message says what cannot be read"));
    }
    if takes_body {
        common.push(("408", "body_timeout"));
        common.push(("413", "too_large"));
        common.push(("415", "unsupported_media_type: send application/json"));
    }
    let responses = &mut operation["responses"];
    for (status, what) in common {
        if responses.get(status).is_none() {
            responses[status] = json!({"description": what});
        }
    }
    if let Some(responses) = responses.as_object_mut() {
        responses.iter_mut().for_each(|(status, response)| answer(status, response));
        responses.sort_keys();
    }
    // To look for what is not there would make it.
    for parameter in operation.get_mut("parameters").and_then(Value::as_array_mut).into_iter().flatten() {
        let name = parameter["name"].as_str().unwrap_or_default().to_owned();
        refine(&mut parameter["schema"]);
        form(&name, &mut parameter["schema"]);
    }
    if let Some(body) = operation.pointer_mut("/requestBody/content/application~1json") {
        exemplify(body);
    }
}

/// Completes one answer: errors are problem documents, and each answer has its headers.
fn answer(status: &str, response: &mut Value) {
    let text = |what: &str| json!({"description": what, "required": true, "schema": {"type": "string"}});
    let mut headers = Map::from_iter([("x-request-id".to_owned(), text("Finds the request in the hub's log"))]);
    if matches!(status, "429" | "503") {
        let what = "Seconds after which to try again";
        let header = json!({"description": what, "required": true, "schema": {"type": "integer", "minimum": 1}});
        headers.insert("retry-after".to_owned(), header);
    }
    if status == "401" {
        headers.insert("www-authenticate".to_owned(), text("Bearer"));
    }
    response["headers"] = Value::Object(headers);
    if status.starts_with(['4', '5']) {
        let mut media = json!({"schema": {"$ref": ERROR}});
        exemplify(&mut media);
        response["content"] = json!({"application/problem+json": media});
    } else if let Some(media) = response.pointer_mut("/content/application~1json") {
        exemplify(media);
    }
}

/// Gives a body the example of its type.
fn exemplify(media: &mut Value) {
    let name = media["schema"]["$ref"].as_str().and_then(|path| path.rsplit('/').next()).map(str::to_owned);
    let example = match name {
        Some(name) => examples::of(&name),
        None => examples::of("Signed"),
    };
    if let Some(example) = example {
        media["example"] = example;
    }
}

/// Bounds numbers and gives texts their form, all the way down.
fn refine(schema: &mut Value) {
    bound(schema);
    let Some(members) = schema.as_object_mut() else { return };
    for (name, member) in members {
        match member {
            Value::Object(properties) if name == "properties" => {
                for (name, property) in properties {
                    refine(property);
                    form(name, property);
                }
            }
            Value::Object(_) => refine(member),
            Value::Array(members) => members.iter_mut().for_each(refine),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
}

/// Says of an integer what fits into it.
fn bound(schema: &mut Value) {
    let is_integer = schema["type"] == "integer" || schema["type"] == json!(["integer", "null"]);
    if !is_integer || schema.get("maximum").is_some() {
        return;
    }
    let unsigned = schema["minimum"] == 0;
    let (format, maximum) = match (schema["format"].as_str(), unsigned) {
        (Some("int32"), true) => ("uint32", json!(u32::MAX)),
        (Some("int32"), false) => ("int32", json!(i32::MAX)),
        (_, true) => ("uint64", json!(u64::MAX)),
        (_, false) => ("int64", json!(i64::MAX)),
    };
    (schema["format"], schema["maximum"]) = (json!(format), maximum);
}

/// The form of a text, by its name, and the bound of a number that the hub keeps with a sign.
fn form(name: &str, schema: &mut Value) {
    if name == "seq" {
        schema["maximum"] = json!(i64::MAX);
    }
    if schema["type"] != "string" && schema["type"] != json!(["string", "null"]) {
        return;
    }
    if let Some((_, pattern)) = FORMS.iter().find(|(known, _)| *known == name)
        && schema.get("pattern").is_none()
    {
        schema["pattern"] = json!(pattern);
    }
    if UUIDS.contains(&name) {
        schema["format"] = json!("uuid");
    }
}

fn served() -> Response {
    let mut response = Body::from(DOCUMENT.as_str()).into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

/// This document.
#[utoipa::path(get, path = "/api/v1/openapi.json", tag = "machines", security(()),
    responses((status = 200, body = Object, description = "OpenAPI 3.1")))]
pub async fn show() -> Response {
    std::future::ready(served()).await
}

/// This document, where machines look for it.
#[utoipa::path(get, path = "/openapi.json", tag = "machines", security(()),
    responses((status = 200, body = Object, description = "OpenAPI 3.1")))]
pub async fn show_at_the_top() -> Response {
    std::future::ready(served()).await
}
