//! One match: step -> port calls. Each arm looks first and acts only on what differs, so it may be repeated.

use std::collections::{BTreeMap, BTreeSet};

use genesis_shared::command::{Command, DeployWorkflow, InjectCredential};
use genesis_shared::desired::DesiredState;
use genesis_shared::id::{CredentialName, CredentialType, WorkflowKey};
use serde_json::{Value, json};

use super::{Exec, Running};
use crate::core::mapper::{self, Binding};
use crate::core::plan::{Known, all_variables};
use crate::core::step::{Before, CredentialRow, Removed, Source, Step, StepError, StepOutput, WorkflowRow};
use crate::core::workflow;
use crate::exec::look::list_state;
use crate::exec::mutant::{self, Mutant};
use crate::exec::observe::managed;
use crate::ports::{EffectError, ErrorKind, Host, Workflows, World, credential_marker};

impl<W: World> Exec<'_, W> {
    pub(super) async fn perform(
        &self,
        running: &Running,
        step: &Step,
        before: &Before,
        known: &Known,
    ) -> Result<StepOutput, EffectError> {
        let source = Source { bundle: running.command.seq, command: step.command() };
        let command = &running.commands[step.command()];
        let misfit = || permanent("journal_damaged", "the plan does not fit the bundle it was made from");
        match step {
            Step::PutCredential { name, .. } => {
                let inject = command.injection(name).ok_or_else(misfit)?;
                self.put_credential(inject, source, before, known, &running.followers()).await
            }
            Step::PutWorkflow { key, .. } => {
                self.put_workflow(command.deployment(key).ok_or_else(misfit)?, source, known).await
            }
            Step::Repoint { key, .. } => self.repoint(key, known).await,
            Step::CheckReferences { key, .. } => {
                self.check_references(command.deployment(key).ok_or_else(misfit)?, known).await
            }
            Step::Activate { key, .. } => self.activate(key, known).await,
            Step::Deactivate { key, .. } => self.deactivate(key, known).await,
            Step::DeleteWorkflow { key, .. } => self.delete_workflow(key, before).await,
            Step::DeleteCredential { name, .. } => self.delete_credential(name, before).await,
            Step::RemoveDoubles { .. } => self.remove_doubles(running, known).await,
            Step::NoteGeneration { .. } => {
                let Command::ApplyState(state) = command else { return Err(misfit()) };
                Ok(note_generation(state, known))
            }
            Step::CheckHealth { .. } => Ok(self.check_health().await),
            Step::ListState { .. } => Ok(list_state(known)),
            Step::Verify { .. } => self.verify(known).await,
            Step::CollectMetrics { .. } => {
                let Command::CollectMetrics(wish) = command else { return Err(misfit()) };
                self.collect_metrics(wish).await
            }
            Step::Stack { command, step } => self.perform_stack(running, *command, step, known).await,
            Step::Update { step, .. } => self.perform_update(command, step).await,
        }
    }

    /// `followers` are the workflows that will be made to refer to whatever takes the credential's place.
    pub(super) async fn put_credential(
        &self,
        inject: &InjectCredential,
        source: Source,
        before: &Before,
        known: &Known,
        followers: &BTreeSet<WorkflowKey>,
    ) -> Result<StepOutput, EffectError> {
        let InjectCredential { name, credential_type, .. } = inject;
        let data = self.open_credential(inject).map_err(from_step_error)?;
        let fingerprint = self.identity.fingerprint(&data);
        let n8n = self.world.workflows();
        let blind = before.n8n_id.is_none() && mutant::is(Mutant::RepeatCreateBlindly);
        let all = if blind { vec![] } else { n8n.credentials().await? };
        let row = known.credentials.get(name);
        let (n8n_id, changed) = match managed(&all, name, credential_type, known) {
            Some(info) if info.credential_type != credential_type.as_str() => {
                let message = format!(
                    "credential {name} is of type {} in n8n, not {credential_type}; give the new one another name",
                    info.credential_type
                );
                return Err(permanent("credential_type_differs", &message));
            }
            // Another one than the map names was found by its marker: nobody saw what it was made with.
            Some(info) if row.is_some_and(|row| row.n8n_id == info.id && row.fingerprint == fingerprint) => {
                (info.id.clone(), false)
            }
            Some(info) => match n8n.update_credential(&info.id, &data).await {
                Err(error) if error.code == "n8n_cannot_update_credentials" => {
                    (self.replace_credential(inject, &data, before, &all, followers).await?, true)
                }
                other => other.map(|()| (info.id.clone(), true))?,
            },
            None => (n8n.create_credential(&credential_marker(name), credential_type, &data).await?, true),
        };
        let answer = json!({"name": name, "credential_id": n8n_id, "changed": changed});
        let (name, credential_type) = (name.clone(), credential_type.clone());
        let source = if changed { source } else { known.credentials.get(&name).map_or(source, |row| row.source) };
        let row = CredentialRow { name, credential_type, n8n_id, fingerprint, source };
        Ok(StepOutput { credential: Some(row), ..StepOutput::answer(answer) })
    }

    /// The workflow as it was deployed, with the credentials of now; read back at once.
    async fn repoint(&self, key: &WorkflowKey, known: &Known) -> Result<StepOutput, EffectError> {
        let row = known.workflows.get(key);
        let source = row.map(|row| self.source(row.source)).transpose()?.flatten();
        let (Some(row), Some(deploy)) = (row, source.as_ref().and_then(|command| command.deployment(key))) else {
            return Err(permanent("cannot_restore", &format!("the journal does not hold what {key} was made from")));
        };
        let output = self.put_workflow(deploy, row.source, known).await?;
        self.check_references(deploy, known).await?;
        let answer = json!({"changed": output.answer["changed"]});
        Ok(StepOutput { answer, ..output })
    }

    pub(super) async fn put_workflow(
        &self,
        deploy: &DeployWorkflow,
        source: Source,
        known: &Known,
    ) -> Result<StepOutput, EffectError> {
        let key = &deploy.key;
        let (body, dropped) = self.mapped(deploy, known)?;
        let n8n = self.world.workflows();
        let (n8n_id, changed) = match self.find_workflow(key, known).await? {
            Some(info) => {
                let held = n8n.workflow(&info.id).await?;
                let changed = !held.is_some_and(|actual| workflow::holds(&actual, &body));
                if changed {
                    n8n.update_workflow(&info.id, &body).await?;
                }
                (info.id, changed)
            }
            None => (n8n.create_workflow(&workflow::with_marker(&body, key)).await?, true),
        };
        let mut answer = json!({"key": key, "workflow_id": n8n_id, "changed": changed});
        let webhooks = workflow::webhook_urls(&body, &n8n.webhook_base().await?);

        if let Some(first) = webhooks.first() {
            answer["webhook_url"] = json!(first);
            answer["webhook_urls"] = json!(webhooks);
        }
        if !dropped.is_empty() {
            answer["dropped"] = json!(dropped);
        }
        let active = known.workflows.get(key).is_some_and(|row| row.active);
        let row = WorkflowRow { key: key.clone(), n8n_id, source, active };
        Ok(StepOutput { workflow: Some(row), ..StepOutput::answer(answer) })
    }

    pub(super) async fn check_references(
        &self,
        deploy: &DeployWorkflow,
        known: &Known,
    ) -> Result<StepOutput, EffectError> {
        let key = &deploy.key;
        let (body, _) = self.mapped(deploy, known)?;
        let id = known.workflows.get(key).map(|row| row.n8n_id.clone()).unwrap_or_default();
        let Some(actual) = self.world.workflows().workflow(&id).await? else {
            return Err(permanent("workflow_vanished", &format!("workflow {key} is not in n8n any more")));
        };
        // n8n re-points references whose id it does not know, so what it stored is compared, not what was sent.
        let (stored, intended) = (workflow::references(&actual), workflow::references(&body));
        let all = self.world.workflows().credentials().await?;
        let exists = |(_, slot, id): &(String, String, String)| {
            all.iter().any(|info| info.id == *id && info.credential_type == *slot)
        };
        if let Some((node, slot, id)) = intended.iter().find(|wanted| !stored.contains(wanted) || !exists(wanted)) {
            let message = format!("workflow {key}, node {node:?}: n8n did not keep credential {id} for {slot}");
            return Err(permanent("reference_differs", &message));
        }
        Ok(StepOutput::answer(Value::Null))
    }

    pub(super) async fn activate(&self, key: &WorkflowKey, known: &Known) -> Result<StepOutput, EffectError> {
        let Some(info) = self.find_workflow(key, known).await? else {
            return Err(permanent("workflow_vanished", &format!("workflow {key} is not in n8n any more")));
        };
        let current = info.active && (info.active_version_id.is_none() || info.active_version_id == info.version_id);
        if !current {
            self.world.workflows().activate_workflow(&info.id, None).await?;
        }
        let answer = json!({"key": key, "workflow_id": info.id, "active": true, "changed": !current});
        Ok(StepOutput { workflow: wanted(key, known, true), ..StepOutput::answer(answer) })
    }

    pub(super) async fn deactivate(&self, key: &WorkflowKey, known: &Known) -> Result<StepOutput, EffectError> {
        let Some(info) = self.find_workflow(key, known).await? else {
            return Err(permanent("workflow_vanished", &format!("workflow {key} is not in n8n any more")));
        };
        if info.active {
            self.world.workflows().deactivate_workflow(&info.id).await?;
        }
        let answer = json!({"key": key, "workflow_id": info.id, "active": false, "changed": info.active});
        Ok(StepOutput { workflow: wanted(key, known, false), ..StepOutput::answer(answer) })
    }

    /// What is gone already is as good as deleted.
    async fn delete_workflow(&self, key: &WorkflowKey, before: &Before) -> Result<StepOutput, EffectError> {
        if let Some(id) = &before.n8n_id {
            self.world.workflows().delete_workflow(id).await?;
        }
        let answer = json!({"key": key, "deleted": before.n8n_id.is_some()});
        Ok(StepOutput { removed: Some(Removed::Workflow(key.clone())), ..StepOutput::answer(answer) })
    }

    async fn delete_credential(&self, name: &CredentialName, before: &Before) -> Result<StepOutput, EffectError> {
        if let Some(id) = &before.n8n_id {
            self.world.workflows().delete_credential(id).await?;
        }
        let answer = json!({"name": name, "deleted": before.n8n_id.is_some()});
        Ok(StepOutput { removed: Some(Removed::Credential(name.clone())), ..StepOutput::answer(answer) })
    }

    /// Never fails: that n8n is down is an answer.
    async fn check_health(&self) -> StepOutput {
        let n8n = self.world.workflows();
        let status = n8n.status().await;
        let sample = self.world.host().sample();
        let version = n8n.version().await.ok();
        let active = n8n.workflows().await.ok().map(|all| all.iter().filter(|w| w.active && w.key.is_some()).count());
        let answer = json!({
            "n8n_status": status,
            "n8n_version": version,
            "active_workflows": active,
            "cpu_usage": sample.cpu_usage_percent,
            "memory_usage_mb": sample.memory_usage_mb,
            "memory_total_mb": sample.memory_total_mb,
            "disk_usage": sample.disk_usage_percent,
            "swap_used_mb": sample.swap_used_mb,
            "uptime_seconds": sample.uptime_seconds,
        });
        StepOutput::answer(answer)
    }

    /// The body that n8n is to hold for a deployment, and what had to be left out of it.
    pub(super) fn mapped(&self, deploy: &DeployWorkflow, known: &Known) -> Result<(Value, Vec<String>), EffectError> {
        let opened = self.open_variables(deploy).map_err(from_step_error)?;
        let variables = all_variables(deploy, opened.as_ref())
            .map_err(|name| permanent("cannot_map", &format!("variable {name} is given both in clear and sealed")))?;
        let bindings = bindings(&deploy.credential_map, known)?;
        let mapped = mapper::map(&deploy.workflow_json, &bindings, &variables).map_err(|problems| {
            let list = problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
            permanent("cannot_map", &format!("workflow {}: {list}", deploy.key))
        })?;
        Ok(workflow::request_body(&mapped))
    }
}

