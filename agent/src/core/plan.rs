//! Commands + what the journal knows -> a plan: a linear list of steps, complete before the first one runs.
//!
//! Everything that can be refused without touching n8n is refused here, with the whole list of what is wrong.

use std::collections::BTreeMap;

use genesis_shared::command::{Command, DeployWorkflow};
use genesis_shared::id::{CredentialName, CredentialType, WorkflowKey};
use serde::{Deserialize, Serialize};

use crate::core::mapper::{self, Binding, Problem};
use crate::core::step::{CredentialRow, Step, StepError, WorkflowRow};

/// What is to be done, as the journal keeps it.
///
/// IMPORTANT: on disk in running droplets; only add optional fields.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The effects in order.
    pub steps: Vec<Step>,
    /// A failure of a step after this index no longer unwinds; equal to the number of steps while all can be undone.
    pub commit_point: usize,
}

/// The managed things: what the journal knows, and over it what the running command has achieved so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// By managed name.
    pub credentials: BTreeMap<CredentialName, CredentialRow>,
    /// By managed key.
    pub workflows: BTreeMap<WorkflowKey, WorkflowRow>,
}

/// Sealed variables, opened, by index of their command.
pub type OpenedVariables = BTreeMap<usize, BTreeMap<String, String>>;

/// Makes the plan of a bundle's commands.
///
/// # Errors
/// `cannot_map`: placeholders, bindings or types that do not fit, all of them; `unknown_workflow`: an activation of a
/// key that is neither known nor deployed by an earlier command.
pub fn plan(commands: &[Command], known: &Known, opened: &OpenedVariables) -> Result<Plan, StepError> {
    let mut types: BTreeMap<CredentialName, CredentialType> =
        known.credentials.values().map(|row| (row.name.clone(), row.credential_type.clone())).collect();
    let mut keys: Vec<WorkflowKey> = known.workflows.keys().cloned().collect();
    let mut steps = Vec::new();
    let mut problems = Vec::new();
    for (command, wish) in commands.iter().enumerate() {
        match wish {
            Command::HealthCheck => steps.push(Step::CheckHealth { command }),
            Command::InjectCredential(inject) => {
                types.insert(inject.name.clone(), inject.credential_type.clone());
                let (name, credential_type) = (inject.name.clone(), inject.credential_type.clone());
                steps.push(Step::PutCredential { command, name, credential_type });
            }
            Command::DeployWorkflow(deploy) => {
                problems.extend(
                    try_out(deploy, &types, opened.get(&command)).into_iter().map(|p| format!("{}: {p}", deploy.key)),
                );
                keys.push(deploy.key.clone());
                steps.push(Step::PutWorkflow { command, key: deploy.key.clone() });
                steps.push(Step::CheckReferences { command, key: deploy.key.clone() });
            }
            Command::ActivateWorkflow(activate) => {
                if !keys.contains(&activate.key) {
                    return Err(StepError {
                        code: "unknown_workflow".into(),
                        message: format!("workflow {} was never deployed here; deploy it first", activate.key),
                        retryable: false,
                    });
                }
                steps.push(Step::Activate { command, key: activate.key.clone() });
            }
        }
    }
    if !problems.is_empty() {
        let message = format!("nothing was changed; {} to mend: {}", problems.len(), problems.join("; "));
        return Err(StepError { code: "cannot_map".into(), message, retryable: false });
    }
    if steps.iter().any(|step| matches!(step, Step::PutCredential { .. } | Step::PutWorkflow { .. })) {
        steps.push(Step::RemoveDoubles { command: commands.len() - 1 });
    }
    let commit_point = steps.len();
    Ok(Plan { steps, commit_point })
}

/// Maps with made-up ids, which shows every problem of the real mapping.
fn try_out(
    deploy: &DeployWorkflow,
    types: &BTreeMap<CredentialName, CredentialType>,
    opened: Option<&BTreeMap<String, String>>,
) -> Vec<String> {
    let mut problems = Vec::new();
    let mut bindings = BTreeMap::new();
    for (placeholder, name) in &deploy.credential_map {
        match types.get(name) {
            Some(credential_type) => {
                let (n8n_id, n8n_name) = (name.to_string(), name.to_string());
                let binding = Binding { n8n_id, n8n_name, credential_type: credential_type.clone() };
                bindings.insert(placeholder.clone(), binding);
            }
            None => problems.push(format!("{placeholder} is bound to credential {name}, which does not exist here")),
        }
    }
    match all_variables(deploy, opened) {
        Ok(variables) => {
            if let Err(found) = mapper::map(&deploy.workflow_json, &bindings, &variables) {
                // A binding that is missing because its credential is was reported above.
                let known = |problem: &Problem| matches!(problem, Problem::MissingBinding { reference, .. } if deploy.credential_map.contains_key(reference));
                problems.extend(found.iter().filter(|problem| !known(problem)).map(ToString::to_string));
            }
        }
        Err(twice) => problems.push(format!("variable {twice} is given both in clear and sealed")),
    }
    problems
}

