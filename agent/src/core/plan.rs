//! Commands + what the journal knows -> a plan: a linear list of steps, complete before the first one runs.
//!
//! Everything that can be refused without touching n8n is refused here, with the whole list of what is wrong.

use std::collections::{BTreeMap, BTreeSet};

use genesis_shared::command::{Command, DeployWorkflow, InjectCredential};
use genesis_shared::desired::DesiredState;
use genesis_shared::id::{CredentialName, CredentialType, WorkflowKey};
use genesis_shared::stack::StackCommand;
use serde::{Deserialize, Serialize};

use crate::core::domains;
use crate::core::mapper::{self, Binding, Problem};
use crate::core::stack::{StackRow, StackSettings};
use crate::core::step::{CredentialRow, Step, StepError, WorkflowRow};
use crate::core::swap::{self, StackStep};
use crate::core::update;

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
    /// The generation of the desired state that was applied last; 0 before the first.
    pub generation: u64,
    /// What the stack is to be.
    pub stack: StackRow,
}

/// Sealed variables, opened, by index of their command and the workflow they are for.
pub type OpenedVariables = BTreeMap<(usize, WorkflowKey), BTreeMap<String, String>>;

/// Which managed workflows use a credential.
pub type Uses = BTreeMap<CredentialName, BTreeSet<WorkflowKey>>;

/// Makes the plan of a bundle's commands. `uses` tells which credentials are in use before they run.
///
/// # Errors
/// `cannot_map`: placeholders, bindings or types that do not fit, all of them; `unknown_workflow`,
/// `unknown_credential`: a key or name that is neither known nor brought by an earlier command; `credential_in_use`;
/// `no_stack`, `must_be_alone`: a command for a stack that is not looked after, or that must not share its bundle;
/// those of [`domains`];
/// `generation_not_newer`: a desired state that was applied already, or one before it.
pub fn plan(
    commands: &[Command],
    known: &Known,
    uses: Uses,
    opened: &OpenedVariables,
    settings: Option<&StackSettings>,
) -> Result<Plan, StepError> {
    let types = known.credentials.values().map(|row| (row.name.clone(), row.credential_type.clone())).collect();
    let keys = known.workflows.keys().cloned().collect();
    let generation = known.generation;
    let mut planner = Planner {
        commands,
        types,
        keys,
        uses,
        generation,
        stack: (settings, known.stack.clone()),
        opened,
        replaces: false,
        steps: Vec::new(),
        problems: Vec::new(),
    };
    for (command, wish) in commands.iter().enumerate() {
        planner.add(command, wish)?;
    }
    planner.finish(commands.len() - 1)
}

/// What is there as the commands go by.
struct Planner<'a> {
    commands: &'a [Command],
    types: BTreeMap<CredentialName, CredentialType>,
    keys: BTreeSet<WorkflowKey>,
    uses: Uses,
    generation: u64,
    /// How the stack is set up, and what it is to be as the commands go by.
    stack: (Option<&'a StackSettings>, StackRow),
    opened: &'a OpenedVariables,
    /// Whether a credential may be replaced by another one, whose predecessor is removed in the end.
    replaces: bool,
    steps: Vec<Step>,
    problems: Vec<String>,
}

