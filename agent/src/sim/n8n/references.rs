//! What n8n does to credential references when it saves a workflow.
//!
//! A copy of `replaceInvalidCredentials`: it works on enabled nodes only, resolves by id, else by a name that exactly
//! one credential of the type has. An absent id finds the first credential of the type, whatever its name; an absent name
//! finds the only one.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{answer::Answer, model::Credential};

/// Rewrites every reference that n8n would rewrite.
///
/// # Errors
/// 400 in the words of JavaScript for a reference that is null.
pub fn rewrite(credentials: &[Credential], nodes: &mut Value) -> Result<(), Answer> {
    let mut missing_names = BTreeMap::new();
    for node in nodes.as_array_mut().into_iter().flatten() {
        if node.get("disabled") == Some(&Value::Bool(true)) {
            continue;
        }
        let Some(block) = node.get_mut("credentials").and_then(Value::as_object_mut) else { continue };
        for (kind, reference) in block.iter_mut() {
            if reference.is_null() {
                return Err(Answer::message(400, "Cannot read properties of null (reading 'id')"));
            }
            let by_name_only = reference.is_string() || reference.get("id").is_some_and(Value::is_null);
            let name = if reference.is_string() { Some(reference.clone()) } else { reference.get("name").cloned() };
            let found = if by_name_only { None } else { by_id(credentials, kind, reference.get("id")) };
            match found.or_else(|| by_name(credentials, kind, name.as_ref())) {
                Some(credential) => *reference = json!({ "id": credential.id, "name": credential.name }),
                // The first miss stays as sent, later ones of the same name become an object without an id.
                None if by_name_only => {
                    let seen = missing_names.entry((kind.clone(), name.as_ref().map(Value::to_string)));
                    let mut again = true;
                    seen.or_insert_with(|| again = false);
                    if again {
                        *reference = json!({ "id": null, "name": name });
                    }
                }
                None => {}
            }
        }
    }
    Ok(())
}

fn by_id<'a>(credentials: &'a [Credential], kind: &str, id: Option<&Value>) -> Option<&'a Credential> {
    // Without an id the real query has no condition on it, and finds the first credential of the type.
    let fits = |credential: &&Credential| id.is_none_or(|id| id.as_str() == Some(credential.id.as_str()));
    credentials.iter().filter(|credential| credential.kind == kind).find(fits)
}

fn by_name<'a>(credentials: &'a [Credential], kind: &str, name: Option<&Value>) -> Option<&'a Credential> {
    let fits = |credential: &&Credential| name.is_none_or(|name| name.as_str() == Some(credential.name.as_str()));
    let mut found = credentials.iter().filter(|credential| credential.kind == kind).filter(fits);
    let first = found.next()?;
    found.next().is_none().then_some(first)
}
