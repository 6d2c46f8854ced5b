//! Publishing: the checks before it, the webhooks it registers, and what it leaves behind when it fails.

use serde_json::{Value, json};

use super::{
    answer::{Answer, Outcome, percent_encode},
    model::{N8n, Version, Webhook, Workflow},
    node_types,
    public::Call,
    seed::iso,
    workflows::{shared, show, with},
};

const NO_TRIGGER: &str = "Workflow cannot be activated because it has no trigger node. At least one trigger, webhook, \
                          or polling node is required.";

/// These start a workflow by hand only.
const STARTING_NODES: [&str; 2] = ["@n8n/n8n-nodes-langchain.manualChatTrigger", "n8n-nodes-base.manualTrigger"];

/// These are triggers, but not counted as such.
const UNCOUNTED: [&str; 2] = ["n8n-nodes-base.executeWorkflowTrigger", "n8n-nodes-base.errorTrigger"];

fn text<'a>(node: &'a Value, name: &str) -> &'a str {
    node.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// The nodes that are not switched off.
pub fn enabled(nodes: &Value) -> impl Iterator<Item = &Value> {
    nodes.as_array().into_iter().flatten().filter(|node| node.get("disabled") != Some(&Value::Bool(true)))
}

/// The first node whose type n8n cannot load; disabled nodes count too.
///
/// # Errors
/// n8n's words for it.
pub fn check_types(nodes: &Value) -> Result<(), String> {
    for node in nodes.as_array().into_iter().flatten() {
        match node.get("type").and_then(Value::as_str) {
            None => return Err("Cannot read properties of undefined (reading 'endsWith')".to_owned()),
            Some(kind) if node_types::find(kind).is_none() => return Err(format!("Unrecognized node type: {kind}")),
            Some(_) => {}
        }
    }
    Ok(())
}

/// The webhooks that a version would register.
pub fn webhooks_of(workflow_id: &str, nodes: &Value) -> Vec<Webhook> {
    let hooks = enabled(nodes).filter(|node| text(node, "type") == "n8n-nodes-base.webhook");
    hooks.flat_map(|node| webhooks_of_node(workflow_id, node)).collect()
}

fn webhooks_of_node(workflow_id: &str, node: &Value) -> Vec<Webhook> {
    let parameters = node.get("parameters").cloned().unwrap_or_default();
    let sent = text(&parameters, "path").trim_matches('/');
    let name = text(node, "name");
    let dynamic = sent.starts_with(':') || sent.contains("/:");
    let path = match node.get("webhookId").and_then(Value::as_str) {
        None => format!("{workflow_id}/{}/{sent}", percent_encode(&name.to_lowercase())),
        Some(id) if sent.is_empty() => id.to_owned(),
        Some(id) if dynamic => format!("{id}/{sent}"),
        Some(_) => sent.to_owned(),
    };
    let methods: Vec<String> = match parameters.get("httpMethod") {
        Some(Value::String(method)) => vec![method.clone()],
        Some(Value::Array(methods)) => methods.iter().filter_map(Value::as_str).map(ToOwned::to_owned).collect(),
        _ => vec!["GET".to_owned()],
    };
    let hook =
        |method| Webhook { method, path: path.clone(), workflow_id: workflow_id.to_owned(), node: name.to_owned() };
    methods.into_iter().map(hook).collect()
}

fn check_conflicts(n8n: &N8n, wanted: &[Webhook]) -> Result<(), String> {
    let same = |one: &Webhook, other: &Webhook| one.method == other.method && one.path == other.path;
    let taken = |hook: &Webhook| {
        n8n.webhooks.iter().any(|other| other.workflow_id != hook.workflow_id && same(other, hook))
            || wanted.iter().filter(|other| same(other, hook)).count() > 1
    };
    if wanted.iter().any(taken) { Err("There is a conflict with one of the webhooks.".to_owned()) } else { Ok(()) }
}

fn is_connected(name: &str, connections: &Value) -> bool {
    let all = connections.as_object();
    let outgoing = all.and_then(|all| all.get(name)).and_then(Value::as_object).is_some_and(|out| !out.is_empty());
    let targets = all.into_iter().flat_map(serde_json::Map::values).filter_map(Value::as_object);
    let mut targets = targets
        .flat_map(serde_json::Map::values)
        .filter_map(Value::as_array)
        .flatten()
        .filter_map(Value::as_array)
        .flatten();
    outgoing || targets.any(|target| text(target, "node") == name)
}

