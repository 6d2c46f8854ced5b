//! Template workflow + bindings + variables -> the tenant's workflow. Works on the JSON tree, never on text.
//!
//! What it changes: `nodes[].credentials.*.{id,name}` through the bindings, and `YOUR_*` tokens in string values.
//! Everything else passes through byte for value: versions, webhook ids, settings, pinned data, numbers of any size.
//! Anything that would be left unmapped is a [`Problem`], and with one problem nothing is mapped.

use std::collections::{BTreeMap, BTreeSet};

use genesis_shared::id::{CredentialType, WorkflowKey};
use serde_json::{Map, Value};

/// A credential of the tenant's n8n that a placeholder stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// n8n's id.
    pub n8n_id: String,
    /// n8n's display name.
    pub n8n_name: String,
    /// n8n's type.
    pub credential_type: CredentialType,
}

/// Why a template cannot be mapped, one entry per place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Problem {
    /// Not an n8n workflow at all.
    #[error("the workflow has no usable `{0}`")]
    NotAWorkflow(&'static str),
    /// A reference without an entry in the credential map.
    #[error("node {node:?}: credential {reference:?} ({slot}) has no entry in credential_map")]
    MissingBinding {
        /// The node's name.
        node: String,
        /// The credential type that the node asks for.
        slot: String,
        /// The id in the template.
        reference: String,
    },
    /// A credential of another type than the node asks for.
    #[error("node {node:?}: asks for a credential of type {slot}, {reference:?} is bound to one of type {actual}")]
    TypeMismatch {
        /// The node's name.
        node: String,
        /// The credential type that the node asks for.
        slot: String,
        /// The id in the template.
        reference: String,
        /// The type of the bound credential.
        actual: String,
    },
    /// A reference that is not `{"id": …, "name": …}`; n8n would guess what is meant.
    #[error("node {node:?}: the credential reference for {slot} is not an object with a text `id`")]
    MalformedReference {
        /// The node's name.
        node: String,
        /// The credential type that the node asks for.
        slot: String,
    },
    /// A `YOUR_*` token without a value, or a credential placeholder outside a credential reference.
    #[error("{place}: nothing is given for {token}")]
    UnknownPlaceholder {
        /// Where, as a path such as `nodes[2].parameters.url`.
        place: String,
        /// The token.
        token: String,
    },
    /// A value that would not stay data where it is put.
    #[error("{place}: the value of {token} would change the meaning of the {context} around it")]
    UnsafeValue {
        /// Where.
        place: String,
        /// The token.
        token: String,
        /// `expression` or `code`.
        context: &'static str,
    },
    /// A token in a node's name or in the connections, which refer to nodes by name.
    #[error("{place}: {token} may not stand here, for expressions and connections refer to nodes by name")]
    PlaceholderInName {
        /// Where.
        place: String,
        /// The token.
        token: String,
    },
    /// A name that is not `YOUR_` and capitals, digits, underscores.
    #[error("variable {0:?} is not named YOUR_… in capitals, digits and underscores")]
    BadVariableName(String),
}

/// What every variable's name begins with.
const VARIABLE_PREFIX: &str = "YOUR_";

/// Parameters that n8n runs as code, parses as JSON, or hands to a database as a statement.
const CODE_PARAMETERS: &[&str] = &[
    "jsCode",
    "pythonCode",
    "functionCode",
    "jsonSchema",
    "jsonBody",
    "jsonHeaders",
    "jsonQuery",
    "jsonOutput",
    "query",
];

/// Maps a template.
///
/// # Errors
/// All problems, sorted, each once.
pub fn map(
    template: &Value,
    bindings: &BTreeMap<String, Binding>,
    variables: &BTreeMap<String, String>,
) -> Result<Value, Vec<Problem>> {
    let mut mapper = Mapper { bindings, variables, problems: BTreeSet::new() };
    mapper
        .problems
        .extend(variables.keys().filter(|name| !is_variable(name)).map(|name| Problem::BadVariableName(name.clone())));
    let mapped = mapper.workflow(template);
    if mapper.problems.is_empty() { Ok(mapped) } else { Err(mapper.problems.into_iter().collect()) }
}

