//! What a droplet's n8n holds, as far as the model speaks of it.

use genesis_agent::sim::n8n::{N8n, Workflow};
use serde_json::Value;

use super::wish::{Desired, Flow};

/// The managed things, doubles kept, and the tenant's own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Name and secret value, sorted.
    pub credentials: Vec<(String, String)>,
    /// Key and content, sorted.
    pub workflows: Vec<(String, Flow)>,
    /// Name and nodes of workflows that nobody manages, sorted.
    pub own: Vec<(String, String)>,
}

impl Held {
    /// Looks.
    pub fn of(n8n: &N8n) -> Self {
        let mut held = Self::default();
        for credential in &n8n.credentials {
            let value = credential.data.get("value").and_then(Value::as_str).unwrap_or_default();
            let name = credential.name.strip_prefix("genesis/").unwrap_or(&credential.name);
            held.credentials.push((name.to_owned(), value.to_owned()));
        }
        for workflow in &n8n.workflows {
            match key_of(workflow) {
                Some(key) => held.workflows.push((key.to_owned(), flow(n8n, workflow))),
                None => held.own.push((workflow.name.clone(), workflow.nodes.to_string())),
            }
        }
        held.credentials.sort();
        held.workflows.sort();
        held.own.sort();
        held
    }

    /// What it must be, given what is desired and what is the tenant's own.
    pub fn expected(desired: &Desired, own: &[(String, String)]) -> Self {
        let pairs = |(name, value): (&String, &String)| (name.clone(), value.clone());
        let mut own = own.to_vec();
        own.sort();
        Self {
            credentials: desired.credentials.iter().map(pairs).collect(),
            workflows: desired.workflows.iter().map(|(key, flow)| (key.clone(), flow.clone())).collect(),
            own,
        }
    }

    /// Managed names that are there more than once.
    pub fn doubles(&self) -> Vec<String> {
        let credentials = self.credentials.windows(2).filter(|two| two[0].0 == two[1].0).map(|two| two[0].0.clone());
        let workflows = self.workflows.windows(2).filter(|two| two[0].0 == two[1].0).map(|two| two[0].0.clone());
        credentials.chain(workflows).collect()
    }
}

/// The key in a workflow's marker.
pub fn key_of(workflow: &Workflow) -> Option<&str> {
    workflow.static_data.get("genesis")?.get("key")?.as_str()
}

fn flow(n8n: &N8n, workflow: &Workflow) -> Flow {
    // What runs is what the tenant notices; a draft that differs from it shows in the path.
    let running = workflow.active_version().map_or(&workflow.nodes, |version| &version.nodes);
    let path = |nodes: &Value| nodes[0]["parameters"]["path"].as_str().unwrap_or_default().to_owned();
    let (runs, draft) = (path(running), path(&workflow.nodes));
    let id = running[0]["credentials"]["httpHeaderAuth"]["id"].as_str().unwrap_or_default();
    let credential = n8n.credentials.iter().find(|credential| credential.id == id);
    let credential = credential.map_or("nothing", |c| c.name.strip_prefix("genesis/").unwrap_or(&c.name));
    Flow {
        path: if runs == draft { runs } else { format!("{runs}, but its draft {draft}") },
        credential: credential.to_owned(),
        active: workflow.active_version_id.is_some(),
    }
}