/// Clear and sealed variables together.
///
/// # Errors
/// The name of a variable that is given both ways.
pub fn all_variables(
    deploy: &DeployWorkflow,
    opened: Option<&BTreeMap<String, String>>,
) -> Result<BTreeMap<String, String>, String> {
    let mut all = deploy.variables.clone();
    for (name, value) in opened.into_iter().flatten() {
        if all.insert(name.clone(), value.clone()).is_some() {
            return Err(name.clone());
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use genesis_shared::command::{ActivateWorkflow, InjectCredential};
    use genesis_shared::id::PublicKey;
    use genesis_shared::seal::Sealed;
    use serde_json::json;

    fn inject(name: &str, credential_type: &str) -> Command {
        let sealed_data =
            Sealed { recipient: PublicKey::from_bytes([1; 32]), enc: String::new(), ciphertext: String::new() };
        let (name, credential_type) = (name.parse().unwrap(), credential_type.parse().unwrap());
        Command::InjectCredential(InjectCredential { name, credential_type, sealed_data })
    }
    fn deploy(key: &str, slot: &str, bound_to: &str) -> Command {
        let node = json!({"name": "N", "credentials": {slot: {"id": "T", "name": "T"}}});
        Command::DeployWorkflow(Box::new(DeployWorkflow {
            key: key.parse().unwrap(),
            workflow_json: json!({"name": "W", "nodes": [node], "connections": {}}),
            credential_map: BTreeMap::from([("T".to_owned(), bound_to.parse().unwrap())]),
            variables: BTreeMap::new(),
            sealed_variables: None,
        }))
    }
    fn activate(key: &str) -> Command {
        Command::ActivateWorkflow(ActivateWorkflow { key: key.parse().unwrap() })
    }
    fn planned(commands: &[Command]) -> Result<Vec<String>, StepError> {
        let plan = plan(commands, &Known::default(), &OpenedVariables::new())?;
        Ok(plan.steps.iter().map(Step::title).collect())
    }

    #[test]
    fn an_ignition_is_credentials_then_workflows_then_activation() {
        let commands = [inject("mail", "smtp"), deploy("a", "smtp", "mail"), activate("a"), Command::HealthCheck];
        let expected = [
            "put_credential mail",
            "put_workflow a",
            "check_references a",
            "activate a",
            "check_health",
            "remove_doubles",
        ];
        assert_eq!(planned(&commands).unwrap(), expected);
    }

    #[test]
    fn refuses_a_missing_credential_before_anything_is_written() {
        let error = planned(&[deploy("a", "smtp", "mail")]).unwrap_err();
        assert_eq!(error.code, "cannot_map");
        assert!(error.message.contains("mail, which does not exist"), "{}", error.message);
    }

    #[test]
    fn refuses_a_credential_of_the_wrong_type() {
        let error = planned(&[inject("mail", "postgres"), deploy("a", "smtp", "mail")]).unwrap_err();
        assert!(error.message.contains("asks for a credential of type smtp"), "{}", error.message);
    }

    #[test]
    fn refuses_to_activate_what_was_never_deployed() {
        assert_eq!(planned(&[activate("a"), deploy("a", "smtp", "x")]).unwrap_err().code, "unknown_workflow");
    }

    #[test]
    fn refuses_a_variable_given_in_clear_and_sealed() {
        let Command::DeployWorkflow(mut wish) = deploy("a", "smtp", "mail") else { unreachable!() };
        wish.variables.insert("YOUR_X".into(), "1".into());
        let opened = BTreeMap::from([("YOUR_X".to_owned(), "2".to_owned())]);
        assert_eq!(all_variables(&wish, Some(&opened)).unwrap_err(), "YOUR_X");
    }
}