struct Mapper<'a> {
    bindings: &'a BTreeMap<String, Binding>,
    variables: &'a BTreeMap<String, String>,
    problems: BTreeSet<Problem>,
}

impl Mapper<'_> {
    fn workflow(&mut self, template: &Value) -> Value {
        let Some(object) = template.as_object() else {
            self.problems.insert(Problem::NotAWorkflow("object"));
            return Value::Null;
        };
        if !object.get("name").is_some_and(Value::is_string) {
            self.problems.insert(Problem::NotAWorkflow("name"));
        }
        if !object.get("connections").is_some_and(Value::is_object) {
            self.problems.insert(Problem::NotAWorkflow("connections"));
        }
        if !object.get("nodes").is_some_and(Value::is_array) {
            self.problems.insert(Problem::NotAWorkflow("nodes"));
        }
        let mut mapped = Map::new();
        for (key, value) in object {
            let value = match (key.as_str(), value.as_array()) {
                ("nodes", Some(nodes)) => {
                    let nodes = nodes.iter().enumerate();
                    nodes.map(|(n, node)| self.node(node, &format!("nodes[{n}]"))).collect()
                }
                ("connections", _) => {
                    self.no_token(&value.to_string(), key);
                    value.clone()
                }
                _ => self.value(value, key, false),
            };
            mapped.insert(key.clone(), value);
        }
        Value::Object(mapped)
    }

    fn node(&mut self, node: &Value, place: &str) -> Value {
        let Some(object) = node.as_object() else {
            self.problems.insert(Problem::NotAWorkflow("nodes[] object"));
            return Value::Null;
        };
        let name = object.get("name").and_then(Value::as_str).unwrap_or(place);
        let entries = object.iter().map(|(key, value)| {
            let value = match (key.as_str(), value) {
                ("credentials", Value::Object(slots)) => slots
                    .iter()
                    .map(|(slot, reference)| (slot.clone(), self.reference(name, slot, reference)))
                    .collect(),
                ("name", Value::String(text)) => {
                    self.no_token(text, &format!("{place}.name"));
                    value.clone()
                }
                _ => self.value(value, &format!("{place}.{key}"), false),
            };
            (key.clone(), value)
        });
        Value::Object(entries.collect())
    }

    fn no_token(&mut self, text: &str, place: &str) {
        if let Some((_, token, _)) = next_token(text) {
            self.problems.insert(Problem::PlaceholderInName { place: place.to_owned(), token: token.to_owned() });
        }
    }

    /// Maps one `credentials.<slot>`; keys beside `id` and `name` stay.
    fn reference(&mut self, node: &str, slot: &str, reference: &Value) -> Value {
        let id = reference.get("id").and_then(Value::as_str);
        let (Some(object), Some(id)) = (reference.as_object(), id) else {
            self.problems.insert(Problem::MalformedReference { node: node.into(), slot: slot.into() });
            return Value::Null;
        };
        let Some(binding) = self.bindings.get(id) else {
            let (node, slot, reference) = (node.into(), slot.into(), id.into());
            self.problems.insert(Problem::MissingBinding { node, slot, reference });
            return Value::Null;
        };
        if binding.credential_type.as_str() != slot {
            self.problems.insert(Problem::TypeMismatch {
                node: node.into(),
                slot: slot.into(),
                reference: id.into(),
                actual: binding.credential_type.to_string(),
            });
        }
        let mut mapped = object.clone();
        mapped.insert("id".into(), Value::String(binding.n8n_id.clone()));
        mapped.insert("name".into(), Value::String(binding.n8n_name.clone()));
        Value::Object(mapped)
    }

    fn value(&mut self, value: &Value, place: &str, code: bool) -> Value {
        match value {
            Value::String(text) => Value::String(self.text(text, place, code)),
            Value::Array(items) => {
                items.iter().enumerate().map(|(n, item)| self.value(item, &format!("{place}[{n}]"), code)).collect()
            }
            Value::Object(entries) => entries
                .iter()
                .map(|(key, value)| {
                    let code = code || CODE_PARAMETERS.contains(&key.as_str());
                    (key.clone(), self.value(value, &format!("{place}.{key}"), code))
                })
                .collect(),
            Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
        }
    }

    /// Replaces the tokens of one string in a single pass: what was inserted is never looked at again.
    fn text(&mut self, text: &str, place: &str, code: bool) -> String {
        let mut mapped = String::with_capacity(text.len());
        let expression = text.starts_with('=');
        let mut rest = text;
        while let Some((before, token, after)) = next_token(rest) {
            mapped.push_str(before);
            let at = text.len() - after.len();
            let context = if code {
                Some("code")
            } else if expression && inside_braces(&text[..at]) {
                Some("expression")
            } else {
                None
            };
            match self.variables.get(token) {
                Some(value) => {
                    if context.is_some_and(|_| !is_plain(value)) {
                        let (place, token) = (place.to_owned(), token.to_owned());
                        self.problems.insert(Problem::UnsafeValue { place, token, context: context.unwrap_or("code") });
                    }
                    mapped.push_str(value);
                }
                None => {
                    let (place, token) = (place.to_owned(), token.to_owned());
                    self.problems.insert(Problem::UnknownPlaceholder { place, token });
                }
            }
            rest = after;
        }
        mapped.push_str(rest);
        self.check_meaning(text, &mapped, place, expression);
        mapped
    }

    /// n8n runs a text that begins with `=` as an expression: a value must not turn a text into one, nor open new
    /// braces in an expression's literal part.
    fn check_meaning(&mut self, text: &str, mapped: &str, place: &str, expression: bool) {
        if mapped == text {
            return;
        }
        let became_expression = !expression && mapped.starts_with('=');
        let more_braces = expression && mapped.matches("{{").count() != text.matches("{{").count();
        if became_expression || more_braces {
            let token = next_token(text).map_or("", |(_, token, _)| token).to_owned();
            self.problems.insert(Problem::UnsafeValue { place: place.to_owned(), token, context: "expression" });
        }
    }
}

