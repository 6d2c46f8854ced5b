//! Workflows over the public API: saving, reading and deleting; publishing is next door.

use serde_json::{Map, Value, json};

use super::{
    answer::{Answer, Outcome},
    model::{N8n, Version, Workflow},
    public::{Call, Page},
    publish, references,
    seed::iso,
    tags,
};

/// Settings that the value DEFAULT removes.
const REMOVABLE: [&str; 6] = [
    "errorWorkflow",
    "timezone",
    "saveDataErrorExecution",
    "saveDataSuccessExecution",
    "saveManualExecutions",
    "saveExecutionProgress",
];

impl N8n {
    /// Where the workflow with that id is.
    ///
    /// # Errors
    /// 404.
    pub fn workflow_index(&self, id: &str) -> Result<usize, Answer> {
        let at = self.workflows.iter().position(|workflow| workflow.id == id);
        at.ok_or_else(|| Answer::message(404, "Not Found"))
    }
}

fn field(body: &Value, name: &str) -> Value {
    body.get(name).cloned().unwrap_or_default()
}

fn object(body: &Value, name: &str) -> Map<String, Value> {
    body.get(name).and_then(Value::as_object).cloned().unwrap_or_default()
}

fn static_data(body: &Value) -> Option<Value> {
    let sent = body.get("staticData")?;
    let parsed = sent.as_str().and_then(|text| serde_json::from_str(text).ok());
    Some(parsed.unwrap_or_else(|| sent.clone()))
}

fn add_node_ids(n8n: &mut N8n, nodes: &mut Value) {
    for node in nodes.as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
        let has = node.get("id").and_then(Value::as_str).is_some_and(|id| !id.is_empty());
        if !has {
            node.insert("id".to_owned(), json!(n8n.seed.uuid()));
        }
    }
}

/// `POST /workflows`.
///
/// # Errors
/// 400 for a credential reference that n8n chokes on.
pub fn create(n8n: &mut N8n, call: &Call) -> Outcome {
    let mut nodes = field(&call.body, "nodes");
    add_node_ids(n8n, &mut nodes);
    references::rewrite(&n8n.credentials, &mut nodes)?;
    let mut settings = object(&call.body, "settings");
    settings.entry("callerPolicy").or_insert_with(|| json!("workflowsFromSameOwner"));
    settings.entry("availableInMCP").or_insert(Value::Bool(false));
    let (id, version_id, now) = (n8n.seed.id(), n8n.seed.uuid(), n8n.seed.now_ms());
    let connections = field(&call.body, "connections");
    let version = Version {
        id: version_id.clone(),
        nodes: nodes.clone(),
        connections: connections.clone(),
        name: Value::Null,
        created_at: now,
    };
    let workflow = Workflow {
        id,
        name: call.body.get("name").and_then(Value::as_str).unwrap_or_default().to_owned(),
        nodes,
        connections,
        settings,
        static_data: static_data(&call.body).unwrap_or_default(),
        version_id,
        active_version_id: None,
        version_counter: 1,
        trigger_count: 0,
        versions: vec![version],
        history: Vec::new(),
        tags: Vec::new(),
        created_at: now,
        updated_at: now,
    };
    let mut shown = call.body.as_object().cloned().unwrap_or_default();
    let stored = show(&workflow);
    // The answer shows static data as sent; every later one shows what a string of JSON stands for.
    for name in ["nodes", "settings"] {
        shown.insert(name.to_owned(), field(&stored, name));
    }
    const REST: [&str; 13] = [
        "active",
        "versionId",
        "id",
        "description",
        "staticData",
        "meta",
        "pinData",
        "activeVersionId",
        "updatedAt",
        "createdAt",
        "isArchived",
        "versionCounter",
        "triggerCount",
    ];
    for name in REST {
        shown.entry(name).or_insert_with(|| field(&stored, name));
    }
    n8n.workflows.push(workflow);
    Ok(Answer::ok(&Value::Object(shown)))
}

/// The fields that every answer about a stored workflow has, in n8n's order.
pub fn show(workflow: &Workflow) -> Value {
    json!({
        "updatedAt": iso(workflow.updated_at), "createdAt": iso(workflow.created_at), "id": workflow.id,
        "name": workflow.name, "description": null, "active": workflow.active_version_id.is_some(),
        "isArchived": false, "nodes": workflow.nodes, "connections": workflow.connections,
        "settings": workflow.settings, "staticData": workflow.static_data, "meta": null, "pinData": null,
        "versionId": workflow.version_id, "activeVersionId": workflow.active_version_id,
        "versionCounter": workflow.version_counter, "triggerCount": workflow.trigger_count
    })
}

/// Sets one more field of an answer.
pub fn with(mut shown: Value, name: &str, value: Value) -> Value {
    if let Some(fields) = shown.as_object_mut() {
        fields.insert(name.to_owned(), value);
    }
    shown
}

/// A workflow's field `shared`; lists leave the project out.
pub fn shared(n8n: &N8n, workflow: &Workflow, with_project: bool) -> Value {
    let Some(owner) = &n8n.owner else { return json!([]) };
    let (at, since) = (iso(workflow.created_at), iso(owner.created_at));
    let entry = json!({
        "updatedAt": at, "createdAt": at, "role": "workflow:owner", "workflowId": workflow.id,
        "projectId": owner.project_id
    });
    let name = format!("{} {} <{}>", owner.first_name, owner.last_name, owner.email);
    let project = json!({
        "updatedAt": since, "createdAt": since, "id": owner.project_id, "name": name, "type": "personal",
        "icon": null, "description": null, "creatorId": owner.id
    });
    json!([if with_project { with(entry, "project", project) } else { entry }])
}

