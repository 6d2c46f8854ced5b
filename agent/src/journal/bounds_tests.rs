//! What the journal forgets, when, and what it never does; and a file of version 1.

use genesis_shared::limits::{ENDED_COMMANDS_KEPT, OUTBOX_BYTES_MAX};
use genesis_shared::report::Metrics;
use serde_json::json;

use super::tests::{Fixture, at, new_command, result};
use super::*;
use crate::core::plan::Plan;
use crate::core::step::{Source, Step};

/// More than are kept whole.
const MANY: i64 = ENDED_COMMANDS_KEPT + 50;

fn id(n: i64) -> BundleId {
    BundleId::from_random(u128::try_from(n).unwrap().to_be_bytes())
}

fn row(seq: i64) -> CredentialRow {
    CredentialRow {
        name: "mail".parse().unwrap(),
        credential_type: "smtp".parse().unwrap(),
        n8n_id: "c1".into(),
        fingerprint: "f".into(),
        source: Source { bundle: seq, command: 0 },
    }
}

/// Accepts and ends one command, signed at `n` and good for 1000.
fn run(journal: &Journal, n: i64, changes: MapChanges) -> i64 {
    let new = NewCommand { bundle_id: id(n), signed_at: at(n), not_after: at(n + 1000), ..new_command(1) };
    let seq = journal.accept(&new, at(n)).unwrap();
    journal.planned(seq, &Plan { steps: vec![Step::CheckHealth { command: 0 }], commit_point: 1 }).unwrap();
    journal.append(seq, &Event::Resumed, at(n)).unwrap();
    let result = CommandResult { output: json!(["long"]), bundle_id: Some(id(n)), ..result(1) };
    journal.finish(&Ending { seq, event: None, result: &result, changes, told: None }, at(n)).unwrap();
    seq
}

fn prune(journal: &Journal) -> usize {
    (0..).take_while(|_| journal.prune().unwrap()).count()
}

#[test]
fn an_id_is_known_until_the_time_floor_has_passed_its_window_and_then_goes() {
    let journal = Fixture::new().open();
    for n in 1..=MANY {
        run(&journal, n, MapChanges::default());
    }
    assert!(prune(&journal) > 1, "in several steps");
    let extent = journal.extent().unwrap();
    assert_eq!((extent.commands, extent.events), (MANY.unsigned_abs(), ENDED_COMMANDS_KEPT.unsigned_abs()));
    let first = journal.seen(id(1)).unwrap().unwrap();
    assert_eq!(first.digest, new_command(1).digest, "a replay is refused");
    let told = journal.outcome(id(1)).unwrap().unwrap();
    assert_eq!((told.code.as_str(), told.output[0]["cut"].is_string()), ("ok", true), "and told how it ended");
    assert_eq!(journal.outcome(id(MANY)).unwrap().unwrap().output, json!(["long"]), "the latest are whole");

    // Only an acceptance moves the floor: here to where the first ten are too old for ever.
    run(&journal, 1011, MapChanges::default());
    prune(&journal);
    assert!((1..=10).all(|n| journal.seen(id(n)).unwrap().is_none()), "they are too old by the floor");
    assert!((11..=MANY).all(|n| journal.seen(id(n)).unwrap().is_some()), "their window is open");
    assert_eq!(journal.time_floor().unwrap(), at(1011));
    assert_eq!(journal.integrity().unwrap(), "ok");
}

#[test]
fn the_bundle_that_the_id_map_names_stays_however_old_it_is() {
    let journal = Fixture::new().open();
    let source = 1;
    assert_eq!(run(&journal, 1, MapChanges { credentials: vec![row(source)], ..MapChanges::default() }), source);
    for n in 2..=MANY {
        run(&journal, n, MapChanges::default());
    }
    run(&journal, 5000, MapChanges::default());
    prune(&journal);
    assert_eq!(journal.bundle(source).unwrap().unwrap(), b"bundle");
    assert_eq!(journal.bundle(2).unwrap(), None);
    assert_eq!(journal.extent().unwrap().commands, 1 + ENDED_COMMANDS_KEPT.unsigned_abs());

    let seq = run(&journal, 5001, MapChanges::default());
    journal.keep(&MapChanges { credentials: vec![row(seq)], ..MapChanges::default() }).unwrap();
    prune(&journal);
    assert_eq!((journal.bundle(source).unwrap(), journal.seen(id(1)).unwrap()), (None, None), "now nothing names it");
}

