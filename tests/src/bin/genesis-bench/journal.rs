//! Fills a journal as many commands would, and measures what it holds then and how long it takes.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use genesis_agent::core::plan::Plan;
use genesis_agent::core::saga::Event;
use genesis_agent::core::step::{Before, Step, StepOutput};
use genesis_agent::journal::{Ending, Journal, Lane, MapChanges, NewCommand};
use genesis_shared::id::{BundleId, Digest, JobId};
use genesis_shared::report::{CommandResult, OutcomeState};
use genesis_shared::timestamp::Timestamp;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Failure, say};

#[derive(clap::Args)]
pub struct Options {
    /// Commands that are accepted, run to their end, and delivered.
    #[arg(long, default_value_t = 100_000)]
    commands: u64,
    /// Seconds from one to the next by the droplet's clock; with 0 none becomes too old to be replayed.
    #[arg(long, default_value_t = 60)]
    every_s: i64,
    /// Hours for which each bundle is valid.
    #[arg(long, default_value_t = 24)]
    valid_h: i64,
    /// Bytes of each bundle.
    #[arg(long, default_value_t = 4096)]
    bundle_bytes: usize,
    /// Where to make the journal; its disk's syncs are most of the time.
    #[arg(long)]
    dir: Option<PathBuf>,
}

pub fn run(options: &Options) -> Result<Value, Failure> {
    let folder = match &options.dir {
        Some(dir) => TempDir::new_in(dir)?,
        None => TempDir::new()?,
    };
    let path = folder.path().join("journal.db");
    let journal = Journal::open(&path)?;
    let bundle = vec![b'x'; options.bundle_bytes];
    let mut accepts = Vec::new();
    let mut largest = 0;
    for n in 1..=options.commands {
        let now = Timestamp::from_millis(i64::try_from(n)? * options.every_s * 1000 + 1);
        accepts.push(one(&journal, n, &bundle, now, now.plus_millis(options.valid_h * 3_600_000))?);
        if n % 1000 == 0 {
            largest = largest.max(std::fs::metadata(&path)?.len());
        }
        if n % 10_000 == 0 {
            say(&format!("{n} commands; {:?}", journal.extent()?));
        }
    }
    while journal.prune()? {}
    let extent = journal.extent()?;
    drop(journal);
    let file_bytes = std::fs::metadata(&path)?.len();
    let started = now();
    let journal = Journal::open(&path)?;
    drop((journal.next_open(Lane::Change)?, journal.next_open(Lane::Look)?, journal.known()?, journal.outbox(1)?));
    let start = started.elapsed();
    if journal.integrity()? != "ok" {
        return Err("the journal is damaged".into());
    }
    accepts.sort();
    let percentile = |percent: usize| accepts.get(accepts.len() * percent / 100).map_or(0, Duration::as_micros);
    Ok(json!({
        "commands": options.commands,
        "file_bytes": file_bytes,
        "file_bytes_max": largest.max(file_bytes),
        "rows": extent.commands,
        "events": extent.events,
        "free_pages": extent.free_pages,
        "start_ms": start.as_secs_f64() * 1000.0,
        "accept_us_p50": percentile(50),
        "accept_us_p99": percentile(99),
        "every_s": options.every_s,
        "valid_h": options.valid_h,
        "bundle_bytes": options.bundle_bytes,
        "method": "each command is accepted, planned, run in two events, ended, delivered, and one step of pruning follows, with synchronous=FULL on the folder's disk; start is opening the file to the next open command of both lanes, the id map and the first record",
    }))
}

fn now() -> Instant {
    #[allow(clippy::disallowed_methods, reason = "a bench measures time")]
    Instant::now()
}

/// One command from acceptance to delivery; answers how long its acceptance took.
fn one(journal: &Journal, n: u64, bundle: &[u8], at: Timestamp, until: Timestamp) -> Result<Duration, Failure> {
    let id = u128::from(n).to_be_bytes();
    let new = NewCommand {
        bundle_id: BundleId::from_random(id),
        job_id: JobId::from_random(id),
        bundle,
        digest: Digest::of(bundle),
        not_after: until,
        lane: Lane::Change,
        signed_at: at,
    };
    let started = now();
    let seq = journal.accept(&new, at)?;
    let took = started.elapsed();
    journal.planned(seq, &Plan { steps: vec![Step::CheckHealth { command: 0 }], commit_point: 1 })?;
    journal.append(seq, &Event::Started { step: 0, before: Before::default() }, at)?;
    let result = CommandResult {
        job_id: new.job_id,
        bundle_id: Some(new.bundle_id),
        state: OutcomeState::Succeeded,
        code: "ok".into(),
        message: "done".into(),
        retryable: false,
        started_at: at,
        finished_at: at,
        steps: vec![],
        output: json!([{"n8n_status": "running", "active_workflows": 7}]),
    };
    let event = Some(Event::Done { step: 0, output: StepOutput::answer(json!({"ok": true})) });
    journal.finish(&Ending { seq, event, result: &result, changes: MapChanges::default(), told: None }, at)?;
    journal.delivered(journal.outbox_state()?.0)?;
    journal.prune()?;
    Ok(took)
}
