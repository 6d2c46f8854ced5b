//! Ignition: from the Golden Template, a tenant's credentials and variables to the commands of one bundle.
//!
//! The template is part of this binary, so that an operator's laptop and CI ignite the very same workflows.

use std::collections::BTreeMap;

use genesis_shared::command::{Action, CommandWire, DeployWorkflow, WorkflowRef};
use genesis_shared::id::{CredentialName, CredentialType, WorkflowKey};
use genesis_shared::secret::Secret;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::Error;
use crate::sealing::{self, Recipient};

/// The hub's queue for ignitions.
pub const QUEUE: &str = "ignition";
/// Priority of an ignition: critical, a customer waits for it.
pub const PRIORITY: u8 = 1;

/// Names a workflow's two files once.
macro_rules! golden {
    ($($key:literal),* $(,)?) => {
        &[$((
            include_str!(concat!("../golden-template/", $key, ".json")),
            include_str!(concat!("../golden-template/", $key, ".manifest.json")),
        )),*]
    };
}

/// Workflow and manifest of each, in the order in which they are deployed.
const GOLDEN: &[(&str, &str)] =
    golden!("research-report", "email-preparation", "email-1", "email-2", "email-3", "reply-tracker", "opt-out",);

/// What a workflow of the template needs.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The managed workflow's key.
    pub key: WorkflowKey,
    /// For people.
    pub name: String,
    /// For people.
    pub description: String,
    /// Credential placeholders.
    pub credentials: BTreeMap<String, Needed>,
    /// Variables.
    pub variables: Vec<String>,
    /// Webhooks it answers.
    pub webhooks: Vec<Webhook>,
}

/// A credential that a workflow needs.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Needed {
    /// n8n's type.
    #[serde(rename = "type")]
    pub credential_type: CredentialType,
    /// For people.
    pub description: String,
}

/// A webhook that a workflow answers.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    /// HTTP method.
    pub method: String,
    /// Path below n8n's webhook endpoint.
    pub path: String,
}

/// A workflow with its manifest.
#[derive(Clone, Debug, PartialEq)]
pub struct TemplateWorkflow {
    /// What it needs.
    pub manifest: Manifest,
    /// n8n's JSON with placeholders.
    pub workflow_json: Value,
}

/// Workflows that are ignited together.
#[derive(Clone, Debug, PartialEq)]
pub struct Template {
    /// In the order in which they are deployed.
    pub workflows: Vec<TemplateWorkflow>,
}

impl Template {
    /// The Golden Template of this binary.
    ///
    /// # Errors
    /// [`Error::Json`] where one of its files is broken; a test reads them all.
    pub fn golden() -> Result<Self, Error> {
        Ok(Self {
            workflows: GOLDEN.iter().map(|(workflow, manifest)| read(workflow, manifest)).collect::<Result<_, _>>()?,
        })
    }

    /// Every credential placeholder with its type.
    ///
    /// # Errors
    /// [`Error::Template`] where two workflows want different types under one placeholder.
    pub fn placeholders(&self) -> Result<BTreeMap<String, CredentialType>, Error> {
        let mut all: BTreeMap<String, CredentialType> = BTreeMap::new();
        for (placeholder, needed) in self.workflows.iter().flat_map(|workflow| &workflow.manifest.credentials) {
            let wanted = &needed.credential_type;
            let known = all.entry(placeholder.clone()).or_insert_with(|| wanted.clone());
            if known != wanted {
                return Err(Error::Template(format!("{placeholder} is wanted as {known} and as {wanted}")));
            }
        }
        Ok(all)
    }
}

fn read(workflow: &str, manifest: &str) -> Result<TemplateWorkflow, Error> {
    let manifest: Manifest = genesis_shared::json::parse_as(manifest.as_bytes())
        .map_err(|source| Error::Json { what: "a manifest of the template".into(), source })?;
    let workflow_json = genesis_shared::json::parse(workflow.as_bytes())
        .map_err(|source| Error::Json { what: format!("workflow {} of the template", manifest.key), source })?;
    Ok(TemplateWorkflow { manifest, workflow_json })
}

/// The managed name for a placeholder: `TEMPLATE_LEADS_DB_UUID` -> `leads-db`.
///
/// # Errors
/// [`Error::Id`] where nothing usable is left of it.
pub fn credential_name(placeholder: &str) -> Result<CredentialName, Error> {
    let bare = placeholder.strip_prefix("TEMPLATE_").unwrap_or(placeholder);
    let bare = bare.strip_suffix("_UUID").unwrap_or(bare);
    Ok(bare.to_ascii_lowercase().replace('_', "-").parse()?)
}

/// What a tenant brings to a template.
#[derive(Debug)]
pub struct Tenant {
    /// The droplet that secrets are sealed to.
    pub recipient: Recipient,
    /// Credential placeholder -> n8n's `data` object as JSON text.
    pub credentials: BTreeMap<String, Secret<Vec<u8>>>,
    /// Variable -> value, readable by the hub.
    pub variables: BTreeMap<String, String>,
    /// Variable -> value, sealed.
    pub secret_variables: BTreeMap<String, Secret<String>>,
}