/// `GET /workflows/{id}`.
///
/// # Errors
/// 404.
pub fn get(n8n: &mut N8n, call: &Call) -> Outcome {
    let workflow = &n8n.workflows[n8n.workflow_index(call.id(0))?];
    let mut shown = show(workflow);
    if call.query("excludePinnedData") == Some("true")
        && let Some(fields) = shown.as_object_mut()
    {
        fields.shift_remove("pinData");
    }
    let shown = with(shown, "shared", shared(n8n, workflow, true));
    let shown = with(shown, "tags", tags::shown_of(n8n, &workflow.tags));
    Ok(Answer::ok(&with(shown, "activeVersion", publish::active_version(n8n, workflow, true))))
}

/// `GET /workflows/{id}/{versionId}`.
///
/// # Errors
/// 404, with different words for the workflow and the version.
pub fn get_version(n8n: &mut N8n, call: &Call) -> Outcome {
    let workflow = &n8n.workflows[n8n.workflow_index(call.id(0))?];
    let version = workflow.version(call.id(1)).ok_or_else(|| Answer::message(404, "Version not found"))?;
    Ok(Answer::ok(&publish::show_version(n8n, workflow, version)))
}

/// `GET /workflows`: in the order they were made, which the real one does not promise.
///
/// # Errors
/// 400 for a bad cursor.
pub fn list(n8n: &mut N8n, call: &Call) -> Outcome {
    let page = Page::of(call)?;
    let active = call.query("active").map(|active| active == "true");
    let name = call.query("name").map(str::to_lowercase);
    let wanted: Vec<_> = call.query("tags").into_iter().flat_map(|tags| tags.split(',')).map(str::trim).collect();
    let fits = |workflow: &&Workflow| {
        let has = |wanted: &&str| n8n.tags.iter().any(|tag| tag.name == *wanted && workflow.tags.contains(&tag.id));
        active.is_none_or(|active| workflow.active_version_id.is_some() == active)
            && name.as_ref().is_none_or(|part| workflow.name.to_lowercase().contains(part.as_str()))
            && wanted.iter().all(has)
    };
    Ok(page.cut(n8n.workflows.iter().filter(fits), |workflow| {
        let mut shown = show(workflow);
        if let Some(fields) = shown.as_object_mut() {
            for absent in ["versionCounter", "description"] {
                fields.shift_remove(absent);
            }
            if call.query("excludePinnedData") == Some("true") {
                fields.shift_remove("pinData");
            }
        }
        let shown = with(shown, "shared", shared(n8n, workflow, false));
        let shown = with(shown, "activeVersion", publish::active_version(n8n, workflow, false));
        with(shown, "tags", tags::shown_of(n8n, &workflow.tags))
    }))
}

/// `PUT /workflows/{id}`: replaces nodes and connections, merges settings, keeps static data that was left out.
///
/// On an active workflow it publishes at once, and that is not atomic: what the publication refuses is already stored
/// and already the active version.
///
/// # Errors
/// 404 for an unknown id, 400 from publishing.
pub fn update(n8n: &mut N8n, call: &Call) -> Outcome {
    let at = n8n.workflow_index(call.id(0))?;
    let mut nodes = field(&call.body, "nodes");
    let connections = field(&call.body, "connections");
    let old = &n8n.workflows[at];
    // Compared before references are rewritten and ids are added: a reference by name alone always makes a version.
    let changed = nodes != old.nodes || connections != old.connections;
    references::rewrite(&n8n.credentials, &mut nodes)?;
    add_node_ids(n8n, &mut nodes);
    let now = n8n.seed.now_ms();
    let fresh = changed.then(|| n8n.seed.uuid());
    let workflow = &mut n8n.workflows[at];
    let before = workflow.settings.clone();
    merge_settings(&mut workflow.settings, object(&call.body, "settings"));
    let settings_changed = before != workflow.settings;
    if let Some(id) = fresh {
        workflow.version_id.clone_from(&id);
        let (nodes, connections) = (nodes.clone(), connections.clone());
        workflow.versions.push(Version { id, nodes, connections, name: Value::Null, created_at: now });
    }
    workflow.name = call.body.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
    (workflow.nodes, workflow.connections) = (nodes, connections);
    if let Some(static_data) = static_data(&call.body) {
        workflow.static_data = static_data;
    }
    workflow.updated_at = now;
    workflow.version_counter += 1;
    let publishes = workflow.active_version_id.is_some();
    if publishes {
        workflow.active_version_id = Some(workflow.version_id.clone());
    }
    let workflow = &n8n.workflows[at];
    let shown = with(show(workflow), "tags", tags::shown_of(n8n, &workflow.tags));
    let shown = with(shown, "activeVersion", publish::active_version(n8n, workflow, false));
    if publishes || (settings_changed && workflow.active_version_id.is_some()) {
        let version = workflow.version_id.clone();
        publish::activate(n8n, at, &version)?;
    }
    Ok(Answer::ok(&shown))
}

fn merge_settings(settings: &mut Map<String, Value>, sent: Map<String, Value>) {
    settings.extend(sent);
    settings.retain(|name, value| {
        let default = REMOVABLE.contains(&name.as_str()) && value == "DEFAULT";
        let no_timeout = name == "executionTimeout" && value.as_i64() == Some(-1);
        !default && !no_timeout
    });
}

/// `DELETE /workflows/{id}`: also while it is active.
///
/// # Errors
/// 404.
pub fn delete(n8n: &mut N8n, call: &Call) -> Outcome {
    let workflow = n8n.workflows.remove(n8n.workflow_index(call.id(0))?);
    n8n.webhooks.retain(|webhook| webhook.workflow_id != workflow.id);
    Ok(Answer::ok(&with(show(&workflow), "shared", shared(n8n, &workflow, true))))
}
