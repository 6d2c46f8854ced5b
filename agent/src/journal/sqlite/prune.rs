//! Forgets what is needed no more, a bounded step at a time.
//!
//! | of an ended command | stays |
//! |---|---|
//! | its events, its plan, the details of its answer | until [`ENDED_COMMANDS_KEPT`] later ones have ended; for whoever has to look |
//! | the bundle's bytes | as long as that, and as long as the id map names it: repair and undo read it |
//! | id, digest, job, how it ended | until the bundle cannot be accepted any more, and while its bytes stay |
//!
//! Audit entries stay until they are delivered and [`AUDIT_ENTRIES_KEPT`](genesis_shared::limits::AUDIT_ENTRIES_KEPT)
//! later ones are here; the head of the chain stays for ever.
//!
//! **Why nothing that is forgotten can run again.** A row goes when its `not_after` lies before the *time floor*, not
//! before the clock: the floor is kept in this file and only rises, and admission never takes an earlier time than the
//! floor (A8 comes before A10), so a bundle that is too old for it now is too old for ever, wherever the clock is set.
//! By the clock it would be wrong: a clock that runs ahead for a minute would forget ids whose window is still open.
//! The floor rises with every acceptance, and only an acceptance adds a row, so pruning keeps up. The outbox has a copy
//! of each result of its own; it waits for delivery whatever becomes of the command's row.

use std::collections::BTreeSet;

use genesis_shared::limits::{ENDED_COMMANDS_KEPT, JOURNAL_FREE_PAGES_KEPT, PRUNE_PAGES, PRUNE_ROWS};
use genesis_shared::report::CommandResult;

use super::{Connection, Journal, OptionalExtension, Outcome, Result, Transaction, audit, params, record};
use crate::core::plan::Known;

/// What one step is to do, read before its transaction begins.
#[derive(Default)]
struct Work {
    /// Events, plan and details go; `Some` is the shorter outcome, `None` leaves one that cannot be read as it is.
    strip: Vec<(i64, Option<Vec<u8>>)>,
    /// The bundle's bytes go.
    unbundle: Vec<i64>,
    /// All of it goes.
    forget: Vec<i64>,
    /// The audit chain up to this row goes.
    audit: Option<i64>,
    /// Pages that the file can do without.
    pages: u64,
}

impl Work {
    fn is_none(&self) -> bool {
        self.strip.is_empty()
            && self.unbundle.is_empty()
            && self.forget.is_empty()
            && self.audit.is_none()
            && self.pages == 0
    }
}

impl Journal {
    /// One step of pruning, at most `PRUNE_ROWS` commands of each kind in one short transaction; answers whether there
    /// was anything to do.
    ///
    /// Call it while no command that changes something runs: such a one reads bundles by the id map as it was.
    ///
    /// # Errors
    /// Nothing of the step was done.
    pub fn prune(&self) -> Result<bool> {
        let named = named(&self.known()?);
        let floor = self.time_floor()?.millis();
        let work = self.read(|c| find(c, &named, floor))?;
        if work.is_none() {
            return Ok(false);
        }
        self.write(|tx| carry_out(tx, &work))?;
        Ok(true)
    }
}

/// The bundles that the id map names, which repair and undo read. IMPORTANT: whatever else comes to name a bundle by its
/// number belongs here.
fn named(known: &Known) -> BTreeSet<i64> {
    let credentials = known.credentials.values().map(|row| row.source.bundle);
    credentials.chain(known.workflows.values().map(|row| row.source.bundle)).collect()
}

fn find(c: &Connection, named: &BTreeSet<i64>, floor: i64) -> Outcome<Work> {
    let mut work = Work::default();
    let list = |sql: &str, value: i64| -> Outcome<Vec<i64>> {
        let mut statement = c.prepare_cached(sql)?;
        let rows = statement.query_map([value], |row| row.get(0))?;
        rows.take(PRUNE_ROWS).collect()
    };
    // The newest ended command that is old enough.
    let sql = "SELECT seq FROM command WHERE outcome IS NOT NULL ORDER BY seq DESC LIMIT 1 OFFSET ?";
    let newest: Option<i64> = c.prepare_cached(sql)?.query_row([ENDED_COMMANDS_KEPT], |row| row.get(0)).optional()?;
    if let Some(newest) = newest {
        let sql = "SELECT seq FROM command
                   WHERE pruned < 2 AND pruned = 0 AND seq <= ? AND outcome IS NOT NULL ORDER BY seq";
        for seq in list(sql, newest)? {
            let sql = "SELECT outcome FROM command WHERE seq = ?";
            let outcome: Vec<u8> = c.prepare_cached(sql)?.query_row([seq], |row| row.get(0))?;
            work.strip.push((seq, shortened(&outcome)));
        }
    }
    let sql = "SELECT seq FROM command WHERE pruned < 2 AND pruned = 1 ORDER BY seq";
    let mut statement = c.prepare_cached(sql)?;
    // Those that the id map names stay here for long; they are few.
    for seq in statement.query_map([], |row| row.get(0))? {
        let seq = seq?;
        if !named.contains(&seq) && work.unbundle.len() < PRUNE_ROWS {
            work.unbundle.push(seq);
        }
    }
    work.forget = list("SELECT seq FROM command WHERE pruned = 2 AND not_after < ? ORDER BY not_after", floor)?;
    work.audit = audit::prunable(c)?;
    let free: i64 = c.query_row("PRAGMA freelist_count", [], |row| row.get(0))?;
    let vacuum: i64 = c.query_row("PRAGMA auto_vacuum", [], |row| row.get(0))?;
    if vacuum != 0 {
        work.pages = free.unsigned_abs().saturating_sub(JOURNAL_FREE_PAGES_KEPT).min(PRUNE_PAGES);
    }
    Ok(work)
}

/// What the hub is told should it ask again: how it ended, without traces and answers, which it was told once.
fn shortened(outcome: &[u8]) -> Option<Vec<u8>> {
    let mut result: CommandResult = record::decode(outcome).ok()?;
    (result.steps, result.output) = (vec![], serde_json::json!([{"cut": "told once, and not kept"}]));
    record::encode(&result).ok()
}

fn carry_out(tx: &Transaction<'_>, work: &Work) -> Outcome<()> {
    for (seq, outcome) in &work.strip {
        tx.prepare_cached("DELETE FROM event WHERE command = ?")?.execute([seq])?;
        let sql = "UPDATE command SET pruned = 1, plan = NULL, outcome = coalesce(?, outcome) WHERE seq = ?";
        tx.prepare_cached(sql)?.execute(params![outcome, seq])?;
    }
    for seq in &work.unbundle {
        tx.prepare_cached("UPDATE command SET pruned = 2, bundle = x'' WHERE seq = ?")?.execute([seq])?;
    }
    for seq in &work.forget {
        tx.prepare_cached("DELETE FROM command WHERE seq = ?")?.execute([seq])?;
    }
    if let Some(number) = work.audit {
        tx.prepare_cached("DELETE FROM audit WHERE number <= ?")?.execute([number])?;
    }
    if work.pages > 0 {
        // It gives one page back per row that is asked of it.
        let mut statement = tx.prepare(&format!("PRAGMA incremental_vacuum({})", work.pages))?;
        let mut rows = statement.query([])?;
        while rows.next()?.is_some() {}
    }
    Ok(())
}
