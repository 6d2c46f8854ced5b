//! The desired state of a tenant as one signed document (architecture.md, "Two ways to ask, one way to act").

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::command::{DeployWorkflow, InjectCredential};
use crate::host::HostName;
use crate::id::{CredentialName, WorkflowKey};
use crate::limits::{DESIRED_THINGS_MAX, DOMAINS_MAX};
use crate::seal::Sealed;

/// Payload of `APPLY_STATE`: what is to be there, all of it or none.
///
/// Whatever is managed in n8n and not named here stays as it is, and the answer lists it: only a destructive command
/// deletes. Host names are another matter: nothing is lost with one that goes, so those that are given are all.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DesiredState {
    /// Grows with every document of a tenant, from 1 on. A droplet refuses one that is not newer than what it has.
    pub generation: u64,
    /// Credentials, each once.
    #[serde(default)]
    pub credentials: Vec<InjectCredential>,
    /// Workflows, each once.
    #[serde(default)]
    pub workflows: Vec<DesiredWorkflow>,
    /// Host names; absent means that they stay as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domains: Option<DesiredDomains>,
}

/// The host names that are to lead to n8n beside the configured one, which always does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DesiredDomains {
    /// All of them, each once; what is there and not named goes.
    pub hosts: Vec<HostName>,
    /// The one of them that n8n is to name in its webhook addresses; absent means the configured one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub primary: Option<HostName>,
}

impl DesiredDomains {
    /// Checks what the shape alone does not say.
    ///
    /// # Errors
    /// What is wrong, for people: too many, one given twice, a primary one that is not among them.
    pub fn check(&self) -> Result<(), String> {
        if self.hosts.len() > DOMAINS_MAX {
            return Err(format!("{} hosts; at most {DOMAINS_MAX} are accepted", self.hosts.len()));
        }
        let mut seen = BTreeSet::new();
        if let Some(twice) = self.hosts.iter().find(|host| !seen.insert(*host)) {
            return Err(format!("host {twice} is given twice"));
        }
        match &self.primary {
            Some(primary) if !self.hosts.contains(primary) => {
                Err(format!("primary is {primary}, which is not in hosts"))
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// A workflow and whether it is to run. On the wire a deployment with one member more, `active`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "Wire", into = "Wire")]
pub struct DesiredWorkflow {
    /// What it is made from.
    pub deployment: DeployWorkflow,
    /// Whether it is to run.
    pub active: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    key: WorkflowKey,
    workflow_json: Value,
    #[serde(default)]
    credential_map: BTreeMap<String, CredentialName>,
    #[serde(default)]
    variables: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sealed_variables: Option<Sealed>,
    active: bool,
}

impl From<Wire> for DesiredWorkflow {
    fn from(wire: Wire) -> Self {
        let Wire { key, workflow_json, credential_map, variables, sealed_variables, active } = wire;
        let deployment = DeployWorkflow { key, workflow_json, credential_map, variables, sealed_variables };
        Self { deployment, active }
    }
}

impl From<DesiredWorkflow> for Wire {
    fn from(desired: DesiredWorkflow) -> Self {
        let DeployWorkflow { key, workflow_json, credential_map, variables, sealed_variables } = desired.deployment;
        Self { key, workflow_json, credential_map, variables, sealed_variables, active: desired.active }
    }
}

impl DesiredState {
    /// Checks what the shape alone does not say.
    ///
    /// # Errors
    /// What is wrong, for people: generation 0, a name or key given twice, nothing or too much in it.
    pub fn check(&self) -> Result<(), String> {
        if self.generation == 0 {
            return Err("generation counts from 1".into());
        }
        let things = self.credentials.len() + self.workflows.len();
        if (things == 0 && self.domains.is_none()) || things > DESIRED_THINGS_MAX {
            return Err(format!("{things} credentials and workflows; from 1 to {DESIRED_THINGS_MAX} are accepted"));
        }
        if let Some(domains) = &self.domains {
            domains.check().map_err(|why| format!("domains: {why}"))?;
        }
        let mut names = BTreeSet::new();
        if let Some(twice) = self.credentials.iter().find(|credential| !names.insert(&credential.name)) {
            return Err(format!("credential {} is given twice", twice.name));
        }
        let mut keys = BTreeSet::new();
        match self.workflows.iter().find(|workflow| !keys.insert(&workflow.deployment.key)) {
            Some(twice) => Err(format!("workflow {} is given twice", twice.deployment.key)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn workflow(key: &str) -> Value {
        json!({"key": key, "workflow_json": {"name": "W", "nodes": [], "connections": {}}, "active": true})
    }
    fn read(value: Value) -> Result<DesiredState, serde_json::Error> {
        serde_json::from_value(value)
    }

    #[test]
    fn a_workflow_is_a_deployment_with_one_member_more() {
        let state = read(json!({"generation": 1, "workflows": [workflow("a")]})).unwrap();
        assert!(state.workflows[0].active);
        assert_eq!(state.workflows[0].deployment.key.as_str(), "a");
        assert_eq!(read(serde_json::to_value(&state).unwrap()).unwrap(), state);
        let mut stray = workflow("a");
        stray["activ"] = json!(false);
        assert!(read(json!({"generation": 1, "workflows": [stray]})).is_err(), "an unknown member is refused");
    }

    #[test]
    fn refuses_generation_zero_doubles_and_an_empty_document() {
        let check = |value| read(value).unwrap().check();
        assert!(check(json!({"generation": 0, "workflows": [workflow("a")]})).unwrap_err().contains("from 1"));
        assert!(
            check(json!({"generation": 1, "workflows": [workflow("a"), workflow("a")]})).unwrap_err().contains("twice")
        );
        assert!(check(json!({"generation": 1})).is_err());
        let domains = |domains| check(json!({"generation": 1, "domains": domains}));
        assert!(domains(json!({"hosts": []})).is_ok(), "that none is to be there is something");
        assert!(domains(json!({"hosts": ["a.example", "a.example"]})).unwrap_err().contains("twice"));
        assert!(domains(json!({"hosts": ["a.example"], "primary": "b.example"})).unwrap_err().contains("not in hosts"));
        let many: Vec<String> = (0..=DOMAINS_MAX).map(|n| format!("h{n}.example")).collect();
        assert!(domains(json!({"hosts": many})).unwrap_err().contains("at most"));
        assert!(check(json!({"generation": 1, "workflows": [workflow("a"), workflow("b")]})).is_ok());
    }
}
