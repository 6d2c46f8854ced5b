//! A workflow as n8n takes and holds it: the keys it accepts, the marker, webhook addresses, and what counts as equal.

use genesis_shared::id::WorkflowKey;
use serde_json::{Map, Value};

/// Top-level keys that n8n's public API accepts from a client (n8n facts, §2).
const BODY_KEYS: &[&str] = &["name", "nodes", "connections", "settings"];

/// Settings that n8n's public API accepts.
const SETTINGS_KEYS: &[&str] = &[
    "saveExecutionProgress",
    "saveManualExecutions",
    "saveDataErrorExecution",
    "saveDataSuccessExecution",
    "executionTimeout",
    "errorWorkflow",
    "timezone",
    "executionOrder",
    "callerPolicy",
    "callerIds",
    "timeSavedPerExecution",
    "availableInMCP",
];

/// Node keys that n8n's public API accepts.
const NODE_KEYS: &[&str] = &[
    "id",
    "name",
    "type",
    "typeVersion",
    "position",
    "parameters",
    "credentials",
    "webhookId",
    "disabled",
    "notes",
    "notesInFlow",
    "executeOnce",
    "alwaysOutputData",
    "retryOnFail",
    "maxTries",
    "waitBetweenTries",
    "continueOnFail",
    "onError",
];

/// What n8n's public API takes of a mapped workflow, and the paths of what it would refuse and is therefore left out
/// (an export of n8n's editor carries such keys).
pub fn request_body(mapped: &Value) -> (Value, Vec<String>) {
    let mut dropped = Vec::new();
    let mut body = Map::new();
    for (key, value) in mapped.as_object().into_iter().flatten() {
        if !BODY_KEYS.contains(&key.as_str()) {
            dropped.push(key.clone());
            continue;
        }
        let value = match key.as_str() {
            "settings" => keep(value, SETTINGS_KEYS, "settings", &mut dropped),
            "nodes" => {
                let nodes = value.as_array().into_iter().flatten().enumerate();
                nodes.map(|(n, node)| keep(node, NODE_KEYS, &format!("nodes[{n}]"), &mut dropped)).collect()
            }
            _ => value.clone(),
        };
        body.insert(key.clone(), value);
    }
    body.entry("settings").or_insert_with(|| Value::Object(Map::new()));
    (Value::Object(body), dropped)
}

fn keep(value: &Value, keys: &[&str], place: &str, dropped: &mut Vec<String>) -> Value {
    let Some(object) = value.as_object() else { return value.clone() };
    let mut kept = Map::new();
    for (key, value) in object {
        if keys.contains(&key.as_str()) {
            kept.insert(key.clone(), value.clone());
        } else {
            dropped.push(format!("{place}.{key}"));
        }
    }
    Value::Object(kept)
}

/// Where a managed workflow carries its key: static data goes in with the creation, is not shown in n8n's editor,
/// comes back in every list, and is kept by updates that do not mention it.
const MARKER: [&str; 2] = ["genesis", "key"];

/// The body of a creation: with the marker that tells, after a crash, that it took place.
pub fn with_marker(body: &Value, key: &WorkflowKey) -> Value {
    let mut body = body.clone();
    if let Some(object) = body.as_object_mut() {
        object.insert("staticData".into(), serde_json::json!({MARKER[0]: {MARKER[1]: key}}));
    }
    body
}

/// The managed key that a workflow of n8n carries, if it is ours.
pub fn marker_of(workflow: &Value) -> Option<WorkflowKey> {
    workflow.get("staticData")?.get(MARKER[0])?.get(MARKER[1])?.as_str()?.parse().ok()
}

/// A production webhook of a workflow and a method that it does not take: asking for it with that one shows whether n8n
/// knows it, and runs nothing (n8n answers "not registered for … requests").
pub fn webhook_probe(workflow: &Value) -> Option<(&'static str, String)> {
    let nodes = workflow.get("nodes").and_then(Value::as_array)?;
    let node = nodes.iter().find(|node| {
        let plain = node.pointer("/parameters/multipleMethods").is_none_or(|several| several == false);
        let path = node.pointer("/parameters/path").and_then(Value::as_str).unwrap_or_default();
        node.get("type").and_then(Value::as_str) == Some("n8n-nodes-base.webhook")
            && node.get("disabled").is_none_or(|disabled| disabled == false)
            && plain
            && !path.trim_matches('/').is_empty()
            && !path.starts_with('=')
            && !path.contains(':')
    })?;
    let path = node.pointer("/parameters/path").and_then(Value::as_str)?.trim_matches('/').to_owned();
    // n8n's own default is GET.
    let takes = node.pointer("/parameters/httpMethod").and_then(Value::as_str).unwrap_or("GET");
    Some((if takes == "GET" { "POST" } else { "GET" }, path))
}