/// Triggers, then the credentials that enabled nodes in use must name.
fn check_nodes(version: &Version) -> Result<(), String> {
    let starts = |node: &Value| {
        let kind = text(node, "type");
        !STARTING_NODES.contains(&kind) && node_types::find(kind).is_some_and(|kind| kind.trigger_like)
    };
    if !enabled(&version.nodes).any(starts) {
        return Err(NO_TRIGGER.to_owned());
    }
    let mut complaints = Vec::new();
    for node in enabled(&version.nodes) {
        let Some(kind) = node_types::find(text(node, "type")) else { continue };
        let name = text(node, "name");
        if !kind.trigger_like && !is_connected(name, &version.connections) {
            continue;
        }
        let parameters = node.get("parameters").cloned().unwrap_or_default();
        let node_version = node.get("typeVersion").and_then(Value::as_f64).unwrap_or(1.0);
        let lines: Vec<_> = kind.needs(node_version, &parameters).filter_map(|need| missing(node, need)).collect();
        if !lines.is_empty() {
            complaints.push(format!("Node \"{name}\":\n{}", lines.join("\n")));
        }
    }
    if complaints.is_empty() {
        return Ok(());
    }
    let (count, plural) = (complaints.len(), if complaints.len() == 1 { "" } else { "s" });
    let list = complaints.join("\n\n");
    Err(format!("Cannot publish workflow: {count} node{plural} have configuration issues:\n\n{list}"))
}

fn missing(node: &Value, need: &str) -> Option<String> {
    let reference = node.get("credentials").and_then(|block| block.get(need));
    let Some(reference) = reference.filter(|reference| !reference.is_null()) else {
        return Some(format!("  - Missing required credential: {need}"));
    };
    let id = reference.get("id").filter(|id| !id.is_null() && *id != "");
    id.is_none().then(|| format!("  - Credential not configured: {need}"))
}

fn check_cron(nodes: &Value) -> Result<(), String> {
    let bad = |interval: &Value| {
        let words = text(interval, "expression").split_whitespace().count();
        text(interval, "field") == "cronExpression" && !(5..=6).contains(&words)
    };
    let schedules = enabled(nodes).filter(|node| text(node, "type") == "n8n-nodes-base.scheduleTrigger");
    let mut intervals =
        schedules.filter_map(|node| node.get("parameters")?.get("rule")?.get("interval")?.as_array()).flatten();
    if intervals.any(bad) {
        return Err("There was a problem activating the workflow: \"Invalid cron expression\"".to_owned());
    }
    Ok(())
}

/// A schedule writes its own static data when it starts, which no deployment sent.
fn start_schedules(static_data: &mut Value, nodes: &Value) -> bool {
    let before = static_data.clone();
    for node in enabled(nodes).filter(|node| text(node, "type") == "n8n-nodes-base.scheduleTrigger") {
        if !static_data.is_object() {
            *static_data = json!({});
        }
        let own = &mut static_data[format!("node:{}", text(node, "name"))];
        if own.get("recurrenceRules").is_none() {
            *own = json!({ "recurrenceRules": [] });
        }
    }
    before != *static_data
}

/// Publishes one version of a workflow.
///
/// The checks come first and change nothing. A trigger that then fails to start leaves the workflow inactive.
///
/// # Errors
/// 404 for an unknown version, 400 with n8n's reason.
pub fn activate(n8n: &mut N8n, at: usize, version_id: &str) -> Result<(), Answer> {
    let workflow = &n8n.workflows[at];
    let version = workflow.version(version_id).ok_or_else(|| Answer::message(404, "Not Found"))?.clone();
    let wanted = webhooks_of(&workflow.id, &version.nodes);
    check_types(&version.nodes)
        .and_then(|()| check_conflicts(n8n, &wanted))
        .and_then(|()| check_nodes(&version))
        .map_err(|reason| Answer::message(400, reason))?;
    let now = n8n.seed.now_ms();
    let workflow = &mut n8n.workflows[at];
    n8n.webhooks.retain(|webhook| webhook.workflow_id != workflow.id);
    if let Some(previous) = workflow.active_version_id.take() {
        n8n.publications += 1;
        workflow.history.push((n8n.publications, previous, "deactivated", now));
    }
    // Webhooks are registered before the triggers start, and stay registered if one of those fails.
    n8n.webhooks.extend(wanted);
    workflow.version_counter += 2;
    check_cron(&version.nodes).map_err(|reason| Answer::message(400, reason))?;
    if start_schedules(&mut workflow.static_data, &version.nodes) {
        workflow.version_counter += 1;
    }
    n8n.publications += 1;
    workflow.history.push((n8n.publications, version.id.clone(), "activated", now));
    workflow.active_version_id = Some(version.id);
    let triggers = enabled(&version.nodes).map(|node| text(node, "type"));
    let counts = |kind: &&str| {
        !UNCOUNTED.contains(kind)
            && !STARTING_NODES.contains(kind)
            && node_types::find(kind).is_some_and(|kind| kind.trigger)
    };
    workflow.trigger_count = triggers.filter(counts).count();
    Ok(())
}

