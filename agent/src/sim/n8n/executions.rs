//! The list of executions: the shape of the real one; tests put in what they need.

use serde_json::{Map, Value, json};

use super::{
    answer::{Answer, Outcome},
    model::{Execution, N8n},
    public::{Call, Page, cursor},
    seed::iso,
};

/// The states that the list may be filtered by; items may have others.
pub const FILTERS: [&str; 5] = ["canceled", "error", "running", "success", "waiting"];

fn show(execution: &Execution, id: Value, alone: bool) -> Value {
    let ended = !matches!(execution.status.as_str(), "running" | "waiting" | "new");
    let at = iso(execution.started_at);
    let mut shown = Map::new();
    let mut put = |name: &str, value: Value| shown.insert(name.to_owned(), value);
    put("id", id);
    put("finished", json!(execution.status == "success"));
    put("mode", json!(execution.mode));
    put("retryOf", Value::Null);
    put("retrySuccessId", Value::Null);
    put("status", json!(execution.status));
    if alone {
        put("createdAt", at.clone());
    }
    put("startedAt", at.clone());
    put("stoppedAt", if ended { at } else { Value::Null });
    if alone {
        put("deletedAt", Value::Null);
    }
    put("workflowId", json!(execution.workflow_id));
    put("waitTill", Value::Null);
    if alone {
        put("storedAt", json!("db"));
    }
    Value::Object(shown)
}

/// `GET /executions`: newest first; what runs now is left out unless asked for.
///
/// # Errors
/// 400 for a bad cursor.
pub fn list(n8n: &mut N8n, call: &Call) -> Outcome {
    let page = Page::of(call)?;
    let status = call.query("status");
    let fits = |execution: &&Execution| {
        status.map_or(execution.status != "running", |status| execution.status == status)
            && call.query("workflowId").is_none_or(|id| execution.workflow_id == id)
            && page.last_id.is_none_or(|last| execution.id < last)
    };
    let all: Vec<_> = n8n.executions.iter().rev().filter(fits).collect();
    let items: Vec<_> = all.iter().take(page.limit).map(|item| show(item, json!(item.id.to_string()), false)).collect();
    let last = all.get(page.limit.saturating_sub(1)).filter(|_| all.len() > page.limit);
    let next = last.map(|last| cursor(&json!({ "lastId": last.id.to_string(), "limit": page.limit })));
    Ok(Answer::ok(&json!({ "data": items, "nextCursor": next })))
}

fn find(n8n: &N8n, call: &Call) -> Result<usize, Answer> {
    let id: u64 = call.id(0).parse().map_err(|_| Answer::message(400, "request/params/id must be number"))?;
    let at = n8n.executions.iter().position(|execution| execution.id == id);
    at.ok_or_else(|| Answer::message(404, "Not Found"))
}

/// `GET /executions/{id}`.
///
/// # Errors
/// 400 if the id is no number, 404 if it is unknown.
pub fn get(n8n: &mut N8n, call: &Call) -> Outcome {
    let execution = &n8n.executions[find(n8n, call)?];
    Ok(Answer::ok(&show(execution, json!(execution.id.to_string()), true)))
}

/// `DELETE /executions/{id}`: the id in the answer is a number.
///
/// # Errors
/// As [`get`], and 400 for one that runs.
pub fn delete(n8n: &mut N8n, call: &Call) -> Outcome {
    let at = find(n8n, call)?;
    if n8n.executions[at].status == "running" {
        return Err(Answer::message(400, "Cannot delete a running execution"));
    }
    let execution = n8n.executions.remove(at);
    Ok(Answer::ok(&show(&execution, json!(execution.id), true)))
}
