//! Sequences of journal calls as the agent makes them, and what a journal shows of them.

use std::fmt::Write;

use genesis_agent::core::plan::Plan;
use genesis_agent::core::saga::Event;
use genesis_agent::core::step::{Before, CredentialRow, Source, Step};
use genesis_agent::journal::{Ending, Journal, JournalError, Lane, MapChanges, NewCommand};
use genesis_shared::id::{BundleId, Digest, JobId};
use genesis_shared::limits::ENDED_COMMANDS_KEPT;
use genesis_shared::report::{CommandResult, Event as Happened, Metrics, OutcomeState, Record};
use genesis_shared::timestamp::Timestamp;
use serde_json::json;

/// One call.
pub type Call = Box<dyn Fn(&Journal) -> Result<(), JournalError>>;

/// Calls after which everything is examined.
pub struct Script {
    /// For messages.
    pub name: &'static str,
    /// What happened before in a file that is there already; without it the file is made, which is examined too.
    pub earlier: Option<fn(&Journal)>,
    /// The calls in order.
    pub steps: Vec<Call>,
}

/// Everything that a journal tells, as text.
pub type Shown = String;

/// Ids up to this number are asked for.
const IDS: u8 = 12;

/// Asks a journal for everything.
///
/// # Errors
/// It cannot be read.
pub fn show(journal: &Journal) -> Result<Shown, JournalError> {
    let mut text = String::new();
    for lane in [Lane::Change, Lane::Look] {
        let open = journal.next_open(lane)?;
        let open = open.map(|c| (c.seq, c.job_id, c.bundle_id, Digest::of(&c.bundle), c.not_after, c.plan, c.events));
        writeln!(text, "{lane:?}: {open:?}").unwrap();
    }
    for n in 1..=IDS {
        let seen = journal.seen(bundle_id(n.into()))?;
        let outcome = journal.outcome(bundle_id(n.into()))?;
        let bundle = journal.bundle(n.into())?.map(|bytes| Digest::of(&bytes));
        writeln!(text, "{n}: {seen:?} {outcome:?} {bundle:?}").unwrap();
    }
    writeln!(text, "{:?} {:?}", journal.known()?, journal.outbox(usize::MAX)?).unwrap();
    writeln!(text, "{:?} {:?}", journal.outbox_state()?, journal.time_floor()?).unwrap();
    writeln!(text, "{:?} {}", journal.meta("pace")?, journal.open_count()?).unwrap();
    let extent = journal.extent()?;
    writeln!(text, "{} commands {} events", extent.commands, extent.events).unwrap();
    Ok(text)
}

/// What a droplet goes through: bundles, a plan, events, ends, reports, repairs, in two lives of the agent.
pub fn a_life() -> Script {
    let plan = || Plan { steps: vec![Step::CheckHealth { command: 0 }], commit_point: 1 };
    let steps: Vec<Call> = vec![
        Box::new(|j| j.set_meta("pace", b"calm")),
        Box::new(|j| accept(j, 1, Lane::Change, 20_000, 1000)),
        Box::new(|j| accept(j, 2, Lane::Look, 300, 1000)),
        Box::new(move |j| j.planned(1, &plan())),
        Box::new(|j| j.append(1, &Event::Started { step: 0, before: Before::default() }, at(4))),
        Box::new(|j| finish(j, 2, MapChanges::default())),
        Box::new(|j| j.delivered(2)),
        Box::new(|j| accept(j, 3, Lane::Change, 9000, 1000)),
        Box::new(|j| j.append(1, &Event::Resumed, at(5))),
        Box::new(|j| finish(j, 1, MapChanges { credentials: vec![row(1)], ..MapChanges::default() })),
        Box::new(|j| j.report(&Record::Metrics(metrics()), at(6))),
        Box::new(|j| j.delivered(4)),
        Box::new(|j| j.planned(3, &Plan { steps: vec![], commit_point: 0 })),
        Box::new(|j| j.keep(&MapChanges { credentials: vec![row(3)], ..MapChanges::default() })),
        Box::new(|j| finish(j, 3, MapChanges::default())),
        Box::new(|j| j.report(&Record::Event(Happened { code: "a".into(), message: "b".repeat(5000) }), at(7))),
    ];
    Script { name: "a life", earlier: None, steps }
}

