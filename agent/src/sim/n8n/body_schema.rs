//! The rules for a request's body: the public API's OpenAPI schemas, with the words of its checker.
//!
//! Reduced from n8n 2.8.4's `openapi.yml`. Like ajv without `allErrors`, it stops at the first complaint: type, then
//! missing keys, then unknown keys, then each known key in the schema's order.

use std::sync::LazyLock;

use serde_json::{Map, Value};

static SCHEMAS: LazyLock<Map<String, Value>> = LazyLock::new(|| {
    serde_json::from_str(include_str!("body-schemas.json")).expect("the bundled body schemas are an object")
});

/// Checks a body against the schema of that name.
pub fn check(name: &str, body: &Value) -> Result<(), String> {
    SCHEMAS.get(name).map_or(Ok(()), |schema| check_at("request/body", schema, body))
}

fn check_at(path: &str, schema: &Value, value: &Value) -> Result<(), String> {
    let Some(rules) = schema.as_object() else { return Ok(()) };
    if rules.contains_key("anyOf") {
        return check_static_data(path, value);
    }
    let read_only = rules.get("readOnly") == Some(&Value::Bool(true));
    if read_only && value.is_null() {
        return Err(format!("{path} must pass \"readOnly\" keyword validation"));
    }
    check_type(path, rules, value)?;
    if read_only {
        return Err(format!("{path} is read-only"));
    }
    if let Some(allowed) = rules.get("enum").and_then(Value::as_array)
        && !allowed.contains(value)
    {
        let allowed: Vec<_> = allowed.iter().filter_map(Value::as_str).collect();
        return Err(format!("{path} must be equal to one of the allowed values: {}", allowed.join(", ")));
    }
    if let (Some(items), Some(values)) = (rules.get("items"), value.as_array()) {
        for (at, item) in values.iter().enumerate() {
            check_at(&format!("{path}/{at}"), items, item)?;
        }
    }
    value.as_object().map_or(Ok(()), |fields| check_fields(path, rules, fields))
}

fn check_type(path: &str, rules: &Map<String, Value>, value: &Value) -> Result<(), String> {
    let Some(wanted) = rules.get("type").and_then(Value::as_str) else { return Ok(()) };
    let fits = match wanted {
        "string" => value.is_string(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => true,
    };
    if fits { Ok(()) } else { Err(format!("{path} must be {wanted}")) }
}

fn check_fields(path: &str, rules: &Map<String, Value>, fields: &Map<String, Value>) -> Result<(), String> {
    let required = rules.get("required").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if let Some(missing) = required.iter().filter_map(Value::as_str).find(|name| !fields.contains_key(*name)) {
        return Err(format!("{path} must have required property '{missing}'"));
    }
    let empty = Map::new();
    let known = rules.get("properties").and_then(Value::as_object).unwrap_or(&empty);
    let closed = rules.get("additionalProperties") == Some(&Value::Bool(false));
    if closed && fields.keys().any(|name| !known.contains_key(name)) {
        return Err(format!("{path} must NOT have additional properties"));
    }
    for (name, schema) in known {
        if let Some(value) = fields.get(name) {
            check_at(&format!("{path}/{name}"), schema, value)?;
        }
    }
    Ok(())
}

/// The only `anyOf` there is: an object, null, or a string that holds JSON.
fn check_static_data(path: &str, value: &Value) -> Result<(), String> {
    let first = match value.as_str() {
        Some(text) if serde_json::from_str::<Value>(text).is_ok() => return Ok(()),
        Some(_) => format!("{path} must match format \"jsonString\""),
        None if value.is_object() || value.is_null() => return Ok(()),
        None => format!("{path} must be string"),
    };
    Err(format!("{first}, {path} must be object, {path} must match a schema in anyOf"))
}
