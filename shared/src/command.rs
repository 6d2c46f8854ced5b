//! Everything an operator can ask of a droplet, as plain data.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::desired::DesiredState;
use crate::id::{CredentialName, CredentialType, WorkflowKey};
use crate::json;
use crate::limits::LOG_LINES_MAX;
use crate::seal::Sealed;
use crate::stack::{AddDomains, GetLogs, RemoveDomains, StackCommand};
use crate::timestamp::Timestamp;
use crate::update::UpdateAgent;

/// How much harm an action can do; the trust root asks for a number of distinct signers per class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// Changes nothing.
    Read,
    /// Changes how the droplet runs, not what it holds.
    Operate,
    /// Changes what the droplet holds; can be undone.
    Change,
    /// Cannot be undone.
    Destroy,
}

/// Declares [`Action`] with its names and classes in one table (protocol.md, "Actions").
macro_rules! actions {
    ($($variant:ident $name:literal $class:ident,)*) => {
        /// What a command does. The list is complete; an agent that cannot do one yet refuses it by name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Action { $(#[doc = $name] $variant,)* }

        impl Action {
            /// Every action.
            pub const ALL: &[Action] = &[$(Action::$variant,)*];
            /// The name on the wire.
            pub fn name(self) -> &'static str { match self { $(Action::$variant => $name,)* } }
            /// The class of harm.
            pub fn class(self) -> Class { match self { $(Action::$variant => Class::$class,)* } }
        }
        impl FromStr for Action {
            type Err = CommandError;
            fn from_str(text: &str) -> Result<Self, CommandError> {
                match text {
                    $($name => Ok(Action::$variant),)*
                    other => Err(CommandError::UnknownAction(other.chars().take(80).collect())),
                }
            }
        }
    };
}

actions! {
    HealthCheck "HEALTH_CHECK" Read,
    CollectMetrics "COLLECT_METRICS" Read,
    GetLogs "GET_LOGS" Read,
    ListState "LIST_STATE" Read,
    Verify "VERIFY" Read,
    DeployWorkflow "DEPLOY_WORKFLOW" Change,
    UpdateWorkflow "UPDATE_WORKFLOW" Change,
    ActivateWorkflow "ACTIVATE_WORKFLOW" Change,
    DeactivateWorkflow "DEACTIVATE_WORKFLOW" Change,
    DeleteWorkflow "DELETE_WORKFLOW" Destroy,
    DeleteCredential "DELETE_CREDENTIAL" Destroy,
    InjectCredential "INJECT_CREDENTIAL" Change,
    RotateCredential "ROTATE_CREDENTIAL" Change,
    ApplyState "APPLY_STATE" Change,
    AddTrackingDomain "ADD_TRACKING_DOMAIN" Change,
    RemoveTrackingDomain "REMOVE_TRACKING_DOMAIN" Change,
    RestartN8n "RESTART_N8N" Operate,
    PullImage "PULL_IMAGE" Operate,
    SwapContainer "SWAP_CONTAINER" Operate,
    Backup "BACKUP" Operate,
    Restore "RESTORE" Destroy,
    Quiesce "QUIESCE" Operate,
    UpdateAgent "UPDATE_AGENT" Operate,
    Suspend "SUSPEND" Operate,
    ResumeService "RESUME_SERVICE" Operate,
    Decommission "DECOMMISSION" Destroy,
}

impl Action {
    /// Whether it is about the containers of the stack, so that an agent that looks after none refuses it (`no_stack`).
    pub fn needs_stack(self) -> bool {
        matches!(
            self,
            Self::GetLogs
                | Self::AddTrackingDomain
                | Self::RemoveTrackingDomain
                | Self::RestartN8n
                | Self::PullImage
                | Self::SwapContainer
                | Self::Backup
                | Self::Restore
                | Self::Quiesce
                | Self::Suspend
                | Self::ResumeService
        )
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An action label for people: an ignition has twenty actions, so equal ones in a row are counted.
pub fn grouped(label: &str) -> String {
    let mut groups: Vec<(&str, usize)> = Vec::new();
    for action in label.split(',') {
        match groups.last_mut() {
            Some((last, count)) if *last == action => *count += 1,
            Some(_) | None => groups.push((action, 1)),
        }
    }
    let text = |(action, count)| if count == 1 { String::from(action) } else { format!("{count} x {action}") };
    groups.into_iter().map(text).collect::<Vec<_>>().join(", ")
}

/// Why a command of a bundle cannot be run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// No such action in the protocol.
    #[error("no action is called {0:?}; see the table of actions in the protocol")]
    UnknownAction(String),
    /// An action of the protocol that this version does not run.
    #[error("{0} is not supported by this version of the agent; update it, or send another action")]
    Unsupported(Action),
    /// A payload that does not have the shape of its action.
    #[error("the payload of {action} is not acceptable: {why}")]
    Payload {
        /// The action.
        action: Action,
        /// What is wrong, from the parser.
        why: String,
    },
}

impl CommandError {
    /// Stable machine-readable name.
    pub fn code(&self) -> &'static str {
        match self {
            Self::UnknownAction(_) => "unknown_action",
            Self::Unsupported(_) => "unsupported_action",
            Self::Payload { .. } => "invalid_payload",
        }
    }
}

