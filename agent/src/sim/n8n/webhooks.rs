//! The production webhooks: which workflow answers, and what.

use serde_json::{Value, json};

use super::{
    answer::{Answer, Request, percent_decode},
    model::{N8n, Webhook, Workflow},
    publish::{check_types, enabled, webhooks_of},
};

const HINT: &str = "The workflow must be active for a production URL to run successfully. You can activate the \
                    workflow using the toggle in the top-right of the editor. Note that unlike test URL calls, \
                    production URL calls aren't shown on the canvas (only in the executions list)";

const TEST_HINT: &str = "Click the 'Execute workflow' button on the canvas, then try again. (In test mode, the webhook \
                         only works for one call after you click this button)";

/// Answers a request under `/webhook` or `/webhook-test`.
pub fn handle(n8n: &mut N8n, request: &Request) -> Answer {
    if request.method == "OPTIONS" {
        return Answer { status: 204, content_type: None, set_cookie: None, body: Vec::new() };
    }
    if request.path.trim_matches('/').split('/').count() < 2 {
        return Answer::cannot(&request.method, &request.path);
    }
    if n8n.parse_body(request).is_err_and(|refusal| refusal.status == 500) {
        let hint = "Expected property name or '}' in JSON at position 1";
        return Answer::json(422, &json!({ "code": 422, "message": "Failed to parse request body", "hint": hint }));
    }
    let mut parts = request.path.trim_matches('/').splitn(2, '/');
    let test = parts.next() == Some("webhook-test");
    let path = percent_decode(parts.next().unwrap_or_default());
    if test {
        let message = format!("The requested webhook \"{path}\" is not registered.");
        return Answer::json(404, &json!({ "code": 404, "message": message, "hint": TEST_HINT }));
    }
    let there: Vec<_> = n8n.webhooks.iter().filter(|hook| fits(&hook.path, &path)).cloned().collect();
    match there.iter().find(|hook| hook.method == request.method) {
        Some(hook) => run(n8n, hook, request),
        None => unregistered(&request.method, &path, &there),
    }
}

fn fits(registered: &str, path: &str) -> bool {
    if !registered.contains("/:") {
        return registered == path;
    }
    let (wanted, sent): (Vec<_>, Vec<_>) = (registered.split('/').collect(), path.split('/').collect());
    wanted.len() == sent.len()
        && wanted.iter().zip(&sent).all(|(wanted, sent)| wanted.starts_with(':') || wanted == sent)
}

fn unregistered(method: &str, path: &str, there: &[Webhook]) -> Answer {
    if there.is_empty() {
        let message = format!("The requested webhook \"{method} {path}\" is not registered.");
        return Answer::json(404, &json!({ "code": 404, "message": message, "hint": HINT }));
    }
    let methods: Vec<_> = there.iter().map(|hook| hook.method.as_str()).collect();
    let others = match methods.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => methods.concat(),
    };
    let message =
        format!("This webhook is not registered for {method} requests. Did you mean to make a {others} request?");
    Answer::coded(404, 404, &message)
}

/// Starts the active version. It may be one that publishing refused: then the caller gets a 500.
fn run(n8n: &mut N8n, hook: &Webhook, request: &Request) -> Answer {
    let Some(workflow) = n8n.workflows.iter().find(|workflow| workflow.id == hook.workflow_id) else {
        return Answer::coded(500, 0, "Could not find workflow");
    };
    let Some(version) = workflow.active_version() else {
        let message = format!("Active version not found for workflow with id \"{}\"", workflow.id);
        return Answer::coded(404, 404, &message);
    };
    if let Err(reason) = check_types(&version.nodes) {
        return Answer::coded(500, 0, &reason);
    }
    let node = enabled(&version.nodes).find(|node| node.get("name").and_then(Value::as_str) == Some(&hook.node));
    let Some(node) = node else {
        return Answer::coded(500, 0, "Cannot read properties of null (reading 'disabled')");
    };
    let now = webhooks_of(&workflow.id, &version.nodes);
    if !now.iter().any(|other| other.path == hook.path && other.method == hook.method) {
        return Answer::coded(500, 0, "Cannot read properties of undefined (reading 'node')");
    }
    let parameters = node.get("parameters");
    if !is_authorised(n8n, node, request) {
        return Answer::html(403, "Authorization data is wrong!");
    }
    let mode = parameters.and_then(|parameters| parameters.get("responseMode")).and_then(Value::as_str);
    let responds = |node: &Value| node.get("type").and_then(Value::as_str) == Some("n8n-nodes-base.respondToWebhook");
    if mode == Some("responseNode") && !enabled(&version.nodes).any(responds) {
        return Answer::coded(500, 0, "No Respond to Webhook node found in the workflow");
    }
    let answer = match mode {
        Some("responseNode" | "lastNode") if !credentials_exist(n8n, workflow) => Answer::html(200, ""),
        Some("responseNode" | "lastNode") => Answer::ok(&json!({ "stand_in": true })),
        _ => Answer::ok(&json!({ "message": "Workflow was started" })),
    };
    let status = if credentials_exist(n8n, workflow) { "success" } else { "error" };
    n8n.add_execution(&hook.workflow_id, status, "webhook");
    answer
}

/// Whether a request carries the header that the node's credential asks for, where it asks for one.
fn is_authorised(n8n: &N8n, node: &Value, request: &Request) -> bool {
    if node["parameters"]["authentication"] != "headerAuth" {
        return true;
    }
    let id = node["credentials"]["httpHeaderAuth"]["id"].as_str();
    let credential = n8n.credentials.iter().find(|credential| Some(credential.id.as_str()) == id);
    let text = |key: &str| credential.and_then(|credential| credential.data.get(key)).and_then(Value::as_str);
    let (Some(name), Some(value)) = (text("name"), text("value")) else { return false };
    request.header_value(&name.to_ascii_lowercase()) == Some(value)
}

fn credentials_exist(n8n: &N8n, workflow: &Workflow) -> bool {
    let Some(version) = workflow.active_version() else { return false };
    let exists = |kind: &str, reference: &Value| {
        let id = reference.get("id").and_then(Value::as_str);
        n8n.credentials.iter().any(|credential| credential.kind == kind && Some(credential.id.as_str()) == id)
    };
    let blocks = enabled(&version.nodes).filter_map(|node| node.get("credentials")?.as_object());
    blocks.flatten().all(|(kind, reference)| exists(kind, reference))
}
