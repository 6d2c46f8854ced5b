//! Tags and which workflows carry them.

use serde_json::{Value, json};

use super::{
    answer::{Answer, Outcome},
    model::{N8n, Tag},
    public::{Call, Page},
    seed::iso,
};

/// A tag as it stands in answers.
pub fn show(tag: &Tag) -> Value {
    json!({ "updatedAt": iso(tag.created_at), "createdAt": iso(tag.created_at), "id": tag.id, "name": tag.name })
}

/// The tags of a workflow, as they stand in answers.
pub fn shown_of(n8n: &N8n, ids: &[String]) -> Value {
    ids.iter().filter_map(|id| n8n.tags.iter().find(|tag| tag.id == *id)).map(show).collect()
}

fn find(n8n: &N8n, id: &str) -> Result<usize, Answer> {
    n8n.tags.iter().position(|tag| tag.id == id).ok_or_else(|| Answer::message(404, "Not Found"))
}

fn free_name(n8n: &N8n, call: &Call) -> Result<String, Answer> {
    let name = call.body.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
    if n8n.tags.iter().any(|tag| tag.name == name) {
        return Err(Answer::message(409, "Tag already exists"));
    }
    Ok(name)
}

/// `GET /tags`.
///
/// # Errors
/// 400 for a bad cursor.
pub fn list(n8n: &mut N8n, call: &Call) -> Outcome {
    Ok(Page::of(call)?.cut(n8n.tags.iter(), show))
}

/// `POST /tags`, the one call that answers 201.
///
/// # Errors
/// 409 for a name that exists.
pub fn create(n8n: &mut N8n, call: &Call) -> Outcome {
    let name = free_name(n8n, call)?;
    let tag = Tag { id: n8n.seed.id(), name, created_at: n8n.seed.now_ms() };
    let at = iso(tag.created_at);
    let answer = Answer::json(201, &json!({ "name": tag.name, "id": tag.id, "updatedAt": at, "createdAt": at }));
    n8n.tags.push(tag);
    Ok(answer)
}

/// `GET /tags/{id}`.
///
/// # Errors
/// 404 for an unknown id.
pub fn get(n8n: &mut N8n, call: &Call) -> Outcome {
    Ok(Answer::ok(&show(&n8n.tags[find(n8n, call.id(0))?])))
}

/// `PUT /tags/{id}`.
///
/// # Errors
/// 404 for an unknown id, 409 for a name that exists.
pub fn rename(n8n: &mut N8n, call: &Call) -> Outcome {
    let at = find(n8n, call.id(0))?;
    let name = free_name(n8n, call)?;
    let now = iso(n8n.seed.now_ms());
    n8n.tags[at].name = name;
    Ok(Answer::ok(&json!({ "id": n8n.tags[at].id, "name": n8n.tags[at].name, "updatedAt": now })))
}

/// `DELETE /tags/{id}`.
///
/// # Errors
/// 404 for an unknown id.
pub fn delete(n8n: &mut N8n, call: &Call) -> Outcome {
    let tag = n8n.tags.remove(find(n8n, call.id(0))?);
    for workflow in &mut n8n.workflows {
        workflow.tags.retain(|id| *id != tag.id);
    }
    Ok(Answer::ok(&show(&tag)))
}

/// `GET /workflows/{id}/tags`.
///
/// # Errors
/// 404 for an unknown workflow.
pub fn of_workflow(n8n: &mut N8n, call: &Call) -> Outcome {
    let at = n8n.workflow_index(call.id(0))?;
    Ok(Answer::ok(&shown_of(n8n, &n8n.workflows[at].tags)))
}

/// `PUT /workflows/{id}/tags`: replaces them all.
///
/// # Errors
/// 404 for an unknown workflow or tag.
pub fn set_of_workflow(n8n: &mut N8n, call: &Call) -> Outcome {
    let at = n8n.workflow_index(call.id(0))?;
    let sent = call.body.as_array().map(Vec::as_slice).unwrap_or_default();
    let ids: Vec<String> =
        sent.iter().filter_map(|tag| tag.get("id").and_then(Value::as_str)).map(ToOwned::to_owned).collect();
    if ids.iter().any(|id| find(n8n, id).is_err()) {
        return Err(Answer::message(404, "Some tags not found"));
    }
    n8n.workflows[at].tags = ids;
    Ok(Answer::ok(&shown_of(n8n, &n8n.workflows[at].tags)))
}