impl Planner<'_> {
    fn add(&mut self, command: usize, wish: &Command) -> Result<(), StepError> {
        let step = match wish {
            Command::HealthCheck => Step::CheckHealth { command },
            Command::ListState => Step::ListState { command },
            Command::Verify => Step::Verify { command },
            Command::CollectMetrics(_) => Step::CollectMetrics { command },
            Command::InjectCredential(inject) => {
                self.put_credential(command, inject);
                return Ok(());
            }
            Command::RotateCredential(inject) => {
                self.must_exist(&inject.name)?;
                self.put_credential(command, inject);
                return Ok(());
            }
            Command::ApplyState(state) => return self.apply(command, state),
            Command::DeployWorkflow(deploy) => {
                self.put_workflow(command, deploy);
                return Ok(());
            }
            Command::UpdateWorkflow(deploy) => {
                self.must_know(&deploy.key)?;
                self.put_workflow(command, deploy);
                return Ok(());
            }
            Command::ActivateWorkflow(target) => {
                self.must_know(&target.key)?;
                Step::Activate { command, key: target.key.clone() }
            }
            Command::DeactivateWorkflow(target) => {
                self.must_know(&target.key)?;
                Step::Deactivate { command, key: target.key.clone() }
            }
            Command::DeleteWorkflow(target) => {
                self.must_know(&target.key)?;
                self.keys.remove(&target.key);
                self.forget_uses(&target.key);
                Step::DeleteWorkflow { command, key: target.key.clone() }
            }
            Command::DeleteCredential(target) => {
                self.must_be_unused(&target.name)?;
                self.types.remove(&target.name);
                Step::DeleteCredential { command, name: target.name.clone() }
            }
            Command::Stack(wish) => return self.stack(command, wish),
            Command::UpdateAgent(wish) => {
                self.must_be_alone("UPDATE_AGENT")?;
                self.steps.extend(update::steps(command, wish));
                return Ok(());
            }
        };
        self.steps.push(step);
        Ok(())
    }

    /// The steps for the stack. What stops or replaces something is alone in its bundle.
    fn stack(&mut self, command: usize, wish: &StackCommand) -> Result<(), StepError> {
        let refuse = |code: &str, message: String| StepError { code: code.into(), message, retryable: false };
        let action = wish.action();
        let (Some(settings), row) = (self.stack.0, &self.stack.1) else { return Err(no_stack(action.name())) };
        if wish.must_be_alone() {
            self.must_be_alone(action.name())?;
        }
        let refused = |(code, message): (&str, String)| refuse(code, message);
        if let Some(step) = domains::step(wish, settings, row) {
            self.put_domains(command, step.map_err(refused)?);
            return Ok(());
        }
        let steps = swap::steps(wish, |service| row.image(service, settings).cloned(), row).map_err(refused)?;
        self.steps.extend(steps.into_iter().map(|step| Step::Stack { command, step }));
        Ok(())
    }

    /// What ends in the middle of a process, or stops n8n, shares its bundle with nothing that would have to be undone.
    fn must_be_alone(&self, action: &str) -> Result<(), StepError> {
        if self.commands.len() == 1 {
            return Ok(());
        }
        let message = format!("{action} must be the only command of its bundle; sign the others in one of their own");
        Err(StepError { code: "must_be_alone".into(), message, retryable: false })
    }

    fn put_domains(&mut self, command: usize, step: StackStep) {
        if let StackStep::PutDomains { stack, .. } = &step {
            self.stack.1 = stack.clone();
        }
        self.steps.push(Step::Stack { command, step });
    }

    /// The steps of the single commands, and a last one that notes what was applied.
    fn apply(&mut self, command: usize, state: &DesiredState) -> Result<(), StepError> {
        if state.generation <= self.generation {
            let (wished, applied) = (state.generation, self.generation);
            let message = format!("generation {wished} is not newer than {applied}, which is applied here; raise it");
            return Err(StepError { code: "generation_not_newer".into(), message, retryable: false });
        }
        self.generation = state.generation;
        // First: a host name that leads elsewhere is found out before anything is changed.
        if let Some(wish) = &state.domains {
            let settings = self.stack.0.ok_or_else(|| no_stack("APPLY_STATE with domains"))?;
            let step = domains::set(wish, settings, &self.stack.1);
            self.put_domains(command, step);
        }
        for inject in &state.credentials {
            self.put_credential(command, inject);
        }
        for workflow in &state.workflows {
            self.put_workflow(command, &workflow.deployment);
        }
        for workflow in &state.workflows {
            let key = workflow.deployment.key.clone();
            self.steps.push(match workflow.active {
                true => Step::Activate { command, key },
                false => Step::Deactivate { command, key },
            });
        }
        self.steps.push(Step::NoteGeneration { command });
        Ok(())
    }

    /// A credential that is there may get another id, where n8n cannot update credentials: what uses it follows.
    fn put_credential(&mut self, command: usize, inject: &InjectCredential) {
        let (name, credential_type) = (inject.name.clone(), inject.credential_type.clone());
        self.steps.push(Step::PutCredential { command, name, credential_type });
        let was_there = self.types.insert(inject.name.clone(), inject.credential_type.clone()).is_some();
        if was_there {
            self.replaces = true;
            for key in self.uses.get(&inject.name).into_iter().flatten() {
                let is_put_later = self.commands[command..].iter().any(|wish| wish.deployment(key).is_some());
                if !is_put_later {
                    self.steps.push(Step::Repoint { command, key: key.clone() });
                }
            }
        }
    }

    fn put_workflow(&mut self, command: usize, deploy: &DeployWorkflow) {
        let opened = self.opened.get(&(command, deploy.key.clone()));
        let found = try_out(deploy, &self.types, opened);
        self.problems.extend(found.into_iter().map(|problem| format!("{}: {problem}", deploy.key)));
        self.keys.insert(deploy.key.clone());
        self.forget_uses(&deploy.key);
        for name in deploy.credential_map.values() {
            self.uses.entry(name.clone()).or_default().insert(deploy.key.clone());
        }
        self.steps.push(Step::PutWorkflow { command, key: deploy.key.clone() });
        self.steps.push(Step::CheckReferences { command, key: deploy.key.clone() });
    }

    fn forget_uses(&mut self, key: &WorkflowKey) {
        for keys in self.uses.values_mut() {
            keys.remove(key);
        }
    }

    fn must_know(&self, key: &WorkflowKey) -> Result<(), StepError> {
        if self.keys.contains(key) {
            return Ok(());
        }
        let message = format!("workflow {key} was never deployed here; deploy it first");
        Err(StepError { code: "unknown_workflow".into(), message, retryable: false })
    }

    fn must_be_unused(&self, name: &CredentialName) -> Result<(), StepError> {
        self.must_exist(name)?;
        let users: Vec<&str> = self.uses.get(name).into_iter().flatten().map(WorkflowKey::as_str).collect();
        if users.is_empty() {
            return Ok(());
        }
        let message = format!("credential {name} is used by {}; delete or update them first", users.join(", "));
        Err(StepError { code: "credential_in_use".into(), message, retryable: false })
    }

    fn must_exist(&self, name: &CredentialName) -> Result<(), StepError> {
        if self.types.contains_key(name) {
            return Ok(());
        }
        let message = format!("credential {name} was never injected here; inject it first");
        Err(StepError { code: "unknown_credential".into(), message, retryable: false })
    }

    fn finish(mut self, last: usize) -> Result<Plan, StepError> {
        if !self.problems.is_empty() {
            let (count, list) = (self.problems.len(), self.problems.join("; "));
            let message = format!("nothing was changed; {count} to mend: {list}");
            return Err(StepError { code: "cannot_map".into(), message, retryable: false });
        }
        if self.steps.iter().any(|step| matches!(step, Step::PutCredential { .. } | Step::PutWorkflow { .. })) {
            self.steps.push(Step::RemoveDoubles { command: last });
        }
        let without_a_way_back = |step: &Step| step.is_final() || (self.replaces && step.is_clearing());
        let commit_point = self.steps.iter().position(without_a_way_back).unwrap_or(self.steps.len());
        Ok(Plan { steps: self.steps, commit_point })
    }
}