/// `POST /workflows/{id}/activate`: the draft, or the version that the body names.
///
/// # Errors
/// As [`activate`].
pub fn activate_call(n8n: &mut N8n, call: &Call) -> Outcome {
    let at = n8n.workflow_index(call.id(0))?;
    let named = call.body.get("versionId").and_then(Value::as_str).map(ToOwned::to_owned);
    let version_id = named.unwrap_or_else(|| n8n.workflows[at].version_id.clone());
    activate(n8n, at, &version_id)?;
    let workflow = &mut n8n.workflows[at];
    if let Some(name) = call.body.get("name")
        && let Some(version) = workflow.versions.iter_mut().find(|version| version.id == version_id)
    {
        version.name = name.clone();
    }
    let workflow = &n8n.workflows[at];
    Ok(Answer::ok(&with(show(workflow), "activeVersion", active_version(n8n, workflow, true))))
}

/// `POST /workflows/{id}/deactivate`, as often as one likes.
///
/// # Errors
/// 404.
pub fn deactivate(n8n: &mut N8n, call: &Call) -> Outcome {
    let at = n8n.workflows.iter().position(|workflow| workflow.id == call.id(0));
    let at = at.ok_or_else(|| Answer::message(404, format!("Workflow with ID \"{}\" not found.", call.id(0))))?;
    let now = n8n.seed.now_ms();
    let workflow = &mut n8n.workflows[at];
    n8n.webhooks.retain(|webhook| webhook.workflow_id != workflow.id);
    let previous = workflow.active_version_id.take();
    let was_active = previous.is_some();
    if let Some(previous) = previous {
        n8n.publications += 1;
        workflow.history.push((n8n.publications, previous, "deactivated", now));
    }
    let workflow = &n8n.workflows[at];
    let mut shown = with(show(workflow), "shared", shared(n8n, workflow, true));
    if was_active {
        shown = with(shown, "activeVersion", Value::Null);
        // The answer was made before the write was counted.
        n8n.workflows[at].version_counter += 1;
    }
    Ok(Answer::ok(&shown))
}

/// A saved version as it stands in answers.
pub fn show_version(n8n: &N8n, workflow: &Workflow, version: &Version) -> Value {
    let authors = n8n.owner.as_ref().map(|owner| format!("{} {}", owner.first_name, owner.last_name));
    let at = iso(version.created_at);
    json!({
        "updatedAt": at, "createdAt": at, "versionId": version.id, "workflowId": workflow.id,
        "nodes": version.nodes, "connections": version.connections, "authors": authors, "name": version.name,
        "description": null
    })
}

/// A workflow's field `activeVersion`.
pub fn active_version(n8n: &N8n, workflow: &Workflow, with_history: bool) -> Value {
    let Some(version) = workflow.active_version() else { return Value::Null };
    let shown = with(show_version(n8n, workflow, version), "autosaved", Value::Bool(false));
    if !with_history {
        return shown;
    }
    let user = n8n.owner.as_ref().map(|owner| &owner.id);
    let history = workflow.history.iter().filter(|(_, id, _, _)| *id == version.id);
    let history = history.map(|(number, id, event, at)| {
        json!({
            "createdAt": iso(*at), "id": number, "workflowId": workflow.id, "versionId": id, "event": event,
            "userId": user
        })
    });
    with(shown, "workflowPublishHistory", history.collect())
}
