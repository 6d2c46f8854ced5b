//! Credentials over the public API: made, patched and deleted, never read back.

use serde_json::{Map, Value, json};

use super::{
    answer::{Answer, Outcome},
    credential_schema,
    model::{Credential, N8n},
    public::{Call, Page},
    seed::iso,
};

/// `GET /credentials`: newest first.
///
/// # Errors
/// 400 for a bad cursor.
pub fn list(n8n: &mut N8n, call: &Call) -> Outcome {
    let page = Page::of(call)?;
    let owner = n8n.owner.as_ref();
    let shared = owner.map(|owner| {
        let name = format!("{} {} <{}>", owner.first_name, owner.last_name, owner.email);
        (owner.project_id.clone(), name)
    });
    Ok(page.cut(n8n.credentials.iter().rev(), |credential| {
        let (created, updated) = (iso(credential.created_at), iso(credential.updated_at));
        let shared: Vec<_> = shared
            .iter()
            .map(|(id, name)| {
                json!({
                    "id": id, "name": name, "role": "credential:owner", "createdAt": created, "updatedAt": created
                })
            })
            .collect();
        json!({
            "id": credential.id, "name": credential.name, "type": credential.kind, "createdAt": created,
            "updatedAt": updated, "shared": shared
        })
    }))
}

fn text(body: &Value, name: &str) -> Option<String> {
    body.get(name).and_then(Value::as_str).map(ToOwned::to_owned)
}

fn check_data(kind: &str, data: &Value) -> Result<(), Answer> {
    let schema =
        credential_schema::schema(kind).ok_or_else(|| Answer::message(400, "req.body.type is not a known type"))?;
    credential_schema::check(schema, data).map_err(|complaint| Answer::message(400, complaint))
}

/// `POST /credentials`: unknown keys are echoed, the data is not.
///
/// # Errors
/// 400 for an unknown type or data that its schema refuses.
pub fn create(n8n: &mut N8n, call: &Call) -> Outcome {
    let (name, kind) = (text(&call.body, "name").unwrap_or_default(), text(&call.body, "type").unwrap_or_default());
    let data = call.body.get("data").cloned().unwrap_or_default();
    check_data(&kind, &data)?;
    let resolvable = call.body.get("isResolvable") == Some(&Value::Bool(true));
    let (id, now) = (n8n.seed.id(), n8n.seed.now_ms());
    let mut shown = call.body.as_object().cloned().unwrap_or_default();
    shown.shift_remove("data");
    shown.insert("id".to_owned(), json!(id));
    shown.insert("resolverId".to_owned(), Value::Null);
    shown.insert("updatedAt".to_owned(), iso(now));
    shown.insert("createdAt".to_owned(), iso(now));
    for flag in ["isManaged", "isGlobal", "isResolvable", "resolvableAllowFallback"] {
        shown.insert(flag.to_owned(), Value::Bool(flag == "isResolvable" && resolvable));
    }
    let data = data.as_object().cloned().unwrap_or_default();
    n8n.credentials.push(Credential { id, name, kind, data, resolvable, created_at: now, updated_at: now });
    Ok(Answer::ok(&Value::Object(shown)))
}

fn show(credential: &Credential, with_id: bool) -> Value {
    let mut shown = Map::new();
    shown.insert("updatedAt".to_owned(), iso(credential.updated_at));
    shown.insert("createdAt".to_owned(), iso(credential.created_at));
    if with_id {
        shown.insert("id".to_owned(), json!(credential.id));
    }
    shown.insert("name".to_owned(), json!(credential.name));
    shown.insert("type".to_owned(), json!(credential.kind));
    for flag in ["isManaged", "isGlobal", "isResolvable", "resolvableAllowFallback"] {
        shown.insert(flag.to_owned(), Value::Bool(flag == "isResolvable" && credential.resolvable));
    }
    shown.insert("resolverId".to_owned(), Value::Null);
    Value::Object(shown)
}

/// `PATCH /credentials/{id}`: `data` replaces all data, unless `isPartialData` is true.
///
/// # Errors
/// 404 for an unknown id, 403 for sharing, 400 for a type without data or data that the schema refuses.
pub fn update(n8n: &mut N8n, call: &Call) -> Outcome {
    let now = n8n.seed.now_ms();
    let credential = n8n
        .credentials
        .iter_mut()
        .find(|credential| credential.id == call.id(0))
        .ok_or_else(|| Answer::message(404, "Credential not found"))?;
    let body = &call.body;
    let kind = text(body, "type").unwrap_or_else(|| credential.kind.clone());
    if credential_schema::schema(&kind).is_none() {
        return Err(Answer::message(400, "req.body.type is not a known type"));
    }
    if body.get("isGlobal").is_some() {
        return Err(Answer::message(403, "You are not licensed for sharing credentials"));
    }
    let sent = body.get("data").and_then(Value::as_object);
    if kind != credential.kind && sent.is_none() {
        let message = "req.body.data is required when changing credential type. The existing data cannot be used with \
                       the new type.";
        return Err(Answer::message(400, message));
    }
    if let Some(sent) = sent {
        let mut data =
            if body.get("isPartialData") == Some(&Value::Bool(true)) { credential.data.clone() } else { Map::new() };
        data.extend(sent.clone());
        check_data(&kind, &Value::Object(data.clone()))?;
        credential.data = data;
    }
    credential.kind = kind;
    if let Some(resolvable) = body.get("isResolvable").and_then(Value::as_bool) {
        credential.resolvable = resolvable;
    }
    if let Some(name) = text(body, "name") {
        credential.name = name;
    }
    credential.updated_at = now;
    Ok(Answer::ok(&show(credential, true)))
}

/// `DELETE /credentials/{id}`: nobody asks whether a workflow uses it.
///
/// # Errors
/// 404 for an unknown id.
pub fn delete(n8n: &mut N8n, call: &Call) -> Outcome {
    let at = n8n.credentials.iter().position(|credential| credential.id == call.id(0));
    let at = at.ok_or_else(|| Answer::message(404, "Not Found"))?;
    Ok(Answer::ok(&show(&n8n.credentials.remove(at), false)))
}

/// `GET /credentials/schema/{type}`.
///
/// # Errors
/// 404 for an unknown type.
pub fn schema(_n8n: &mut N8n, call: &Call) -> Outcome {
    let schema = credential_schema::schema(call.id(0)).ok_or_else(|| Answer::message(404, "Not Found"))?;
    Ok(Answer::ok(schema))
}
