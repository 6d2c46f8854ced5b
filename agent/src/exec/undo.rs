//! Takes back what a step did, or may have done: back to what its `Before` says. Each arm may be repeated.

use genesis_shared::bundle::Bundle;
use genesis_shared::command::Command;
use genesis_shared::id::{CredentialName, CredentialType, WorkflowKey};
use serde_json::Value;

use super::Exec;
use super::perform::permanent;
use crate::core::plan::Known;
use crate::core::step::{Before, Source, Step};
use crate::core::workflow;
use crate::ports::{EffectError, ErrorKind, Workflows, World};

impl<W: World> Exec<'_, W> {
    /// `base` is the id map without this step and those after it.
    pub(super) async fn undo(&self, step: &Step, before: &Before, base: &Known) -> Result<(), EffectError> {
        match step {
            Step::PutCredential { name, credential_type, .. } => {
                self.undo_credential(name, credential_type, before, base).await
            }
            Step::PutWorkflow { key, .. } | Step::Repoint { key, .. } => self.undo_workflow(key, before, base).await,
            Step::Activate { key, .. } | Step::Deactivate { key, .. } => self.undo_activation(key, before, base).await,
            // From the commit point on nothing is undone; the saga does not come here.
            Step::DeleteWorkflow { key, .. } => Err(cannot_restore(&format!("workflow {key}"))),
            Step::DeleteCredential { name, .. } => Err(cannot_restore(&format!("credential {name}"))),
            Step::Stack { step, .. } => self.undo_stack(step, base).await,
            Step::Update { step, .. } => self.undo_update(step).await,
            Step::RemoveDoubles { .. }
            | Step::NoteGeneration { .. }
            | Step::CheckReferences { .. }
            | Step::CheckHealth { .. }
            | Step::ListState { .. }
            | Step::Verify { .. }
            | Step::CollectMetrics { .. } => Ok(()),
        }
    }

    async fn undo_credential(
        &self,
        name: &CredentialName,
        credential_type: &CredentialType,
        before: &Before,
        base: &Known,
    ) -> Result<(), EffectError> {
        let n8n = self.world.workflows();
        let Some(id) = &before.n8n_id else {
            // All of them: a create whose answer never came may have been carried out more than once.
            while let Some(made) = self.find_credential(name, credential_type, base).await? {
                n8n.delete_credential(&made.id).await?;
            }
            return Ok(());
        };
        self.remove_successors(name, credential_type, before).await?;
        // Its former data are still sealed in the bundle that brought them.
        let row = base.credentials.get(name);
        let former = row.map(|row| self.source(row.source)).transpose()?.flatten();
        let Some(former) = former.as_ref().and_then(|command| command.injection(name)) else {
            return Err(cannot_restore(&format!("credential {name}")));
        };
        let data = self.open_credential(former).map_err(|e| permanent("cannot_open", &e.message))?;
        match n8n.update_credential(id, &data).await {
            // Where n8n cannot update credentials, the step has not updated this one but made another.
            Err(error) if error.code == "n8n_cannot_update_credentials" => Ok(()),
            other => other,
        }
    }

    async fn undo_workflow(&self, key: &WorkflowKey, before: &Before, base: &Known) -> Result<(), EffectError> {
        let n8n = self.world.workflows();
        let Some(info) = self.find_workflow(key, base).await? else { return Ok(()) };
        if before.n8n_id.is_none() {
            n8n.delete_workflow(&info.id).await?;
            while let Some(double) = self.find_workflow(key, base).await? {
                n8n.delete_workflow(&double.id).await?;
            }
            return Ok(());
        }
        let body = self.former_body(key, base);
        let actual = n8n.workflow(&info.id).await?;
        let is_back = match (&actual, &body) {
            (Some(actual), Ok(Some(body))) => workflow::holds(actual, body),
            _ => false,
        };
        match (before.active, is_back) {
            // A former undo that was cut short, or a refusal before anything was kept: what is shown shall run.
            (true, true) => return n8n.activate_workflow(&info.id, None).await,
            (false, true) => return Ok(()),
            // First the version that ran, which serves again at once: a refused update may have gone live all the same.
            (true, false) => self.restore_activation(&info.id, before).await?,
            (false, false) => {}
        }
        match body? {
            None => Err(cannot_restore(&format!("workflow {key}"))),
            Some(body) if actual.is_some() => n8n.update_workflow(&info.id, &body).await,
            Some(_) => Ok(()),
        }
    }

    /// What n8n is to hold of a workflow again; `None` if the journal does not say.
    fn former_body(&self, key: &WorkflowKey, base: &Known) -> Result<Option<Value>, EffectError> {
        let source = base.workflows.get(key).map(|row| self.source(row.source)).transpose()?.flatten();
        let former = source.as_ref().and_then(|command| command.deployment(key));
        former.map(|former| self.mapped(former, base)).transpose().map(|mapped| mapped.map(|(body, _)| body))
    }

    async fn undo_activation(&self, key: &WorkflowKey, before: &Before, base: &Known) -> Result<(), EffectError> {
        let Some(info) = self.find_workflow(key, base).await? else { return Ok(()) };
        if before.active {
            self.restore_activation(&info.id, before).await
        } else {
            self.world.workflows().deactivate_workflow(&info.id).await
        }
    }

    async fn restore_activation(&self, id: &str, before: &Before) -> Result<(), EffectError> {
        let n8n = self.world.workflows();
        match n8n.activate_workflow(id, before.active_version_id.as_deref()).await {
            // A former undo that was cut short has published the old content as a newer version already.
            Err(error) if error.kind == ErrorKind::Permanent && before.active_version_id.is_some() => {
                n8n.activate_workflow(id, None).await
            }
            other => other,
        }
    }

    /// The commands that the things which these ones change came from.
    pub(super) fn former(&self, commands: &[Command], base: &Known) -> Vec<Command> {
        let mut sources = Vec::new();
        for command in commands {
            let names = command.injections().iter().map(|inject| &inject.name);
            let keys = command.deployments().into_iter().map(|deploy| &deploy.key);
            sources.extend(names.filter_map(|name| base.credentials.get(name)).map(|row| row.source));
            sources.extend(keys.filter_map(|key| base.workflows.get(key)).map(|row| row.source));
            match command {
                Command::ActivateWorkflow(target)
                | Command::DeactivateWorkflow(target)
                | Command::DeleteWorkflow(target) => {
                    sources.extend(base.workflows.get(&target.key).map(|row| row.source));
                }
                Command::DeleteCredential(target) => {
                    sources.extend(base.credentials.get(&target.name).map(|row| row.source));
                }
                Command::InjectCredential(_)
                | Command::RotateCredential(_)
                | Command::ApplyState(_)
                | Command::DeployWorkflow(_)
                | Command::UpdateWorkflow(_)
                | Command::HealthCheck
                | Command::ListState
                | Command::Verify
                | Command::CollectMetrics(_)
                | Command::Stack(_)
                | Command::UpdateAgent(_) => {}
            }
        }
        let sources = sources.into_iter();
        sources.filter_map(|source| self.source(source).ok().flatten()).collect()
    }

    /// The command that content came from, out of the journal.
    pub(super) fn source(&self, source: Source) -> Result<Option<Command>, EffectError> {
        let unreadable = |why: String| EffectError::new(ErrorKind::Transient, "journal_unusable", why);
        let Some(bytes) = self.journal.bundle(source.bundle).map_err(|e| unreadable(e.to_string()))? else {
            return Ok(None);
        };
        let mut bundle = Bundle::reread(&bytes).map_err(|e| permanent("journal_damaged", &e.to_string()))?;
        drop(bytes);
        if source.command >= bundle.commands.len() {
            return Ok(None);
        }
        // The one command alone: a bundle of a whole tenant is large beside it.
        let wire = bundle.commands.swap_remove(source.command);
        drop(bundle);
        wire.into_command().map(Some).map_err(|e| permanent("journal_damaged", &e.to_string()))
    }
}

/// It was there with this agent's marker, but the journal does not hold what it was made from.
fn cannot_restore(what: &str) -> EffectError {
    let message =
        format!("{what} was not made by this journal, so its former content cannot be put back; look at it in n8n");
    permanent("cannot_restore", &message)
}
