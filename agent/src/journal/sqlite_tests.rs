//! Tests of the journal's contract D1 to D5.

use genesis_shared::id::{Digest, JobId};
use genesis_shared::report::OutcomeState;
use serde_json::Value;

use super::*;
use crate::core::step::{Before, CredentialRow, Source, Step};
use crate::journal::{Lane, MapChanges};

pub(super) fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

pub(super) struct Fixture {
    pub(super) dir: tempfile::TempDir,
}

impl Fixture {
    pub(super) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }
    pub(super) fn open(&self) -> Journal {
        Journal::open(&self.dir.path().join("journal.db")).unwrap()
    }
}

pub(super) fn new_command(n: u8) -> NewCommand<'static> {
    NewCommand {
        bundle_id: BundleId::from_random([n; 16]),
        job_id: JobId::from_random([n; 16]),
        bundle: b"bundle",
        digest: Digest::of(b"bundle"),
        not_after: at(1000),
        lane: Lane::Change,
        signed_at: at(500),
    }
}

pub(super) fn result(n: u8) -> CommandResult {
    CommandResult {
        job_id: JobId::from_random([n; 16]),
        bundle_id: Some(BundleId::from_random([n; 16])),
        state: OutcomeState::Succeeded,
        code: "ok".into(),
        message: String::new(),
        retryable: false,
        started_at: at(1),
        finished_at: at(2),
        steps: vec![],
        output: Value::Null,
    }
}

#[test]
fn d1_what_was_answered_ok_is_there_after_a_reopen() {
    let fixture = Fixture::new();
    let plan = Plan { steps: vec![Step::CheckHealth { command: 0 }], commit_point: 1 };
    let started = Event::Started { step: 0, before: Before::default() };
    {
        let journal = fixture.open();
        let seq = journal.accept(&new_command(1), at(7)).unwrap();
        journal.planned(seq, &plan).unwrap();
        journal.append(seq, &started, at(8)).unwrap();
        journal.append(seq, &Event::Resumed, at(9)).unwrap();
    }
    let open = fixture.open().next_open(Lane::Change).unwrap().unwrap();
    assert_eq!(open.bundle, b"bundle");
    assert_eq!(open.plan, Some(plan));
    assert_eq!(open.events, [(at(8), started), (at(9), Event::Resumed)]);
}

#[test]
fn d2_acceptance_and_its_acknowledgement_come_together() {
    let journal = Fixture::new().open();
    journal.accept(&new_command(1), at(7)).unwrap();
    let outbox = journal.outbox(10).unwrap();
    assert_eq!(outbox.len(), 1);
    assert_eq!(outbox[0].record, Record::Accepted { job_id: new_command(1).job_id });
    assert!(journal.accept(&new_command(1), at(8)).is_err(), "the same id again");
    assert_eq!(journal.outbox(10).unwrap().len(), 1);
    assert_eq!(journal.seen(new_command(1).bundle_id).unwrap().unwrap().digest, Digest::of(b"bundle"));
}

#[test]
fn d3_outcome_id_map_and_report_come_together() {
    let journal = Fixture::new().open();
    let seq = journal.accept(&new_command(1), at(7)).unwrap();
    let row = CredentialRow {
        name: "mail".parse().unwrap(),
        credential_type: "smtp".parse().unwrap(),
        n8n_id: "c1".into(),
        fingerprint: "f".into(),
        source: Source { bundle: seq, command: 0 },
    };
    let result = result(1);
    let changes = MapChanges { credentials: vec![row.clone()], ..MapChanges::default() };
    journal.finish(&Ending { seq, event: None, result: &result, changes, told: None }, at(9)).unwrap();
    assert_eq!(journal.next_open(Lane::Change).unwrap(), None);
    assert_eq!(journal.outcome(new_command(1).bundle_id).unwrap(), Some(result.clone()));
    assert_eq!(journal.known().unwrap().credentials.values().collect::<Vec<_>>(), [&row]);
    assert_eq!(journal.outbox(10).unwrap()[1].record, Record::Result(result));
}

#[test]
fn d5_outbox_numbers_are_never_used_twice() {
    let fixture = Fixture::new();
    {
        let journal = fixture.open();
        journal.accept(&new_command(1), at(1)).unwrap();
        journal.accept(&new_command(2), at(1)).unwrap();
        journal.delivered(2).unwrap();
    }
    let journal = fixture.open();
    assert_eq!(journal.outbox_state().unwrap(), (2, 0));
    assert_eq!(journal.outbox_next().unwrap(), 3);
    journal.accept(&new_command(3), at(1)).unwrap();
    assert_eq!(journal.outbox(10).unwrap()[0].seq, 3);
}

#[test]
fn the_time_floor_only_rises() {
    let journal = Fixture::new().open();
    journal.accept(&NewCommand { signed_at: at(500), ..new_command(1) }, at(1)).unwrap();
    journal.accept(&NewCommand { signed_at: at(400), ..new_command(2) }, at(1)).unwrap();
    assert_eq!(journal.time_floor().unwrap(), at(500));
}

#[test]
fn commands_run_in_the_order_of_their_acceptance() {
    let journal = Fixture::new().open();
    let first = journal.accept(&new_command(9), at(1)).unwrap();
    journal.accept(&new_command(1), at(1)).unwrap();
    assert_eq!(journal.next_open(Lane::Change).unwrap().unwrap().seq, first);
}

#[test]
fn a_look_does_not_stand_in_line_with_changes() {
    let journal = Fixture::new().open();
    journal.accept(&new_command(1), at(1)).unwrap();
    let look = journal.accept(&NewCommand { lane: Lane::Look, ..new_command(2) }, at(1)).unwrap();
    assert_eq!(journal.next_open(Lane::Look).unwrap().unwrap().seq, look);
    assert_ne!(journal.next_open(Lane::Change).unwrap().unwrap().seq, look);
}

#[test]
fn a_damaged_row_is_named_and_hides_no_other() {
    let journal = Fixture::new().open();
    let seq = journal.accept(&new_command(1), at(1)).unwrap();
    journal.write(|tx| tx.execute("UPDATE command SET plan = x'00'", []).map(drop)).unwrap();
    assert_eq!(journal.next_open(Lane::Change).unwrap_err().code(), "journal_damaged");
    assert_eq!(journal.next_open_header(Lane::Change).unwrap().unwrap().0, seq);
}

#[test]
fn damaged_rows_of_map_and_outbox_stop_nothing() {
    let journal = Fixture::new().open();
    journal.accept(&new_command(1), at(1)).unwrap();
    let damage = "INSERT INTO credential VALUES ('mail', x'00'); INSERT INTO workflow VALUES ('a', x'00');
                  UPDATE outbox SET record = x'00'";
    journal.write(|tx| tx.execute_batch(damage)).unwrap();
    assert_eq!(journal.known().unwrap(), Known::default());
    let records = journal.outbox(10).unwrap();
    assert!(matches!(&records[0].record, Record::Event(event) if event.code == "journal_damaged"));
    assert_eq!(records[0].seq, 1);
}

#[test]
fn refuses_a_journal_of_a_newer_agent_and_a_second_process() {
    let fixture = Fixture::new();
    let journal = fixture.open();
    let path = fixture.dir.path().join("journal.db");
    assert_eq!(Journal::open(&path).err().unwrap().code(), "journal_in_use", "it is locked");
    journal.write(|tx| tx.pragma_update(None, "user_version", 99)).unwrap();
    drop(journal);
    assert_eq!(Journal::open(&path).err().unwrap().code(), "journal_newer");
}
