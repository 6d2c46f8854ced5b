//! What the audit chain says of commands: ids, codes and counts. Nothing of a payload, and no words of a stranger.

use std::collections::BTreeMap;

use genesis_shared::audit::{Note, event};
use genesis_shared::bundle::Bundle;
use genesis_shared::id::{Digest, JobId};
use genesis_shared::life::{QUARANTINE_ENDED, QUARANTINED};
use genesis_shared::report::{CommandResult, Event, OutcomeState, Record};
use serde_json::json;

use super::admit::{Admitted, job_by_hand};

/// Queue of the bundles that ignite a droplet.
const IGNITION: &str = "ignition";

/// A bundle passed every rule.
pub fn accepted(admitted: &Admitted, bytes: Digest, job: JobId) -> Vec<Note> {
    let bundle = admitted.bundle.get();
    let mut actions: BTreeMap<&str, u64> = BTreeMap::new();
    for command in &bundle.commands {
        *actions.entry(&command.action).or_default() += 1;
    }
    let mut notes = vec![Note::new(
        event::COMMAND_ACCEPTED,
        json!({
            "bundle": bundle.id, "job": job, "digest": bytes, "queue": bundle.queue, "issuer": bundle.issuer,
            "signers": admitted.bundle.signers(), "actions": actions, "by_hand": job == job_by_hand(&bytes),
        }),
    )];
    // It was verified with the bundle, so it can be read.
    if let Ok(Some(grant)) = bundle.support() {
        notes.push(Note::new(
            event::SUPPORT_ACTION_TAKEN,
            json!({
                "bundle": bundle.id, "ticket": grant.ticket, "level": grant.level.name(), "support": grant.support.kid,
                "support_key": grant.support.public_key, "until": grant.not_after,
            }),
        ));
    }
    if bundle.queue == IGNITION {
        notes.push(Note::new(event::IGNITION_STARTED, json!({ "bundle": bundle.id })));
    }
    notes
}

/// A bundle was refused; `bytes` is the digest of what came.
pub fn refused(result: &CommandResult, bytes: Digest, by_hand: bool) -> Note {
    let (job, bundle, rule) = (result.job_id, result.bundle_id, &result.code);
    Note::new(
        event::COMMAND_REFUSED,
        json!({"job": job, "bundle": bundle, "rule": rule, "digest": bytes, "by_hand": by_hand}),
    )
}

/// A command has ended.
pub fn ended(result: &CommandResult) -> Vec<Note> {
    let name = match result.state {
        OutcomeState::Succeeded => event::COMMAND_SUCCEEDED,
        OutcomeState::Failed => event::COMMAND_FAILED,
        OutcomeState::Rejected => event::COMMAND_REFUSED,
        OutcomeState::Expired => event::COMMAND_EXPIRED,
        OutcomeState::Stuck => event::COMMAND_STUCK,
    };
    let (job, bundle, code) = (result.job_id, result.bundle_id, &result.code);
    let mut notes = vec![Note::new(name, json!({"job": job, "bundle": bundle, "code": code}))];
    let undone = result.steps.iter().filter(|step| step.state == "undone").count();
    if undone > 0 {
        notes.push(Note::new(event::ROLLBACK_EXECUTED, json!({"bundle": bundle, "steps": undone})));
    }
    notes
}

/// An ignition has ended.
pub fn ignition(bundle: &Bundle, result: &CommandResult) -> Option<Note> {
    let succeeded = result.state == OutcomeState::Succeeded;
    let name = if succeeded { event::IGNITION_COMPLETED } else { event::IGNITION_FAILED };
    (bundle.queue == IGNITION).then(|| Note::new(name, json!({"bundle": bundle.id, "code": result.code})))
}

/// What the chain says of a report that no command's acceptance or end goes with.
pub fn of_report(record: &Record) -> Vec<Note> {
    match record {
        Record::Result(result) => ended(result),
        Record::Event(Event { code, .. }) => of_event(code).into_iter().collect(),
        Record::Escrow(escrow) => vec![Note::new(event::SECRETS_DEPOSITED, json!({"recovery": escrow.recovery}))],
        // The acceptance was noted when it was accepted; an entry is no news about itself.
        Record::Accepted { .. } | Record::Metrics(_) | Record::Audit(_) => vec![],
    }
}

fn of_event(code: &str) -> Option<Note> {
    let name = match code {
        "drift_repaired" => event::DRIFT_REPAIRED,
        "drift_too_much" => event::DRIFT_TOO_MUCH,
        QUARANTINED => event::DROPLET_QUARANTINED,
        QUARANTINE_ENDED => event::DROPLET_RESUMED,
        "journal_damaged" => event::JOURNAL_DAMAGED,
        _ => return None,
    };
    Some(Note::new(name, json!({})))
}
