//! What the operator may ask, and what it must lead to: a droplet's desired state as a plain value.

use std::collections::BTreeMap;

use genesis_shared::command::CommandWire;
use genesis_shared::secret::Secret;
use genesisctl::sealing::{self, Recipient};
use serde_json::{Value, json};

use crate::canary::canary;

/// Managed credentials that the simulation knows.
pub const CREDENTIALS: [&str; 2] = ["alpha", "beta"];

/// Managed workflows that the simulation knows.
pub const WORKFLOWS: [&str; 3] = ["hook-1", "hook-2", "hook-3"];

/// One command, before it is sealed and signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// `INJECT_CREDENTIAL` with the n-th value.
    Inject(&'static str, u64),
    /// `ROTATE_CREDENTIAL` with the n-th value.
    Rotate(&'static str, u64),
    /// `APPLY_STATE` of the n-th generation: the n-th value of a credential, and a workflow of the n-th content that is
    /// bound to it and runs or does not.
    Apply(u64, &'static str, &'static str, bool),
    /// `DEPLOY_WORKFLOW` with the n-th content, bound to a credential.
    Deploy(&'static str, u64, &'static str),
    /// `UPDATE_WORKFLOW`, likewise.
    Update(&'static str, u64, &'static str),
    /// `ACTIVATE_WORKFLOW`.
    Activate(&'static str),
    /// `DEACTIVATE_WORKFLOW`.
    Deactivate(&'static str),
    /// `DELETE_WORKFLOW`.
    DeleteWorkflow(&'static str),
    /// `DELETE_CREDENTIAL`.
    DeleteCredential(&'static str),
    /// `HEALTH_CHECK`.
    Health,
    /// `LIST_STATE`.
    List,
    /// `VERIFY`.
    Verify,
    /// `COLLECT_METRICS`.
    Metrics,
}

impl Wish {
    /// Whether it changes nothing.
    pub fn looks(&self) -> bool {
        matches!(self, Self::Health | Self::List | Self::Verify | Self::Metrics)
    }

    /// What it is about, where it is about one thing.
    pub fn subject(&self) -> Option<&'static str> {
        match self {
            Self::Inject(name, _) | Self::Rotate(name, _) | Self::DeleteCredential(name) => Some(name),
            Self::Apply(_, _, key, _)
            | Self::Deploy(key, ..)
            | Self::Update(key, ..)
            | Self::Activate(key)
            | Self::Deactivate(key)
            | Self::DeleteWorkflow(key) => Some(key),
            Self::Health | Self::List | Self::Verify | Self::Metrics => None,
        }
    }

    /// The command on the wire. `ephemeral` are random bytes for the sealing.
    pub fn wire(&self, recipient: Recipient, ephemeral: [u8; 32]) -> CommandWire {
        let command = |action: &str, payload| CommandWire { action: action.to_owned(), payload: Some(payload) };
        match self {
            Self::Inject(name, n) => inject(recipient, name, *n, ephemeral),
            Self::Rotate(name, n) => {
                CommandWire { action: "ROTATE_CREDENTIAL".into(), ..inject(recipient, name, *n, ephemeral) }
            }
            Self::Apply(n, name, key, active) => {
                let mut workflow = deployment(key, *n, name);
                workflow["active"] = json!(active);
                let credential = inject(recipient, name, *n, ephemeral).payload.unwrap();
                let state = json!({"generation": n, "credentials": [credential], "workflows": [workflow]});
                command("APPLY_STATE", state)
            }
            Self::Deploy(key, n, credential) => command("DEPLOY_WORKFLOW", deployment(key, *n, credential)),
            Self::Update(key, n, credential) => command("UPDATE_WORKFLOW", deployment(key, *n, credential)),
            Self::Activate(key) => command("ACTIVATE_WORKFLOW", json!({"key": key})),
            Self::Deactivate(key) => command("DEACTIVATE_WORKFLOW", json!({"key": key})),
            Self::DeleteWorkflow(key) => command("DELETE_WORKFLOW", json!({"key": key})),
            Self::DeleteCredential(name) => command("DELETE_CREDENTIAL", json!({"name": name})),
            Self::Health => command("HEALTH_CHECK", json!({})),
            Self::List => command("LIST_STATE", json!({})),
            Self::Verify => command("VERIFY", json!({})),
            Self::Metrics => command("COLLECT_METRICS", json!({})),
        }
    }
}

/// The n-th secret value of a credential.
pub fn value(name: &str, n: u64) -> String {
    canary(&format!("{name}-{n}"))
}

/// The webhook path that tells the n-th content of a workflow.
pub fn path(key: &str, n: u64) -> String {
    format!("{key}-v{n}")
}

fn inject(recipient: Recipient, name: &str, n: u64, ephemeral: [u8; 32]) -> CommandWire {
    let data = Secret::new(json!({"name": "X-Key", "value": value(name, n)}).to_string().into_bytes());
    let (name, kind) = (name.parse().unwrap(), "httpHeaderAuth".parse().unwrap());
    sealing::credential(recipient, &name, &kind, &data, ephemeral).unwrap()
}

fn deployment(key: &str, n: u64, credential: &str) -> Value {
    let node = json!({
        "id": "11111111-1111-4111-8111-111111111111", "name": "Hook", "type": "n8n-nodes-base.webhook",
        "typeVersion": 2, "position": [0, 0], "webhookId": key,
        "parameters": {"path": path(key, n), "httpMethod": "POST", "authentication": "headerAuth"},
        "credentials": {"httpHeaderAuth": {"id": "TEMPLATE_KEY_UUID", "name": "TEMPLATE_KEY"}},
    });
    let workflow = json!({"name": key, "nodes": [node], "connections": {}, "settings": {}});
    json!({"key": key, "workflow_json": workflow, "credential_map": {"TEMPLATE_KEY_UUID": credential}})
}

/// A workflow as it should be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Flow {
    /// Its webhook path, which tells its content.
    pub path: String,
    /// The credential that it refers to.
    pub credential: String,
    /// Whether it runs.
    pub active: bool,
}

/// What a droplet's n8n should hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    /// Name and secret value.
    pub credentials: BTreeMap<String, String>,
    /// By key.
    pub workflows: BTreeMap<String, Flow>,
    /// Of the desired state that was applied last.
    pub generation: u64,
}

impl Desired {
    /// What the commands of a bundle make of it, and how many things n8n has to create for that: all of them, or the
    /// reason why none.
    ///
    /// # Errors
    /// The code with which the agent has to refuse.
    pub fn after(&self, wishes: &[Wish]) -> Result<(Self, u64), &'static str> {
        let (mut next, mut creates) = (self.clone(), 0);
        // The agent lists what cannot be mapped after everything else.
        let mut unmappable = false;
        for wish in wishes {
            let before = next.credentials.len() + next.workflows.len();
            next.apply(wish, &mut unmappable)?;
            creates += (next.credentials.len() + next.workflows.len()).saturating_sub(before) as u64;
        }
        if unmappable { Err("cannot_map") } else { Ok((next, creates)) }
    }

    fn apply(&mut self, wish: &Wish, unmappable: &mut bool) -> Result<(), &'static str> {
        match wish {
            Wish::Inject(name, n) => {
                self.credentials.insert((*name).to_owned(), value(name, *n));
            }
            Wish::Rotate(name, n) => {
                let held = self.credentials.get_mut(*name).ok_or("unknown_credential")?;
                *held = value(name, *n);
            }
            Wish::Apply(n, name, key, active) => {
                if *n <= self.generation {
                    return Err("generation_not_newer");
                }
                self.generation = *n;
                self.credentials.insert((*name).to_owned(), value(name, *n));
                self.put(key, *n, name, unmappable);
                self.flow(key)?.active = *active;
            }
            Wish::Deploy(key, n, credential) => self.put(key, *n, credential, unmappable),
            Wish::Update(key, n, credential) => {
                self.flow(key)?;
                self.put(key, *n, credential, unmappable);
            }
            Wish::Activate(key) => self.flow(key)?.active = true,
            Wish::Deactivate(key) => self.flow(key)?.active = false,
            Wish::DeleteWorkflow(key) => {
                self.workflows.remove(*key).ok_or("unknown_workflow")?;
            }
            Wish::DeleteCredential(name) => {
                if !self.credentials.contains_key(*name) {
                    return Err("unknown_credential");
                }
                if self.workflows.values().any(|flow| flow.credential == *name) {
                    return Err("credential_in_use");
                }
                self.credentials.remove(*name);
            }
            Wish::Health | Wish::List | Wish::Verify | Wish::Metrics => {}
        }
        Ok(())
    }

    fn put(&mut self, key: &str, n: u64, credential: &str, unmappable: &mut bool) {
        *unmappable |= !self.credentials.contains_key(credential);
        let active = self.workflows.get(key).is_some_and(|flow| flow.active);
        let flow = Flow { path: path(key, n), credential: credential.to_owned(), active };
        self.workflows.insert(key.to_owned(), flow);
    }

    fn flow(&mut self, key: &str) -> Result<&mut Flow, &'static str> {
        self.workflows.get_mut(key).ok_or("unknown_workflow")
    }
}
