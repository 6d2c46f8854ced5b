//! Template workflow + bindings + variables -> the tenant's workflow. Works on the JSON tree, never on text.
//!
//! What it changes: `nodes[].credentials.*.{id,name}` through the bindings, and `YOUR_*` tokens in string values.
//! Everything else passes through byte for value: versions, webhook ids, settings, pinned data, numbers of any size.
//! Anything that would be left unmapped is a [`Problem`], and with one problem nothing is mapped.

use std::collections::{BTreeMap, BTreeSet};

use genesis_shared::id::CredentialType;
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

#[cfg(test)]
#[path = "mapper_tests.rs"]
mod tests;