#[test]
fn an_open_command_is_never_pruned() {
    let journal = Fixture::new().open();
    let open = journal.accept(&NewCommand { not_after: at(1), ..new_command(9) }, at(1)).unwrap();
    journal.append(open, &Event::Resumed, at(1)).unwrap();
    for n in 1..=MANY {
        run(&journal, n, MapChanges::default());
    }
    run(&journal, 9000, MapChanges::default());
    prune(&journal);
    let command = journal.next_open(Lane::Change).unwrap().unwrap();
    assert_eq!((command.seq, command.bundle.as_slice(), command.events.len()), (open, b"bundle".as_slice(), 1));
    assert_eq!(journal.open_count().unwrap(), 1);
}

#[test]
fn the_file_gives_back_what_a_burst_took() {
    let journal = Fixture::new().open();
    let bundle = vec![7; 100_000];
    for n in 1..=MANY {
        let new = NewCommand { bundle_id: id(n), bundle: &bundle, signed_at: at(n), ..new_command(1) };
        let seq = journal.accept(&new, at(n)).unwrap();
        journal
            .finish(&Ending { seq, event: None, result: &result(1), changes: MapChanges::default(), told: None }, at(n))
            .unwrap();
    }
    let before = journal.extent().unwrap();
    prune(&journal);
    let after = journal.extent().unwrap();
    assert!(after.pages < before.pages * 3 / 4, "{before:?} {after:?}");
    assert!(after.free_pages <= genesis_shared::limits::JOURNAL_FREE_PAGES_KEPT, "{after:?}");
}

fn metrics() -> Record {
    Record::Metrics(Metrics {
        total_executions: 1,
        success_rate: None,
        avg_duration_ms: None,
        error_types: std::collections::BTreeMap::new(),
        since: at(0),
        truncated: false,
    })
}

fn event(code: &str) -> Record {
    let message = "m".repeat(30_000);
    Record::Event(ReportedEvent { code: code.into(), message })
}

#[test]
fn in_a_full_outbox_metrics_give_way_then_drift_and_never_a_result() {
    let journal = Fixture::new().open();
    for n in 1..=10 {
        journal.report_noted(&metrics(), &[], at(n)).unwrap();
    }
    journal.report_noted(&event("drift_repaired"), &[], at(11)).unwrap();
    journal.report_noted(&event("drift_too_much"), &[], at(12)).unwrap();
    let long = Record::Result(CommandResult { message: "r".repeat(30_000), ..result(1) });
    let mut pushed = 12;
    while journal.outbox_bytes().unwrap() + 31_000 < OUTBOX_BYTES_MAX {
        journal.report_noted(&long, &[], at(13)).unwrap();
        pushed += 1;
    }
    assert_eq!(journal.outbox(usize::MAX).unwrap().len(), pushed, "all fits");
    // The next is too much: all metrics weigh less than it, so the older drift goes too.
    journal.report_noted(&long, &[], at(14)).unwrap();
    let seqs: Vec<u64> = journal.outbox(3).unwrap().iter().map(|record| record.seq).collect();
    assert_eq!(seqs, [12, 13, 14]);
    for _ in 0..3 {
        journal.report_noted(&long, &[], at(15)).unwrap();
    }
    journal.report_noted(&metrics(), &[], at(16)).unwrap();
    let left = journal.outbox(usize::MAX).unwrap();
    assert!(left.iter().all(|record| matches!(record.record, Record::Result(_))), "results stay whatever they weigh");
    assert_eq!(left.len(), pushed - 12 + 4);
    assert!(journal.outbox_bytes().unwrap() > OUTBOX_BYTES_MAX);
    assert_eq!(journal.outbox_state().unwrap().0, u64::try_from(pushed).unwrap() + 5, "no number is used again");
}

