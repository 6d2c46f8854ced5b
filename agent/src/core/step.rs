//! Each effect as data: what a plan is made of and what the journal keeps.
//!
//! IMPORTANT: these shapes are in the journals of running droplets. Only add variants and optional fields; a plan
//! that an older agent wrote must be finished by this one.

use genesis_shared::id::{CredentialName, CredentialType, WorkflowKey};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::core::stack::StackRow;
use crate::core::swap::StackStep;
use crate::core::update::UpdateStep;

/// One effect. It names the command of its bundle that it serves; whatever is secret stays sealed in that bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Makes the managed credential exist in n8n with the bundle's data.
    PutCredential {
        /// Index of the command in its bundle.
        command: usize,
        /// Managed name.
        name: CredentialName,
        /// n8n type.
        credential_type: CredentialType,
    },
    /// Makes the managed workflow exist in n8n with the bundle's content, mapped.
    PutWorkflow {
        /// Index of the command in its bundle.
        command: usize,
        /// Managed key.
        key: WorkflowKey,
    },
    /// Makes the managed workflow refer to the managed credentials as they are now; its content is the one it has.
    Repoint {
        /// Index of the command in its bundle.
        command: usize,
        /// Managed key.
        key: WorkflowKey,
    },
    /// Reads the workflow back and compares every credential reference with the intended one.
    CheckReferences {
        /// Index of the command in its bundle.
        command: usize,
        /// Managed key.
        key: WorkflowKey,
    },
    /// Makes the workflow run.
    Activate {
        /// Index of the command in its bundle.
        command: usize,
        /// Managed key.
        key: WorkflowKey,
    },
    /// Stops the workflow.
    Deactivate {
        /// Index of the command in its bundle.
        command: usize,
        /// Managed key.
        key: WorkflowKey,
    },
    /// Deletes the workflow. Cannot be undone.
    DeleteWorkflow {
        /// Index of the command in its bundle.
        command: usize,
        /// Managed key.
        key: WorkflowKey,
    },
    /// Deletes the credential. Cannot be undone.
    DeleteCredential {
        /// Index of the command in its bundle.
        command: usize,
        /// Managed name.
        name: CredentialName,
    },
    /// Removes what a create whose answer came too late made a second time, and the credentials that were replaced.
    /// Last step of a plan that creates.
    RemoveDoubles {
        /// Index of the last command in its bundle.
        command: usize,
    },
    /// Notes the generation of the desired state that the steps before it have brought about.
    NoteGeneration {
        /// Index of the command in its bundle.
        command: usize,
    },
    /// Looks at n8n and the host; changes nothing.
    CheckHealth {
        /// Index of the command in its bundle.
        command: usize,
    },
    /// Lists what is managed here; changes nothing.
    ListState {
        /// Index of the command in its bundle.
        command: usize,
    },
    /// Compares n8n with what is managed here; changes nothing.
    Verify {
        /// Index of the command in its bundle.
        command: usize,
    },
    /// Counts executions; changes nothing.
    CollectMetrics {
        /// Index of the command in its bundle.
        command: usize,
    },
    /// Does something with the stack around n8n.
    Stack {
        /// Index of the command in its bundle.
        command: usize,
        /// What.
        step: StackStep,
    },
    /// Does something with the agent itself.
    Update {
        /// Index of the command in its bundle.
        command: usize,
        /// What.
        step: UpdateStep,
    },
}

impl Step {
    /// The command of the bundle that it serves.
    pub fn command(&self) -> usize {
        match self {
            Self::PutCredential { command, .. }
            | Self::PutWorkflow { command, .. }
            | Self::Repoint { command, .. }
            | Self::CheckReferences { command, .. }
            | Self::Activate { command, .. }
            | Self::Deactivate { command, .. }
            | Self::DeleteWorkflow { command, .. }
            | Self::DeleteCredential { command, .. }
            | Self::RemoveDoubles { command }
            | Self::NoteGeneration { command }
            | Self::CheckHealth { command }
            | Self::ListState { command }
            | Self::Verify { command }
            | Self::CollectMetrics { command }
            | Self::Stack { command, .. }
            | Self::Update { command, .. } => *command,
        }
    }

    /// For people and step traces.
    pub fn title(&self) -> String {
        match self {
            Self::PutCredential { name, .. } => format!("put_credential {name}"),
            Self::PutWorkflow { key, .. } => format!("put_workflow {key}"),
            Self::Repoint { key, .. } => format!("repoint {key}"),
            Self::CheckReferences { key, .. } => format!("check_references {key}"),
            Self::Activate { key, .. } => format!("activate {key}"),
            Self::Deactivate { key, .. } => format!("deactivate {key}"),
            Self::DeleteWorkflow { key, .. } => format!("delete_workflow {key}"),
            Self::DeleteCredential { name, .. } => format!("delete_credential {name}"),
            Self::RemoveDoubles { .. } => "remove_doubles".to_owned(),
            Self::NoteGeneration { .. } => "note_generation".to_owned(),
            Self::CheckHealth { .. } => "check_health".to_owned(),
            Self::ListState { .. } => "list_state".to_owned(),
            Self::Verify { .. } => "verify".to_owned(),
            Self::CollectMetrics { .. } => "collect_metrics".to_owned(),
            Self::Stack { step, .. } => step.title(),
            Self::Update { step, .. } => step.title(),
        }
    }