/// The addresses of a workflow's webhooks that are known without running it (n8n facts, §4).
pub fn webhook_urls(workflow: &Value, base: &str) -> Vec<String> {
    let nodes = workflow.get("nodes").and_then(Value::as_array).into_iter().flatten();
    let webhooks = nodes.filter(|node| node.get("type").and_then(Value::as_str) == Some("n8n-nodes-base.webhook"));
    let url = |node: &Value| {
        let id = node.get("webhookId").and_then(Value::as_str);
        let path =
            node.get("parameters").and_then(|p| p.get("path")).and_then(Value::as_str).map(|p| p.trim_matches('/'));
        // Without a webhook id n8n makes up an address from its own ids.
        let path = match (path, id?) {
            (Some(path), _) if path.starts_with('=') => return None,
            (Some(path), id) if path.contains(':') => format!("{id}/{path}"),
            (Some(path), _) if !path.is_empty() => path.to_owned(),
            (_, id) => id.to_owned(),
        };
        Some(format!("{}/{path}", base.trim_end_matches('/')))
    };
    webhooks.filter_map(url).collect()
}

/// Whether n8n holds what `wanted` says: the same name, nodes and connections, and at least the same settings (n8n
/// adds some of its own, and an id to a node without one). Numbers count by value, as n8n's own JavaScript reads them.
pub fn holds(actual: &Value, wanted: &Value) -> bool {
    let same = |key: &str| match (actual.get(key), wanted.get(key)) {
        (Some(actual), Some(wanted)) => same_value(actual, wanted),
        (actual, wanted) => actual.is_none() && wanted.is_none(),
    };
    let same_nodes = || match (actual["nodes"].as_array(), wanted["nodes"].as_array()) {
        (Some(actual), Some(wanted)) => {
            actual.len() == wanted.len() && actual.iter().zip(wanted).all(|(a, w)| same_node(a, w))
        }
        _ => false,
    };
    let settings = wanted.get("settings").and_then(Value::as_object).into_iter().flatten();
    let mut settings = settings.map(|(key, value)| (actual.get("settings").and_then(|s| s.get(key)), value));
    same("name")
        && same_nodes()
        && same("connections")
        && settings.all(|(actual, wanted)| actual.is_some_and(|actual| same_value(actual, wanted)))
}

/// As [`holds`], whatever credentials the nodes refer to.
pub fn holds_but_for_credentials(actual: &Value, wanted: &Value) -> bool {
    let strip = |workflow: &Value| {
        let mut workflow = workflow.clone();
        for node in workflow.get_mut("nodes").and_then(Value::as_array_mut).into_iter().flatten() {
            if let Some(node) = node.as_object_mut() {
                node.shift_remove("credentials");
            }
        }
        workflow
    };
    holds(&strip(actual), &strip(wanted))
}

fn same_node(actual: &Value, wanted: &Value) -> bool {
    match (wanted.get("id"), actual.as_object()) {
        (None, Some(object)) if object.contains_key("id") => {
            let mut without = object.clone();
            without.shift_remove("id");
            same_value(&Value::Object(without), wanted)
        }
        _ => same_value(actual, wanted),
    }
}

/// Equality of JSON values with numbers compared by value and objects without regard to order.
pub fn same_value(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_value(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| same_value(a, b)))
        }
        (a, b) => a == b,
    }
}

/// Every credential reference of a workflow: node name, slot, id.
pub fn references(workflow: &Value) -> Vec<(String, String, String)> {
    let mut found = Vec::new();
    for node in workflow.get("nodes").and_then(Value::as_array).into_iter().flatten() {
        let name = node.get("name").and_then(Value::as_str).unwrap_or_default();
        for (slot, reference) in node.get("credentials").and_then(Value::as_object).into_iter().flatten() {
            let id = reference.get("id").and_then(Value::as_str).unwrap_or_default();
            found.push((name.to_owned(), slot.clone(), id.to_owned()));
        }
    }
    found.sort();
    found
}

#[cfg(test)]
#[path = "workflow_tests.rs"]
mod tests;