#[test]
fn a_file_of_version_1_is_brought_along_with_all_that_is_in_it() {
    let fixture = Fixture::new();
    let path = fixture.dir.path().join("journal.db");
    {
        let old = Connection::open(&path).unwrap();
        old.execute_batch("PRAGMA journal_mode = WAL").unwrap();
        old.execute_batch(include_str!("schema_1.sql")).unwrap();
        let insert =
            "INSERT INTO command (bundle_id, job_id, digest, bundle, not_after, read_only, accepted_at, outcome)
                      VALUES (?, ?, ?, ?, 1000, 0, 7, ?)";
        let outcome = record::encode(&result(1)).unwrap();
        for (n, outcome) in [(1, Some(outcome)), (2, None)] {
            let new = new_command(n);
            let ids = (new.bundle_id.to_string(), new.job_id.to_string(), new.digest.to_string());
            old.execute(insert, params![ids.0, ids.1, ids.2, new.bundle, outcome]).unwrap();
        }
        let report = record::encode(&Record::Result(result(1))).unwrap();
        old.execute("INSERT INTO outbox (at, record) VALUES (8, ?)", [report]).unwrap();
        old.execute("INSERT INTO meta VALUES ('time_floor', x'353030')", []).unwrap();
        old.pragma_update(None, "user_version", 1).unwrap();
    }
    let journal = fixture.open();
    assert_eq!(journal.outcome(new_command(1).bundle_id).unwrap(), Some(result(1)));
    assert_eq!(journal.next_open(Lane::Change).unwrap().unwrap().bundle_id, new_command(2).bundle_id);
    assert_eq!(journal.outbox(9).unwrap()[0].record, Record::Result(result(1)));
    assert!(journal.outbox_bytes().unwrap() > 0 && journal.time_floor().unwrap() == at(500));
    for n in 1001..=1001 + MANY {
        run(&journal, n, MapChanges::default());
    }
    prune(&journal);
    assert_eq!(journal.seen(new_command(1).bundle_id).unwrap(), None);
    assert_eq!(journal.open_count().unwrap(), 1);
    drop(journal);
    let version = |c: Connection| c.query_row("PRAGMA user_version", [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(version(Connection::open(&path).unwrap()), 3);
    assert_eq!(columns(&path), fresh_columns(), "both ways lead to one schema");
}

/// Every column of a file.
pub(super) fn columns(path: &std::path::Path) -> Vec<(String, String, String)> {
    let c = Connection::open(path).unwrap();
    let sql = "SELECT m.name, p.name, p.type FROM sqlite_schema m, pragma_table_info(m.name) p ORDER BY 1, p.cid";
    let mut statement = c.prepare(sql).unwrap();
    let rows = statement.query_map([], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?))).unwrap();
    rows.collect::<rusqlite::Result<_>>().unwrap()
}

/// Those of a new file.
pub(super) fn fresh_columns() -> Vec<(String, String, String)> {
    let fresh = Fixture::new();
    drop(fresh.open());
    columns(&fresh.dir.path().join("journal.db"))
}

#[test]
fn a_command_whose_ids_are_damaged_is_set_aside_and_says_so() {
    let journal = Fixture::new().open();
    let seq = journal.accept(&new_command(1), at(1)).unwrap();
    let next = journal.accept(&new_command(2), at(1)).unwrap();
    journal.write(|tx| tx.execute("UPDATE command SET job_id = 'x' WHERE seq = 1", []).map(drop)).unwrap();
    journal.set_aside(seq, "look", at(2)).unwrap();
    assert_eq!(journal.next_open(Lane::Change).unwrap().unwrap().seq, next);
    let told: Vec<Record> = journal.outbox(9).unwrap().into_iter().map(|record| record.record).collect();
    assert!(matches!(&told[2], Record::Event(event) if event.code == "journal_damaged"), "{told:?}");
    assert!(matches!(&told[4], Record::Audit(entry) if entry.event == "JOURNAL_DAMAGED"), "{told:?}");
    assert_eq!(journal.seen(new_command(1).bundle_id).unwrap_err().code(), "journal_damaged", "it never passes as new");
}