    /// Whether it can leave something behind that an undo has to take back.
    pub fn has_effect(&self) -> bool {
        match self {
            Self::PutCredential { .. }
            | Self::PutWorkflow { .. }
            | Self::Repoint { .. }
            | Self::Activate { .. }
            | Self::Deactivate { .. }
            | Self::DeleteWorkflow { .. }
            | Self::DeleteCredential { .. } => true,
            Self::Stack { step, .. } => step.has_effect(),
            Self::Update { step, .. } => step.has_effect(),
            // What it removes was never wanted.
            Self::RemoveDoubles { .. }
            | Self::NoteGeneration { .. }
            | Self::CheckReferences { .. }
            | Self::CheckHealth { .. }
            | Self::ListState { .. }
            | Self::Verify { .. }
            | Self::CollectMetrics { .. } => false,
        }
    }

    /// Whether it can be taken back. A plan's commit point is its first step that cannot.
    pub fn is_final(&self) -> bool {
        if let Self::Stack { step, .. } = self {
            return step.is_final();
        }
        matches!(self, Self::DeleteWorkflow { .. } | Self::DeleteCredential { .. })
    }

    /// The workflow that it makes refer to the managed credentials as they are now.
    pub fn repointed(&self) -> Option<&WorkflowKey> {
        if let Self::PutWorkflow { key, .. } | Self::Repoint { key, .. } = self { Some(key) } else { None }
    }

    /// Whether it goes by the ids of the managed credentials.
    pub fn needs_credentials(&self) -> bool {
        match self {
            Self::PutCredential { .. }
            | Self::PutWorkflow { .. }
            | Self::Repoint { .. }
            | Self::CheckReferences { .. }
            | Self::DeleteCredential { .. } => true,
            Self::Activate { .. }
            | Self::Deactivate { .. }
            | Self::DeleteWorkflow { .. }
            | Self::RemoveDoubles { .. }
            | Self::NoteGeneration { .. }
            | Self::CheckHealth { .. }
            | Self::ListState { .. }
            | Self::Verify { .. }
            | Self::CollectMetrics { .. }
            | Self::Stack { .. }
            | Self::Update { .. } => false,
        }
    }

    /// Whether it removes what the plan has replaced; there is no way back from that either.
    pub fn is_clearing(&self) -> bool {
        matches!(self, Self::RemoveDoubles { .. })
    }
}

/// Where content came from: a command of a bundle that the journal holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// The journal's number of the bundle.
    pub bundle: i64,
    /// Index of the command in it.
    pub command: usize,
}

/// A managed credential as the journal knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CredentialRow {
    /// Managed name.
    pub name: CredentialName,
    /// n8n type.
    pub credential_type: CredentialType,
    /// n8n's id.
    pub n8n_id: String,
    /// HMAC of the data under a key that only this droplet has: tells "the same" without telling what.
    pub fingerprint: String,
    /// The sealed data.
    pub source: Source,
}

/// A managed workflow as the journal knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkflowRow {
    /// Managed key.
    pub key: WorkflowKey,
    /// n8n's id.
    pub n8n_id: String,
    /// The template and its variables.
    pub source: Source,
    /// Whether it is to run.
    #[serde(default)]
    pub active: bool,
}

/// What was there before a step acted, written down with its start: what an undo returns to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Before {
    /// n8n's id of the thing, if it existed.
    pub n8n_id: Option<String>,
    /// Ids of further credentials under the same marker: none of them was made by this step.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<String>,
    /// Whether the workflow ran.
    #[serde(default)]
    pub active: bool,
    /// The version that ran.
    #[serde(default)]
    pub active_version_id: Option<String>,
}

/// What a step achieved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepOutput {
    /// What the command's result shows of it.
    pub answer: Value,
    /// The credential row to keep when the whole command succeeds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<CredentialRow>,
    /// The workflow row to keep when the whole command succeeds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workflow: Option<WorkflowRow>,
    /// The managed thing that is no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removed: Option<Removed>,
    /// The generation to keep when the whole command succeeds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// What the stack is to be when the whole command succeeds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stack: Option<StackRow>,
}

/// A managed thing that was deleted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Removed {
    /// A credential.
    Credential(CredentialName),
    /// A workflow.
    Workflow(WorkflowKey),
}

impl StepOutput {
    /// An output that changes nothing in the id map.
    pub fn answer(answer: Value) -> Self {
        Self { answer, credential: None, workflow: None, removed: None, generation: None, stack: None }
    }
}

/// Why a step failed, as the result tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepError {
    /// Stable machine-readable name.
    pub code: String,
    /// What happened and what to do.
    pub message: String,
    /// Whether the same command, signed anew, may succeed later.
    pub retryable: bool,
}