/// One command as it stands in a bundle.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandWire {
    /// The name of an [`Action`].
    pub action: String,
    /// The action's parameters; `{}` or absent where it has none.
    #[serde(default, deserialize_with = "json::value_at::<3, _>", skip_serializing_if = "Option::is_none")]
    pub payload: Option<Value>,
}

/// A command that this version understands.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Answers with the health of n8n and the host.
    HealthCheck,
    /// Answers with what is managed here.
    ListState,
    /// Answers with what differs from what is managed here; changes nothing.
    Verify,
    /// Answers with counts of executions; never with content.
    CollectMetrics(CollectMetrics),
    /// Puts a credential into n8n.
    InjectCredential(InjectCredential),
    /// Puts new data behind a credential that is there already; workflows that use it go on working.
    RotateCredential(InjectCredential),
    /// Makes n8n what a document says.
    ApplyState(Box<DesiredState>),
    /// Puts a workflow into n8n, its credentials and variables mapped.
    DeployWorkflow(Box<DeployWorkflow>),
    /// As a deployment, of a workflow that must be there already.
    UpdateWorkflow(Box<DeployWorkflow>),
    /// Makes a deployed workflow run.
    ActivateWorkflow(WorkflowRef),
    /// Stops a deployed workflow.
    DeactivateWorkflow(WorkflowRef),
    /// Deletes a deployed workflow with its history. Cannot be undone.
    DeleteWorkflow(WorkflowRef),
    /// Deletes a credential that no managed workflow uses. Cannot be undone.
    DeleteCredential(CredentialRef),
    /// Does something with the stack around n8n.
    Stack(StackCommand),
    /// Puts another version of the agent in this one's place, on probation.
    UpdateAgent(UpdateAgent),
}

/// Payload of `COLLECT_METRICS`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CollectMetrics {
    /// Executions that began before are not counted; absent means the last 24 hours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
}

/// Payload of `DELETE_CREDENTIAL`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CredentialRef {
    /// The managed credential's name.
    pub name: CredentialName,
}

/// Payload of `INJECT_CREDENTIAL` and `ROTATE_CREDENTIAL`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InjectCredential {
    /// The name that workflows are bound to.
    pub name: CredentialName,
    /// n8n's type, for example `smtp`.
    pub credential_type: CredentialType,
    /// n8n's `data` object for that type, sealed to the droplet with [`crate::seal::Context::credential`].
    pub sealed_data: Sealed,
}

/// Payload of `DEPLOY_WORKFLOW`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeployWorkflow {
    /// The managed workflow's key; deploying it again updates the same n8n workflow.
    pub key: WorkflowKey,
    /// The template: `name`, `nodes`, `connections`, `settings`; other keys of an n8n export are dropped.
    pub workflow_json: Value,
    /// Credential placeholder (`TEMPLATE_…`) -> name of the managed credential.
    #[serde(default)]
    pub credential_map: BTreeMap<String, CredentialName>,
    /// Variable (`YOUR_…`) -> value. Readable by the hub: nothing secret here.
    #[serde(default)]
    pub variables: BTreeMap<String, String>,
    /// More variables as a JSON object of strings, sealed with [`crate::seal::Context::variables`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed_variables: Option<Sealed>,
}

/// Payload of `ACTIVATE_WORKFLOW`, `DEACTIVATE_WORKFLOW`, `DELETE_WORKFLOW`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkflowRef {
    /// The managed workflow's key.
    pub key: WorkflowKey,
}

impl CommandWire {
    /// Reads the command.
    ///
    /// # Errors
    /// Unknown or unsupported action, or a payload without that action's shape.
    pub fn parse(&self) -> Result<Command, CommandError> {
        command(&self.action, self.payload.as_ref())
    }

    /// The same, without a copy.
    ///
    /// # Errors
    /// As [`CommandWire::parse`].
    pub fn into_command(self) -> Result<Command, CommandError> {
        command(&self.action, self.payload)
    }
}

/// The member that holds a workflow.
const WORKFLOW_JSON: &str = "workflow_json";

/// Where a payload is read from: kept, or given away.
trait Source {
    fn read<T: DeserializeOwned>(self) -> serde_json::Result<T>;