fn no_stack(what: &str) -> StepError {
    let message = format!("{what}: this agent looks after no stack; its configuration has no [stack]");
    StepError { code: "no_stack".into(), message, retryable: false }
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
    use genesis_shared::command::{CredentialRef, InjectCredential, WorkflowRef};
    use genesis_shared::desired::DesiredWorkflow;
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
        Command::ActivateWorkflow(WorkflowRef { key: key.parse().unwrap() })
    }
    fn planned(commands: &[Command]) -> Result<Vec<String>, StepError> {
        let plan = plan(commands, &Known::default(), Uses::new(), &OpenedVariables::new(), None)?;
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

    fn rotate(name: &str, credential_type: &str) -> Command {
        let Command::InjectCredential(inject) = inject(name, credential_type) else { unreachable!() };
        Command::RotateCredential(inject)
    }
    fn state(generation: u64) -> Command {
        let Command::InjectCredential(credential) = inject("mail", "smtp") else { unreachable!() };
        let Command::DeployWorkflow(deployment) = deploy("a", "smtp", "mail") else { unreachable!() };
        let workflows = vec![DesiredWorkflow { deployment: *deployment, active: true }];
        Command::ApplyState(Box::new(DesiredState {
            generation,
            credentials: vec![credential],
            workflows,
            domains: None,
        }))
    }

    #[test]
    fn what_uses_a_credential_follows_it_before_the_old_one_goes() {
        let commands = [inject("mail", "smtp"), deploy("a", "smtp", "mail"), rotate("mail", "smtp")];
        let plan = plan(&commands, &Known::default(), Uses::new(), &OpenedVariables::new(), None).unwrap();
        let titles: Vec<_> = plan.steps.iter().map(Step::title).collect();
        assert_eq!(titles[3..], ["put_credential mail", "repoint a", "remove_doubles"]);
        assert_eq!(plan.commit_point, 5, "there is no way back once the old one is gone");
        assert_eq!(planned(&[rotate("mail", "smtp")]).unwrap_err().code, "unknown_credential");
    }

    #[test]
    fn what_is_put_later_in_the_bundle_is_not_re_pointed_first() {
        let commands =
            [inject("mail", "smtp"), deploy("a", "smtp", "mail"), inject("mail", "smtp"), deploy("a", "smtp", "mail")];
        assert!(!planned(&commands).unwrap().contains(&"repoint a".to_owned()));
    }

    #[test]
    fn a_desired_state_is_the_single_commands_and_its_generation() {
        let expected = [
            "put_credential mail",
            "put_workflow a",
            "check_references a",
            "activate a",
            "note_generation",
            "remove_doubles",
        ];
        assert_eq!(planned(&[state(1)]).unwrap(), expected);
        assert_eq!(planned(&[state(2), state(2)]).unwrap_err().code, "generation_not_newer");
        let known = Known { generation: 5, ..Known::default() };
        let old = plan(&[state(5)], &known, Uses::new(), &OpenedVariables::new(), None);
        assert_eq!(old.unwrap_err().code, "generation_not_newer");
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
    fn a_deletion_is_where_the_way_back_ends() {
        let delete = Command::DeleteWorkflow(WorkflowRef { key: "a".parse().unwrap() });
        let commands = [inject("mail", "smtp"), deploy("a", "smtp", "mail"), delete, Command::HealthCheck];
        let plan = plan(&commands, &Known::default(), Uses::new(), &OpenedVariables::new(), None).unwrap();
        assert_eq!(plan.steps[plan.commit_point].title(), "delete_workflow a");
    }

    #[test]
    fn refuses_to_delete_a_credential_that_is_used_and_allows_it_once_it_is_not() {
        let drop_credential = || Command::DeleteCredential(CredentialRef { name: "mail".parse().unwrap() });
        let drop_workflow = Command::DeleteWorkflow(WorkflowRef { key: "a".parse().unwrap() });
        let used = [inject("mail", "smtp"), deploy("a", "smtp", "mail"), drop_credential()];
        assert_eq!(planned(&used).unwrap_err().code, "credential_in_use");
        let [first, second, third] = used;
        assert!(planned(&[first, second, drop_workflow, third]).is_ok());
        assert_eq!(planned(&[drop_credential()]).unwrap_err().code, "unknown_credential");
    }

    #[test]
    fn refuses_a_variable_given_in_clear_and_sealed() {
        let Command::DeployWorkflow(mut wish) = deploy("a", "smtp", "mail") else { unreachable!() };
        wish.variables.insert("YOUR_X".into(), "1".into());
        let opened = BTreeMap::from([("YOUR_X".to_owned(), "2".to_owned())]);
        assert_eq!(all_variables(&wish, Some(&opened)).unwrap_err(), "YOUR_X");
    }
}