/// Pruning: details go, bundles go, ids go, pages are given back.
pub fn forgetting() -> Script {
    let earlier: fn(&Journal) = |j| {
        for n in 1..=ENDED_COMMANDS_KEPT + 40 {
            accept(j, n, Lane::Change, if n <= 40 { 30_000 } else { 200 }, n).unwrap();
            j.append(n, &Event::Resumed, at(1)).unwrap();
            finish(j, n, MapChanges { credentials: vec![row(3)], ..MapChanges::default() }).unwrap();
        }
        j.delivered(u64::MAX >> 1).unwrap();
    };
    let prune = || -> Call { Box::new(|j| j.prune().map(drop)) };
    let mut steps: Vec<Call> = vec![prune(), prune(), Box::new(|j| accept(j, 900, Lane::Change, 500, 900))];
    steps.extend((0..6).map(|_| prune()));
    Script { name: "forgetting", earlier: Some(earlier), steps }
}

/// So many bytes that the write-ahead log is carried over into the database and begun anew while the journal is open.
pub fn a_full_log() -> Script {
    let earlier: fn(&Journal) = |j| {
        for n in 1..=4 {
            accept(j, n, Lane::Change, 900_000, 1000).unwrap();
        }
    };
    let steps: Vec<Call> = vec![
        Box::new(|j| accept(j, 5, Lane::Change, 500_000, 1000)),
        Box::new(|j| finish(j, 1, MapChanges::default())),
        Box::new(|j| accept(j, 6, Lane::Change, 20_000, 1000)),
        Box::new(|j| finish(j, 2, MapChanges::default())),
    ];
    Script { name: "a full log", earlier: Some(earlier), steps }
}

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn bundle_id(n: i64) -> BundleId {
    BundleId::from_random(u128::from(n.unsigned_abs()).to_be_bytes())
}

fn job_id(n: i64) -> JobId {
    JobId::from_random(u128::from(n.unsigned_abs()).to_be_bytes())
}

fn accept(journal: &Journal, n: i64, lane: Lane, bytes: usize, signed: i64) -> Result<(), JournalError> {
    let bundle: Vec<u8> = format!("bundle {n} ").into_bytes().into_iter().cycle().take(bytes).collect();
    let new = NewCommand {
        bundle_id: bundle_id(n),
        job_id: job_id(n),
        bundle: &bundle,
        digest: Digest::of(&bundle),
        not_after: at(signed + 850),
        lane,
        signed_at: at(signed),
    };
    journal.accept(&new, at(3)).map(drop)
}

fn finish(journal: &Journal, seq: i64, changes: MapChanges) -> Result<(), JournalError> {
    let result = CommandResult {
        job_id: job_id(seq),
        bundle_id: Some(bundle_id(seq)),
        state: OutcomeState::Succeeded,
        code: "ok".into(),
        message: "done".into(),
        retryable: false,
        started_at: at(1),
        finished_at: at(2),
        steps: vec![],
        output: json!([{"changed": true}]),
    };
    let event = Some(Event::Done { step: 0, output: genesis_agent::core::step::StepOutput::answer(json!({"ok": 1})) });
    journal.finish(&Ending { seq, event, result: &result, changes, told: None }, at(8))
}

fn row(bundle: i64) -> CredentialRow {
    CredentialRow {
        name: "mail".parse().unwrap(),
        credential_type: "smtp".parse().unwrap(),
        n8n_id: "c1".into(),
        fingerprint: "f".into(),
        source: Source { bundle, command: 0 },
    }
}

fn metrics() -> Metrics {
    let error_types = std::collections::BTreeMap::new();
    Metrics {
        total_executions: 9,
        success_rate: None,
        avg_duration_ms: None,
        error_types,
        since: at(0),
        truncated: false,
    }
}