    /// Reads a deployment; its workflow is as large as all else together many times over.
    fn read_deployment(self) -> serde_json::Result<DeployWorkflow>
    where
        Self: Sized,
    {
        self.read()
    }
}

impl Source for Option<Value> {
    fn read<T: DeserializeOwned>(self) -> serde_json::Result<T> {
        serde_json::from_value(self.unwrap_or_else(|| Value::Object(Map::new())))
    }
}

impl Source for Option<&Value> {
    fn read<T: DeserializeOwned>(self) -> serde_json::Result<T> {
        self.map_or_else(|| None::<Value>.read(), T::deserialize)
    }

    /// A clone of the workflow costs half of what reading it into a value once more does.
    fn read_deployment(self) -> serde_json::Result<DeployWorkflow> {
        let Some(Value::Object(members)) = self else { return self.read() };
        let without = |(name, value): (&String, &Value)| {
            (name.clone(), if name == WORKFLOW_JSON { Value::Null } else { value.clone() })
        };
        let mut deploy: DeployWorkflow = Some(Value::Object(members.iter().map(without).collect())).read()?;
        if let Some(workflow) = members.get(WORKFLOW_JSON) {
            deploy.workflow_json = workflow.clone();
        }
        Ok(deploy)
    }
}

fn payload<T: DeserializeOwned>(action: Action, from: impl Source) -> Result<T, CommandError> {
    from.read().map_err(|e| CommandError::Payload { action, why: e.to_string() })
}

fn deployment(action: Action, from: impl Source) -> Result<Box<DeployWorkflow>, CommandError> {
    from.read_deployment().map(Box::new).map_err(|e| CommandError::Payload { action, why: e.to_string() })
}

fn command(action: &str, from: impl Source) -> Result<Command, CommandError> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Nothing {}

    let action: Action = action.parse()?;
    match action {
        Action::HealthCheck => payload::<Nothing>(action, from).map(|_| Command::HealthCheck),
        Action::InjectCredential => payload(action, from).map(Command::InjectCredential),
        Action::DeployWorkflow => deployment(action, from).map(Command::DeployWorkflow),
        Action::ActivateWorkflow => payload(action, from).map(Command::ActivateWorkflow),
        Action::UpdateWorkflow => deployment(action, from).map(Command::UpdateWorkflow),
        Action::DeactivateWorkflow => payload(action, from).map(Command::DeactivateWorkflow),
        Action::DeleteWorkflow => payload(action, from).map(Command::DeleteWorkflow),
        Action::DeleteCredential => payload(action, from).map(Command::DeleteCredential),
        Action::ListState => payload::<Nothing>(action, from).map(|_| Command::ListState),
        Action::Verify => payload::<Nothing>(action, from).map(|_| Command::Verify),
        Action::CollectMetrics => payload(action, from).map(Command::CollectMetrics),
        Action::RotateCredential => payload(action, from).map(Command::RotateCredential),
        Action::ApplyState => {
            let state: DesiredState = payload(action, from)?;
            state.check().map_err(|why| CommandError::Payload { action, why })?;
            Ok(Command::ApplyState(Box::new(state)))
        }
        Action::GetLogs => {
            let wish: GetLogs = payload(action, from)?;
            if !(1..=LOG_LINES_MAX).contains(&wish.lines) {
                let why = format!("{} lines; from 1 to {LOG_LINES_MAX} are answered", wish.lines);
                return Err(CommandError::Payload { action, why });
            }
            Ok(Command::Stack(StackCommand::GetLogs(wish)))
        }
        Action::PullImage => payload(action, from).map(StackCommand::PullImage).map(Command::Stack),
        Action::SwapContainer => payload(action, from).map(StackCommand::SwapContainer).map(Command::Stack),
        Action::Restore => payload(action, from).map(StackCommand::Restore).map(Command::Stack),
        Action::RestartN8n => payload::<Nothing>(action, from).map(|_| StackCommand::RestartN8n.into()),
        Action::Backup => payload::<Nothing>(action, from).map(|_| StackCommand::Backup.into()),
        Action::Quiesce => payload::<Nothing>(action, from).map(|_| StackCommand::Quiesce.into()),
        Action::Suspend => payload::<Nothing>(action, from).map(|_| StackCommand::Suspend.into()),
        Action::ResumeService => payload::<Nothing>(action, from).map(|_| StackCommand::ResumeService.into()),
        Action::AddTrackingDomain => {
            let wish: AddDomains = payload(action, from)?;
            wish.check().map_err(|why| CommandError::Payload { action, why })?;
            Ok(StackCommand::AddDomains(wish).into())
        }
        Action::UpdateAgent => {
            let wish: UpdateAgent = payload(action, from)?;
            wish.check().map_err(|why| CommandError::Payload { action, why })?;
            Ok(Command::UpdateAgent(wish))
        }
        Action::RemoveTrackingDomain => {
            let wish: RemoveDomains = payload(action, from)?;
            wish.check().map_err(|why| CommandError::Payload { action, why })?;
            Ok(StackCommand::RemoveDomains(wish).into())
        }
        Action::Decommission => Err(CommandError::Unsupported(action)),
    }
}

