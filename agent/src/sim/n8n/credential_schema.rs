//! The rules for a credential's data: the schemas of the real n8n 2.8.4, with the words of its checker.
//!
//! The schemas were read from `GET /api/v1/credentials/schema/{type}`; the checker is a small copy of npm's jsonschema:
//! an absent field matches both branches of an `if`, and nested errors are counted and listed after their parent.

use std::sync::LazyLock;

use serde_json::{Map, Value};

static SCHEMAS: LazyLock<Map<String, Value>> = LazyLock::new(|| {
    serde_json::from_str(include_str!("credential-schemas.json")).expect("the bundled credential schemas are an object")
});

/// The schema of a credential type, if the stand-in knows the type.
pub fn schema(kind: &str) -> Option<&'static Value> {
    SCHEMAS.get(kind)
}

/// All complaints about `data`, joined as n8n joins them.
pub fn check(schema: &Value, data: &Value) -> Result<(), String> {
    let errors = errors(schema, data);
    if errors.is_empty() {
        return Ok(());
    }
    Err(errors.iter().map(|error| format!("request.body.data {error}")).collect::<Vec<_>>().join(","))
}

fn errors(schema: &Value, data: &Value) -> Vec<String> {
    let Some(rules) = schema.as_object() else { return Vec::new() };
    rules.iter().flat_map(|(rule, argument)| one_rule(rules, rule, argument, data)).collect()
}

fn one_rule(rules: &Map<String, Value>, rule: &str, argument: &Value, data: &Value) -> Vec<String> {
    let fields = data.as_object();
    let known = rules.get("properties").and_then(Value::as_object);
    let arguments = argument.as_array().map(Vec::as_slice).unwrap_or_default();
    match rule {
        "additionalProperties" => fields
            .into_iter()
            .flat_map(Map::keys)
            .filter(|name| !known.is_some_and(|known| known.contains_key(*name)))
            .map(|name| format!("is not allowed to have the additional property \"{name}\""))
            .collect(),
        "type" if !has_type(argument, data) => {
            vec![format!("is not of a type(s) {}", argument.as_str().unwrap_or_default())]
        }
        "enum" if !arguments.contains(data) => {
            let allowed: Vec<_> = arguments.iter().map(text).collect();
            vec![format!("is not one of enum values: {}", allowed.join(","))]
        }
        "properties" => argument
            .as_object()
            .into_iter()
            .flatten()
            .filter_map(|(name, schema)| Some(errors(schema, fields?.get(name)?)))
            .flatten()
            .collect(),
        "required" => arguments
            .iter()
            .map(text)
            .filter(|name| !fields.is_some_and(|fields| fields.contains_key(name)))
            .map(|name| format!("requires property \"{name}\""))
            .collect(),
        "not" if errors(argument, data).is_empty() => vec!["is of prohibited type [object Object]".to_owned()],
        "allOf" => arguments.iter().enumerate().flat_map(|(at, schema)| nested(at, errors(schema, data))).collect(),
        "if" => {
            let branch = if errors(argument, data).is_empty() { "then" } else { "else" };
            rules.get(branch).map(|schema| errors(schema, data)).unwrap_or_default()
        }
        _ => Vec::new(),
    }
}

fn nested(at: usize, mut errors: Vec<String>) -> Vec<String> {
    if !errors.is_empty() {
        errors.insert(0, format!("does not match allOf schema [subschema {at}] with {} error[s]:", errors.len()));
    }
    errors
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned)
}

fn has_type(wanted: &Value, data: &Value) -> bool {
    match wanted.as_str() {
        Some("string") => data.is_string(),
        Some("number") => data.is_number(),
        Some("boolean") => data.is_boolean(),
        Some("object") => data.is_object(),
        // n8n's own words, "json" and "notice", are unknown to the checker and pass.
        _ => true,
    }
}