/// The commands of one ignition, in order: every credential, every workflow, every activation, a health check.
///
/// `entropy` gives 32 fresh random bytes for each thing that is sealed.
///
/// # Errors
/// [`Error::Template`] where the tenant lacks a credential or variable that a manifest names, [`Error::Seal`].
pub fn commands(
    template: &Template,
    tenant: &Tenant,
    mut entropy: impl FnMut() -> Result<[u8; 32], Error>,
) -> Result<Vec<CommandWire>, Error> {
    let mut commands = Vec::new();
    for (placeholder, credential_type) in template.placeholders()? {
        let data = tenant.credentials.get(&placeholder);
        let data = data.ok_or_else(|| Error::Template(format!("no credential is given for {placeholder}")))?;
        let name = credential_name(&placeholder)?;
        commands.push(sealing::credential(tenant.recipient, &name, &credential_type, data, entropy()?)?);
    }
    for workflow in &template.workflows {
        commands.push(deploy(workflow, tenant, &mut entropy)?);
    }
    for workflow in &template.workflows {
        let payload = WorkflowRef { key: workflow.manifest.key.clone() };
        commands.push(wire(Action::ActivateWorkflow, &payload));
    }
    commands.push(CommandWire { action: Action::HealthCheck.name().to_owned(), payload: None });
    Ok(commands)
}

fn deploy(
    workflow: &TemplateWorkflow,
    tenant: &Tenant,
    entropy: &mut impl FnMut() -> Result<[u8; 32], Error>,
) -> Result<CommandWire, Error> {
    let manifest = &workflow.manifest;
    let (mut variables, mut secret) = (BTreeMap::new(), BTreeMap::new());
    for name in &manifest.variables {
        if let Some(value) = tenant.secret_variables.get(name) {
            secret.insert(name, value.expose());
        } else if let Some(value) = tenant.variables.get(name) {
            variables.insert(name.clone(), value.clone());
        } else {
            return Err(Error::Template(format!("workflow {} needs a value for {name}", manifest.key)));
        }
    }
    let sealed_variables = if secret.is_empty() {
        None
    } else {
        let text = Secret::new(serde_json::to_vec(&secret).expect("texts have a JSON form"));
        Some(sealing::variables(tenant.recipient, &manifest.key, &text, entropy()?)?)
    };
    let bind = |placeholder: &String| Ok((placeholder.clone(), credential_name(placeholder)?));
    let payload = DeployWorkflow {
        key: manifest.key.clone(),
        workflow_json: workflow.workflow_json.clone(),
        credential_map: manifest.credentials.keys().map(bind).collect::<Result<_, Error>>()?,
        variables,
        sealed_variables,
    };
    Ok(wire(Action::DeployWorkflow, &payload))
}

fn wire(action: Action, payload: &impl Serialize) -> CommandWire {
    let payload = serde_json::to_value(payload).expect("a payload has a JSON form");
    CommandWire { action: action.name().to_owned(), payload: Some(payload) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::values;
    use crate::keys::{Kind, PrivateKey, SigningKey};
    use crate::orders::{self, Spec};
    use genesis_shared::bundle::Targets;
    use genesis_shared::id::BundleId;

    fn recipient() -> Recipient {
        let key = PrivateKey::new("d".parse().unwrap(), Kind::Recovery, [7; 32]).public().unwrap().public_key;
        Recipient { workspace: "0192f0a1-1111-7000-8000-000000000001".parse().unwrap(), key }
    }

    #[test]
    fn the_golden_template_has_seven_workflows_with_manifests_that_tell_the_truth() {
        let template = Template::golden().unwrap();
        assert_eq!(template.workflows.len(), 7);
        for workflow in &template.workflows {
            let text = workflow.workflow_json.to_string();
            for placeholder in workflow.manifest.credentials.keys() {
                assert!(text.contains(&format!("\"{placeholder}\"")), "{} {placeholder}", workflow.manifest.key);
            }
            for variable in &workflow.manifest.variables {
                assert!(text.contains(variable.as_str()), "{} {variable}", workflow.manifest.key);
            }
        }
    }

    #[test]
    fn an_ignition_fits_into_one_bundle_that_check_accepts() {
        let template = Template::golden().unwrap();
        let tenant = values::tenant(&template, recipient()).unwrap();
        let commands = commands(&template, &tenant, || Ok([9; 32])).unwrap();
        let credentials = template.placeholders().unwrap().len();
        assert_eq!(commands.len(), credentials + 7 + 7 + 1);

        let key: SigningKey = PrivateKey::new("ops-1".parse().unwrap(), Kind::Signing, [1; 32]).signing().unwrap();
        let targets = Targets::Workspaces(vec![tenant.recipient.workspace]);
        let spec = Spec::of(targets, QUEUE, PRIORITY, commands);
        let (_, document) =
            orders::sign(spec, &[key], BundleId::from_random([1; 16]), "2026-11-24T22:00:00Z".parse().unwrap())
                .unwrap();
        assert!(!document.to_text().contains(values::WEBHOOK_TOKEN), "secrets stay sealed");
    }

    #[test]
    fn names_the_credential_or_variable_that_is_missing() {
        let template = Template::golden().unwrap();
        let mut tenant = values::tenant(&template, recipient()).unwrap();
        tenant.variables.remove("YOUR_NAME");
        let refused = commands(&template, &tenant, || Ok([9; 32])).unwrap_err();
        assert!(refused.to_string().contains("YOUR_NAME"), "{refused}");
        tenant.credentials.remove("TEMPLATE_GMAIL_UUID");
        let refused = commands(&template, &tenant, || Ok([9; 32])).unwrap_err();
        assert!(refused.to_string().contains("TEMPLATE_GMAIL_UUID"), "{refused}");
    }

    #[test]
    fn a_placeholder_becomes_a_plain_name() {
        assert_eq!(credential_name("TEMPLATE_LEADS_DB_UUID").unwrap().as_str(), "leads-db");
        assert!(credential_name("TEMPLATE__UUID").is_err());
    }
}
