//! What the audit chain says of a command that has ended, besides that it has.

use std::collections::BTreeMap;

use genesis_shared::audit::{Note, event};
use genesis_shared::bundle::Bundle;
use genesis_shared::report::CommandResult;
use serde_json::json;

use super::Running;
use crate::core::audit;
use crate::core::saga::{End, StepState};
use crate::core::step::Step;

/// Everything that is noted with the end.
pub(super) fn ended(running: &Running, end: &End, result: &CommandResult) -> Vec<Note> {
    let mut notes = audit::ended(result);
    if matches!(end, End::Succeeded) {
        let bundle = running.command.bundle_id;
        let of = |(name, things)| Note::new(name, json!({"bundle": bundle, "names": things}));
        notes.extend(changed(running).into_iter().map(of));
    }
    let bundle = Bundle::reread(&running.command.bundle).ok();
    notes.extend(bundle.and_then(|bundle| audit::ignition(&bundle, result)));
    notes
}

/// What was changed, by the specification's names for it.
fn changed(running: &Running) -> BTreeMap<&'static str, Vec<String>> {
    let mut changed: BTreeMap<_, Vec<String>> = BTreeMap::new();
    for (step, state) in running.plan.steps.iter().zip(&running.state.steps) {
        let StepState::Done(before, output) = state else { continue };
        let is_new = before.n8n_id.is_none();
        let (name, thing) = match step {
            Step::PutCredential { name, .. } if is_new => (event::CREDENTIAL_CREATED, name.to_string()),
            Step::PutCredential { name, .. } => (event::CREDENTIAL_ROTATED, name.to_string()),
            Step::PutWorkflow { key, .. } if is_new => (event::WORKFLOW_DEPLOYED, key.to_string()),
            Step::PutWorkflow { key, .. } => (event::WORKFLOW_UPDATED, key.to_string()),
            Step::Activate { key, .. } => (event::WORKFLOW_ACTIVATED, key.to_string()),
            Step::Deactivate { key, .. } => (event::WORKFLOW_DEACTIVATED, key.to_string()),
            Step::DeleteWorkflow { key, .. } => (event::WORKFLOW_DELETED, key.to_string()),
            Step::DeleteCredential { name, .. } => (event::CREDENTIAL_DELETED, name.to_string()),
            Step::Repoint { .. }
            | Step::CheckReferences { .. }
            | Step::RemoveDoubles { .. }
            | Step::NoteGeneration { .. }
            | Step::CheckHealth { .. }
            | Step::ListState { .. }
            | Step::Verify { .. }
            | Step::CollectMetrics { .. }
            // What became of a swap is in the outcome, which is an entry of its own.
            | Step::Stack { .. }
            | Step::Update { .. } => continue,
        };
        if output.answer["changed"] == true || output.removed.is_some() {
            changed.entry(name).or_default().push(thing);
        }
    }
    changed
}
