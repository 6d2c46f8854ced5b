//! The audit chain in the journal: with what it tells, across restarts and pruning, and in a file of version 2.

use genesis_shared::audit::{self, Entry, Expected};
use genesis_shared::limits::AUDIT_ENTRIES_KEPT;
use serde_json::json;

use super::bounds_tests::{columns, fresh_columns};
use super::tests::{Fixture, at, new_command, result};
use super::*;

const CHAIN: &str = "droplet/w/d";

fn open(fixture: &Fixture, boot: &str) -> Journal {
    let mut journal = fixture.open();
    journal.own_audit(CHAIN.into(), boot.into());
    journal
}

fn note(n: u64) -> Note {
    Note::new(audit::event::COMMAND_REFUSED, json!({ "n": n }))
}

fn entries(journal: &Journal) -> Vec<Entry> {
    journal.audit_entries(0, usize::MAX).unwrap().into_iter().map(|(_, entry)| entry).collect()
}

fn names(journal: &Journal) -> Vec<String> {
    entries(journal).into_iter().map(|entry| entry.event).collect()
}

fn delivered(journal: &Journal) -> Vec<Entry> {
    let records = journal.outbox(usize::MAX).unwrap().into_iter();
    records.filter_map(|record| if let Record::Audit(entry) = record.record { Some(entry) } else { None }).collect()
}

#[test]
fn d7_an_entry_comes_with_what_it_tells_or_not_at_all() {
    let fixture = Fixture::new();
    let mut journal = open(&fixture, "1");
    let accepted = Note::new(audit::event::COMMAND_ACCEPTED, json!({}));
    let seq = journal.accept_noted(&new_command(1), std::slice::from_ref(&accepted), at(1)).unwrap();
    journal.accept_noted(&new_command(1), &[accepted], at(2)).unwrap_err();
    journal
        .finish(&Ending { seq, event: None, result: &result(1), changes: MapChanges::default(), told: None }, at(3))
        .unwrap();
    assert_eq!(names(&journal), ["CHAIN_STARTED", "COMMAND_ACCEPTED", "COMMAND_SUCCEEDED"]);
    assert_eq!(delivered(&journal), entries(&journal), "and all of it goes to the hub");
    journal.set_hook(Rc::new(|| true));
    journal.note(note(1), at(4)).unwrap_err();
    drop(journal);
    let journal = open(&fixture, "1");
    assert_eq!(entries(&journal).len(), 3, "what failed left nothing");
    journal.note(note(2), at(5)).unwrap();
    let head = audit::verify(CHAIN, Expected::WHOLE, entries(&journal), &[]).unwrap();
    assert_eq!((head.seq, Some(head.hash)), (4, journal.audit_head().unwrap().map(|head| head.hash)));
}

#[test]
fn another_start_of_the_host_is_noted_with_the_next_entry_and_another_life_of_the_agent_is_not() {
    let fixture = Fixture::new();
    open(&fixture, "1").note(note(1), at(1)).unwrap();
    open(&fixture, "1").note(note(2), at(2)).unwrap();
    let journal = open(&fixture, "2");
    journal.note(note(3), at(3)).unwrap();
    journal.note(note(4), at(4)).unwrap();
    let expected = ["CHAIN_STARTED", "COMMAND_REFUSED", "COMMAND_REFUSED", "DROPLET_REBOOTED", "COMMAND_REFUSED"];
    assert_eq!(names(&journal)[..5], expected);
    assert!(audit::verify(CHAIN, Expected::WHOLE, entries(&journal), &[]).is_ok());
}

#[test]
fn delivered_entries_go_and_the_chain_goes_on_behind_its_head() {
    let fixture = Fixture::new();
    let journal = open(&fixture, "1");
    let kept = usize::try_from(AUDIT_ENTRIES_KEPT).unwrap();
    let many: Vec<Note> = (1..AUDIT_ENTRIES_KEPT + 300).map(note).collect();
    journal.set_meta_noted("x", b"", &many, at(1)).unwrap();
    let steps = || (0..).take_while(|_| journal.prune().unwrap()).count();
    assert_eq!(steps(), 0, "nothing was delivered");
    journal.delivered(100).unwrap();
    assert!(steps() > 0 && entries(&journal)[0].seq == 101);
    journal.delivered(u64::MAX).unwrap();
    steps();
    assert_eq!(entries(&journal).len(), kept);
    journal.note(note(0), at(2)).unwrap();
    let pruned = Expected { pruned: true, runs: 1 };
    let head = audit::verify(CHAIN, pruned, entries(&journal), &[]).unwrap();
    assert_eq!((head.seq, head.entries), (AUDIT_ENTRIES_KEPT + 301, AUDIT_ENTRIES_KEPT + 1));
}

#[test]
fn what_repeats_is_not_noted_when_the_outbox_is_half_full() {
    let journal = open(&Fixture::new(), "1");
    let drift = Record::Event(ReportedEvent { code: "drift_repaired".into(), message: String::new() });
    journal.report(&drift, at(1)).unwrap();
    assert_eq!(names(&journal), ["CHAIN_STARTED", "DRIFT_REPAIRED"]);
    let long = Record::Result(CommandResult { message: "r".repeat(30_000), ..result(1) });
    while journal.outbox_bytes().unwrap() <= OUTBOX_BYTES_MAX / 2 {
        journal.report_noted(&long, &[], at(2)).unwrap();
    }
    journal.report(&drift, at(3)).unwrap();
    assert_eq!(names(&journal).len(), 2);
    journal.report(&long, at(4)).unwrap();
    assert_eq!(names(&journal).len(), 3, "the end of a command always is");
}

#[test]
fn a_file_of_version_2_is_brought_along_and_begins_a_chain() {
    let fixture = Fixture::new();
    let path = fixture.dir.path().join("journal.db");
    {
        let old = Connection::open(&path).unwrap();
        old.execute_batch("PRAGMA journal_mode = WAL").unwrap();
        old.execute_batch(include_str!("schema_1.sql")).unwrap();
        old.execute_batch(include_str!("migrate_2.sql")).unwrap();
        let report = record::encode(&Record::Result(result(1))).unwrap();
        old.execute("INSERT INTO outbox (at, record) VALUES (8, ?)", [report]).unwrap();
        old.pragma_update(None, "user_version", 2).unwrap();
    }
    let journal = open(&fixture, "1");
    assert_eq!(journal.audit_head().unwrap(), None);
    assert_eq!(journal.outbox(9).unwrap()[0].record, Record::Result(result(1)));
    journal.note(note(1), at(9)).unwrap();
    assert_eq!(names(&journal), ["CHAIN_STARTED", "COMMAND_REFUSED"]);
    drop(journal);
    let version = Connection::open(&path).unwrap().query_row("PRAGMA user_version", [], |row| row.get::<_, i64>(0));
    assert_eq!(version.unwrap(), 3);
    assert_eq!(columns(&path), fresh_columns(), "both ways lead to one schema");
}