impl From<StackCommand> for Command {
    fn from(command: StackCommand) -> Self {
        Self::Stack(command)
    }
}

impl Command {
    /// Which action this is.
    pub fn action(&self) -> Action {
        match self {
            Self::HealthCheck => Action::HealthCheck,
            Self::InjectCredential(_) => Action::InjectCredential,
            Self::RotateCredential(_) => Action::RotateCredential,
            Self::ApplyState(_) => Action::ApplyState,
            Self::DeployWorkflow(_) => Action::DeployWorkflow,
            Self::ActivateWorkflow(_) => Action::ActivateWorkflow,
            Self::ListState => Action::ListState,
            Self::Verify => Action::Verify,
            Self::CollectMetrics(_) => Action::CollectMetrics,
            Self::UpdateWorkflow(_) => Action::UpdateWorkflow,
            Self::DeactivateWorkflow(_) => Action::DeactivateWorkflow,
            Self::DeleteWorkflow(_) => Action::DeleteWorkflow,
            Self::DeleteCredential(_) => Action::DeleteCredential,
            Self::Stack(command) => command.action(),
            Self::UpdateAgent(_) => Action::UpdateAgent,
        }
    }

    /// The workflows it puts.
    pub fn deployments(&self) -> Vec<&DeployWorkflow> {
        match self {
            Self::DeployWorkflow(deploy) | Self::UpdateWorkflow(deploy) => vec![deploy],
            Self::ApplyState(state) => state.workflows.iter().map(|workflow| &workflow.deployment).collect(),
            Self::HealthCheck
            | Self::ListState
            | Self::Verify
            | Self::CollectMetrics(_)
            | Self::InjectCredential(_)
            | Self::RotateCredential(_)
            | Self::ActivateWorkflow(_)
            | Self::DeactivateWorkflow(_)
            | Self::DeleteWorkflow(_)
            | Self::DeleteCredential(_)
            | Self::Stack(_)
            | Self::UpdateAgent(_) => vec![],
        }
    }

    /// The workflow of this key that it puts.
    pub fn deployment(&self, key: &WorkflowKey) -> Option<&DeployWorkflow> {
        self.deployments().into_iter().find(|deploy| deploy.key == *key)
    }

    /// The credentials it puts.
    pub fn injections(&self) -> &[InjectCredential] {
        match self {
            Self::InjectCredential(inject) | Self::RotateCredential(inject) => std::slice::from_ref(inject),
            Self::ApplyState(state) => &state.credentials,
            Self::HealthCheck
            | Self::ListState
            | Self::Verify
            | Self::CollectMetrics(_)
            | Self::DeployWorkflow(_)
            | Self::UpdateWorkflow(_)
            | Self::ActivateWorkflow(_)
            | Self::DeactivateWorkflow(_)
            | Self::DeleteWorkflow(_)
            | Self::DeleteCredential(_)
            | Self::Stack(_)
            | Self::UpdateAgent(_) => &[],
        }
    }

    /// The credential of this name that it puts.
    pub fn injection(&self, name: &CredentialName) -> Option<&InjectCredential> {
        self.injections().iter().find(|inject| inject.name == *name)
    }

    /// Whether it carries something sealed to one droplet, which makes its bundle a single tenant's.
    pub fn is_sealed(&self) -> bool {
        !self.injections().is_empty() || self.deployments().iter().any(|deploy| deploy.sealed_variables.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_action_parses_its_own_name() {
        for &action in Action::ALL {
            assert_eq!(action.name().parse::<Action>().unwrap(), action);
        }
        assert_eq!(Action::ALL.len(), 26);
    }

    #[test]
    fn names_what_is_wrong_with_a_command() {
        let parse = |action: &str, payload| CommandWire { action: action.into(), payload }.parse().unwrap_err();
        assert_eq!(parse("FORMAT_DISK", None).code(), "unknown_action");
        assert_eq!(parse("health_check", None).code(), "unknown_action");
        assert_eq!(parse("DECOMMISSION", None).code(), "unsupported_action");
        assert_eq!(parse("HEALTH_CHECK", Some(json!({"x": 1}))).code(), "invalid_payload");
        assert_eq!(parse("ACTIVATE_WORKFLOW", None).code(), "invalid_payload");
        assert!(parse("ACTIVATE_WORKFLOW", None).to_string().contains("key"));
    }
}
