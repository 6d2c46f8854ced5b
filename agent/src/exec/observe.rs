//! What is there before a step acts: port reads -> [`Before`].

use genesis_shared::id::{CredentialName, CredentialType, WorkflowKey};

use super::Exec;
use crate::core::plan::Known;
use crate::core::step::{Before, Step};
use crate::ports::{CredentialInfo, EffectError, WorkflowInfo, Workflows, World, credential_marker};

impl<W: World> Exec<'_, W> {
    /// Looks at the thing that a step will change.
    pub(super) async fn observe(&self, step: &Step, known: &Known) -> Result<Before, EffectError> {
        match step {
            Step::PutCredential { name, credential_type, .. } => {
                let all = self.world.workflows().credentials().await?;
                let n8n_id = managed(&all, name, credential_type, known).map(|info| info.id.clone());
                let others = all.iter().filter(|info| is_marked(info, name, credential_type)).map(|info| &info.id);
                let others = others.filter(|id| Some(*id) != n8n_id.as_ref()).cloned().collect();
                Ok(Before { n8n_id, others, ..Before::default() })
            }
            Step::DeleteCredential { name, .. } => {
                let row = known.credentials.get(name);
                Ok(Before { n8n_id: row.map(|row| row.n8n_id.clone()), ..Before::default() })
            }
            Step::PutWorkflow { key, .. }
            | Step::Repoint { key, .. }
            | Step::Activate { key, .. }
            | Step::Deactivate { key, .. }
            | Step::DeleteWorkflow { key, .. } => {
                let found = self.find_workflow(key, known).await?;
                Ok(found.map_or_else(Before::default, |info| Before {
                    n8n_id: Some(info.id),
                    active: info.active,
                    active_version_id: info.active_version_id,
                    others: vec![],
                }))
            }
            Step::RemoveDoubles { .. }
            | Step::NoteGeneration { .. }
            | Step::CheckReferences { .. }
            | Step::CheckHealth { .. }
            | Step::ListState { .. }
            | Step::Verify { .. }
            | Step::CollectMetrics { .. }
            | Step::Stack { .. }
            | Step::Update { .. } => Ok(Before::default()),
        }
    }

    /// The managed credential in n8n: by the journal's id, else by its marker.
    pub(super) async fn find_credential(
        &self,
        name: &CredentialName,
        credential_type: &CredentialType,
        known: &Known,
    ) -> Result<Option<CredentialInfo>, EffectError> {
        let all = self.world.workflows().credentials().await?;
        Ok(managed(&all, name, credential_type, known).cloned())
    }

    /// The managed workflow in n8n: by the journal's id, else by its marker.
    pub(super) async fn find_workflow(
        &self,
        key: &WorkflowKey,
        known: &Known,
    ) -> Result<Option<WorkflowInfo>, EffectError> {
        let n8n = self.world.workflows();
        if let Some(row) = known.workflows.get(key)
            && let Some(info) = n8n.workflow_info(&row.n8n_id).await?
        {
            return Ok(Some(info));
        }
        Ok(n8n.workflows().await?.into_iter().find(|info| info.key.as_ref() == Some(key)))
    }
}

/// The managed credential in a list of n8n: by the journal's id, else by its marker.
pub(super) fn managed<'a>(
    all: &'a [CredentialInfo],
    name: &CredentialName,
    credential_type: &CredentialType,
    known: &Known,
) -> Option<&'a CredentialInfo> {
    let id = known.credentials.get(name).map(|row| row.n8n_id.as_str());
    let by_id = all.iter().find(|info| Some(info.id.as_str()) == id);
    by_id.or_else(|| all.iter().find(|info| is_marked(info, name, credential_type)))
}

/// Whether a credential of n8n carries a managed one's marker.
pub(super) fn is_marked(info: &CredentialInfo, name: &CredentialName, credential_type: &CredentialType) -> bool {
    info.name == credential_marker(name) && info.credential_type == credential_type.as_str()
}