/// What was applied, and what is managed here and stands in no document: it stays, for only a destructive command deletes.
fn note_generation(state: &DesiredState, known: &Known) -> StepOutput {
    let named = |name: &&CredentialName| state.credentials.iter().any(|inject| inject.name == **name);
    let keyed = |key: &&WorkflowKey| state.workflows.iter().any(|workflow| workflow.deployment.key == **key);
    let credentials: Vec<_> = known.credentials.keys().filter(|name| !named(name)).collect();
    let workflows: Vec<_> = known.workflows.keys().filter(|key| !keyed(key)).collect();
    let answer = json!({
        "generation": state.generation,
        "not_in_document": {"credentials": credentials, "workflows": workflows},
    });
    StepOutput { generation: Some(state.generation), ..StepOutput::answer(answer) }
}

/// The workflow's row with another wish for its activation.
fn wanted(key: &WorkflowKey, known: &Known, active: bool) -> Option<WorkflowRow> {
    known.workflows.get(key).map(|row| WorkflowRow { active, ..row.clone() })
}

fn bindings(
    credential_map: &BTreeMap<String, CredentialName>,
    known: &Known,
) -> Result<BTreeMap<String, Binding>, EffectError> {
    let bind = |(placeholder, name): (&String, &CredentialName)| {
        let row = known.credentials.get(name).ok_or_else(|| {
            permanent("cannot_map", &format!("{placeholder} is bound to credential {name}, which does not exist here"))
        })?;
        let credential_type: CredentialType = row.credential_type.clone();
        let binding = Binding { n8n_id: row.n8n_id.clone(), n8n_name: credential_marker(name), credential_type };
        Ok((placeholder.clone(), binding))
    };
    credential_map.iter().map(bind).collect()
}

pub(super) fn permanent(code: &'static str, message: &str) -> EffectError {
    EffectError::new(ErrorKind::Permanent, code, message)
}

/// What could be opened and mapped when the plan was made, and cannot now.
fn from_step_error(error: StepError) -> EffectError {
    permanent("cannot_open", &error.message)
}
