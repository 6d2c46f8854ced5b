//! A credential that takes another one's place, where n8n cannot update credentials, and what is left over in the end.
//!
//! The new one is made beside the old one, every workflow is made to refer to it while both are there, and the old one
//! goes last: at no moment does a workflow refer to nothing.

use std::collections::BTreeSet;

use genesis_shared::command::InjectCredential;
use genesis_shared::id::{CredentialName, CredentialType, WorkflowKey};
use genesis_shared::secret::Secret;
use serde_json::Value;

use super::observe::is_marked;
use super::perform::permanent;
use super::{Exec, Running};
use crate::core::plan::Known;
use crate::core::step::{Before, Step, StepOutput};
use crate::core::workflow;
use crate::ports::{CredentialInfo, EffectError, Workflows, World, credential_marker};

impl Running {
    /// The workflows that this plan makes refer to the managed credentials as they are now.
    pub(super) fn followers(&self) -> BTreeSet<WorkflowKey> {
        self.plan.steps.iter().filter_map(Step::repointed).cloned().collect()
    }
}

/// Whether a credential was made after a step had begun: it is neither the one that was there nor one beside it.
fn is_made_since(info: &CredentialInfo, before: &Before) -> bool {
    before.n8n_id.as_ref() != Some(&info.id) && !before.others.contains(&info.id)
}

impl<W: World> Exec<'_, W> {
    /// Makes the successor of a credential, or finds the one that an earlier try has made: that it did so with this
    /// very data has to be believed, since n8n shows none.
    pub(super) async fn replace_credential(
        &self,
        inject: &InjectCredential,
        data: &Secret<Vec<u8>>,
        before: &Before,
        all: &[CredentialInfo],
        followers: &BTreeSet<WorkflowKey>,
    ) -> Result<String, EffectError> {
        let InjectCredential { name, credential_type, .. } = inject;
        let made = all.iter().find(|info| is_marked(info, name, credential_type) && is_made_since(info, before));
        if let Some(made) = made {
            return Ok(made.id.clone());
        }
        if let Some(former) = &before.n8n_id {
            self.must_have_no_strangers(name, former, followers).await?;
        }
        self.world.workflows().create_credential(&credential_marker(name), credential_type, data).await
    }

    /// Refuses where a workflow that nobody will re-point refers to the credential that is about to go.
    async fn must_have_no_strangers(
        &self,
        name: &CredentialName,
        former: &str,
        followers: &BTreeSet<WorkflowKey>,
    ) -> Result<(), EffectError> {
        let n8n = self.world.workflows();
        for info in n8n.workflows().await? {
            if info.key.as_ref().is_some_and(|key| followers.contains(key)) {
                continue;
            }
            let held = n8n.workflow(&info.id).await?.unwrap_or(Value::Null);
            if workflow::references(&held).iter().any(|(_, _, id)| id == former) {
                let message = format!(
                    "this n8n cannot update a credential in place, and workflow {:?}, which is not managed, refers to \
                     {name}; point it to another credential in n8n, or update n8n to 2.7 or later",
                    info.name
                );
                return Err(permanent("credential_in_use", &message));
            }
        }
        Ok(())
    }

    /// Takes away every credential that a step has made since it began; the one it replaces stays.
    pub(super) async fn remove_successors(
        &self,
        name: &CredentialName,
        credential_type: &CredentialType,
        before: &Before,
    ) -> Result<(), EffectError> {
        let n8n = self.world.workflows();
        for info in n8n.credentials().await? {
            if is_marked(&info, name, credential_type) && is_made_since(&info, before) {
                n8n.delete_credential(&info.id).await?;
            }
        }
        Ok(())
    }

    /// Each thing that was not there before this command and is now there more than once was made by a create whose
    /// answer never came, and which n8n carried out later than this agent looked. And a credential that was replaced
    /// is of no use any more.
    pub(super) async fn remove_doubles(&self, running: &Running, known: &Known) -> Result<StepOutput, EffectError> {
        let removed =
            self.remove_old_credentials(running, known).await? + self.remove_double_workflows(running, known).await?;
        if removed > 0 {
            tracing::warn!(removed, "removed what was replaced, or what late answers of n8n had made twice");
        }
        Ok(StepOutput::answer(Value::Null))
    }

    async fn remove_old_credentials(&self, running: &Running, known: &Known) -> Result<usize, EffectError> {
        let n8n = self.world.workflows();
        let mut old = BTreeSet::new();
        let mut all = None;
        for step in &running.plan.steps {
            let Step::PutCredential { name, credential_type, .. } = step else { continue };
            let (Some(before), Some(row)) = (running.before(step), known.credentials.get(name)) else { continue };
            if before.n8n_id.as_ref() == Some(&row.n8n_id) {
                continue;
            }
            if all.is_none() {
                all = Some(n8n.credentials().await?);
            }
            let double = |info: &&CredentialInfo| is_marked(info, name, credential_type) && is_made_since(info, before);
            let doubles = all.iter().flatten().filter(double).map(|info| info.id.clone());
            let others = |id: &String| {
                *id == row.n8n_id || known.credentials.values().any(|other| other.name != *name && other.n8n_id == *id)
            };
            old.extend(doubles.chain(before.n8n_id.clone()).filter(|id| !others(id)));
        }
        for id in &old {
            n8n.delete_credential(id).await?;
        }
        Ok(old.len())
    }

    async fn remove_double_workflows(&self, running: &Running, known: &Known) -> Result<usize, EffectError> {
        let created = |step: &&Step| matches!(running.before(step), Some(Before { n8n_id: None, .. }));
        let key = |step: &Step| if let Step::PutWorkflow { key, .. } = step { Some(key.clone()) } else { None };
        let created: BTreeSet<_> = running.plan.steps.iter().filter(created).filter_map(key).collect();
        if created.is_empty() {
            return Ok(0);
        }
        let n8n = self.world.workflows();
        let mut removed = 0;
        for info in n8n.workflows().await? {
            let row = info.key.as_ref().filter(|key| created.contains(*key)).and_then(|key| known.workflows.get(key));
            let older = running.base.workflows.values().any(|row| row.n8n_id == info.id);
            if !older && row.is_some_and(|row| row.n8n_id != info.id) {
                n8n.delete_workflow(&info.id).await?;
                removed += 1;
            }
        }
        Ok(removed)
    }
}