/// The first placeholder of a text: what stands before it, the placeholder, what stands after it.
///
/// A placeholder is as long as it can be, so `YOUR_LINK_10` is never `YOUR_LINK_1` and a zero. What stands before it
/// does not matter: in code it may well be the `n` of an escaped line break.
fn next_token(text: &str) -> Option<(&str, &str, &str)> {
    let mut from = 0;
    while let Some(found) = find_prefix(&text[from..]) {
        let start = from + found;
        let length = text[start..].bytes().take_while(|b| is_token_byte(*b)).count();
        let end = start + length;
        if is_placeholder(&text[start..end]) {
            return Some((&text[..start], &text[start..end], &text[end..]));
        }
        from = end.max(start + 1);
    }
    None
}

fn find_prefix(text: &str) -> Option<usize> {
    match (text.find(VARIABLE_PREFIX), text.find("TEMPLATE_")) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_'
}

fn is_variable(token: &str) -> bool {
    token.len() > VARIABLE_PREFIX.len() && token.starts_with(VARIABLE_PREFIX) && token.bytes().all(is_token_byte)
}

/// A variable, or the id of a credential placeholder, which nothing outside a credential reference can map.
fn is_placeholder(token: &str) -> bool {
    is_variable(token) || (token.starts_with("TEMPLATE_") && token.ends_with("_UUID"))
}

/// Whether the end of `before` lies within `{{ … }}`.
fn inside_braces(before: &str) -> bool {
    match (before.rfind("{{"), before.rfind("}}")) {
        (Some(open), Some(close)) => open > close,
        (open, _) => open.is_some(),
    }
}

/// Whether a value stays one piece of data within JavaScript or SQL: nothing that ends a literal or begins another.
fn is_plain(value: &str) -> bool {
    let special = |c: char| matches!(c, '"' | '\'' | '`' | '\\' | '{' | '}' | '$' | ';' | '\u{2028}' | '\u{2029}');
    !value.contains("--") && !value.contains("/*") && !value.chars().any(|c| special(c) || c.is_control())
}

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
#[path = "mapper_tests.rs"]
mod tests;
