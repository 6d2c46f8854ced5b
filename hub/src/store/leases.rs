//! Handing jobs out and taking them back; the rules are [`crate::queue`]'s.

use std::collections::BTreeSet;

use genesis_shared::id::{DropletId, JobId, LeaseId, WorkspaceId};
use genesis_shared::limits::POLL_COMMANDS_MAX;
use genesis_shared::timestamp::Timestamp;
use genesis_shared::wire::JobState;

use super::events::{self, NewEvent};
use super::jobs::{FOUND, Found, found, save};
use super::sqlite::{Conn, Params, params, text, time_or_none};
use super::{Store, StoreError};
use crate::queue::{self, Candidate, Event, Queue};
use crate::random;

/// Jobs that one sweep moves at most; the next sweep takes the rest. Keeps one change below some 50 ms.
pub(super) const SWEEP_MAX: i64 = 1000;
/// Provisioning tokens are kept so long after their end: who presents one is told that it has ended.
const PROVISIONING_KEEP_MS: i64 = 30 * 24 * 3600 * 1000;

/// A quarantined droplet gets only what looks.
const ALLOWED: &str = "((SELECT quarantine FROM droplet d WHERE d.workspace_id = job.workspace_id) IS NULL
    OR (SELECT read_only FROM bundle b WHERE b.bundle_id = job.bundle_id))";

/// One hand-out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leased {
    /// This hand-out.
    pub lease: LeaseId,
    /// The job.
    pub job: JobId,
    /// The bundle's exact text.
    pub document: String,
    /// Its action names.
    pub action: String,
}

/// What a poll finds when it looks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Due {
    /// Whether the droplet is quarantined.
    pub quarantined: bool,
    /// Whether something was handed out to it that it has not confirmed.
    pub unconfirmed: bool,
    /// What it may be handed, most urgent first.
    pub candidates: Vec<Candidate>,
    /// When more becomes due, if anything does.
    pub next_at: Option<Timestamp>,
}

/// What a sweep did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Tenants that may have something new to fetch.
    pub workspaces: BTreeSet<WorkspaceId>,
    /// Jobs that are not in flight any more.
    pub freed: Vec<i64>,
}

pub(super) fn select(db: &Conn, condition: &str, values: impl Params) -> Result<Vec<Found>, StoreError> {
    let mut query = db.prepare_cached(&format!("{FOUND} WHERE {condition}"))?;
    let rows = query.query_map(values, found)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Applies `event` to each job; a job that does not know it stays as it is. A job that died leaves an event behind, one
/// whose lease ran out waits before it is handed out again.
pub(super) fn move_all(db: &Conn, jobs: &[Found], event: Event, now: Timestamp) -> Result<(), StoreError> {
    for found in jobs {
        let Ok(job) = queue::apply(found.job, event, now) else { continue };
        if job == found.job {
            continue;
        }
        save(db, found.number, &job, now)?;
        if event == Event::Tick && job.state == JobState::Queued {
            let retry_at = now.plus_millis(queue::retry::delay_ms(job.attempts, random::number()));
            db.prepare_cached("UPDATE job SET retry_at = ? WHERE number = ?")?
                .execute(params![retry_at.millis(), found.number])?;
        }
        if job.state == JobState::Dead {
            let message = "the job was handed out too often without an answer";
            let event = NewEvent { code: "dead_letter", message, droplet: None, job: Some(found.id) };
            events::insert(db, &event, now)?;
        }
    }
    Ok(())
}

/// A droplet came back with a new identity and an empty journal: what it had is queued again or needs a look.
pub(super) fn reinstalled(db: &Conn, droplet: &DropletId, now: Timestamp) -> Result<(), StoreError> {
    let sql = "workspace_id = (SELECT workspace_id FROM droplet WHERE droplet_id = ?)
               AND state IN ('leased', 'accepted')";
    let jobs = select(db, sql, [droplet.as_str()])?;
    for found in jobs.iter().filter(|found| found.job.state == JobState::Accepted) {
        let message =
            "the droplet was installed anew or restored while it had this job; push a new bundle if it is still wanted";
        let event = NewEvent { code: "job_orphaned", message, droplet: Some(droplet), job: Some(found.id) };
        events::insert(db, &event, now)?;
    }
    move_all(db, &jobs, Event::Reinstalled, now)
}

fn take_back(db: &Conn, workspace: WorkspaceId, now: Timestamp) -> Result<Vec<i64>, StoreError> {
    let out = select(db, "workspace_id = ? AND state = 'leased'", [workspace.to_string()])?;
    move_all(db, &out, Event::TakeBack, now)?;
    Ok(out.into_iter().map(|found| found.number).collect())
}

/// The plus before `not_after` keeps SQLite from its index: by it every queued job of the fleet would be read, where a
/// tenant has a few.
fn due(db: &Conn, workspace: WorkspaceId, now: Timestamp) -> Result<Due, StoreError> {
    let (workspace, millis) = (workspace.to_string(), now.millis());
    let sql = "SELECT quarantine IS NOT NULL FROM droplet WHERE workspace_id = ?";
    let quarantined = db.prepare_cached(sql)?.query_row([&workspace], |row| row.get(0))?;
    let sql = format!("SELECT 1 FROM job WHERE workspace_id = ? AND state = 'leased' AND {ALLOWED} LIMIT 1");
    let unconfirmed = db.prepare_cached(&sql)?.exists([&workspace])?;
    let sql = format!(
        "SELECT number, queue, priority, bundle_id FROM job WHERE workspace_id = ?1 AND state = 'queued' AND held = 0
         AND not_before <= ?2 AND retry_at <= ?2 AND +not_after >= ?2 AND {ALLOWED}
         ORDER BY priority, created_at, number LIMIT ?3"
    );
    let limit = i64::try_from(POLL_COMMANDS_MAX).unwrap_or(i64::MAX);
    let mut query = db.prepare_cached(&sql)?;
    let rows = query.query_map(params![workspace, millis, limit], |row| {
        Ok(Candidate { job: row.get(0)?, queue: text(row, 1)?, priority: row.get(2)?, bundle: text(row, 3)? })
    })?;
    let candidates = rows.collect::<Result<Vec<_>, _>>()?;
    if !candidates.is_empty() {
        // Whoever has something to ask for is woken when it may start, and looks again then.
        return Ok(Due { quarantined, unconfirmed, candidates, next_at: None });
    }
    let sql = "SELECT min(max(not_before, retry_at)) FROM job WHERE workspace_id = ?1 AND state = 'queued' AND held = 0
               AND max(not_before, retry_at) > ?2 AND +not_after >= ?2";
    let next_at = db.prepare_cached(sql)?.query_row(params![workspace, millis], |row| time_or_none(row, 0))?;
    Ok(Due { quarantined, unconfirmed, candidates, next_at })
}

/// Hands out those of the jobs that can be; what became of the others meanwhile the caller does not need to know.
fn lease(db: &Conn, jobs: &[i64], until: Timestamp, now: Timestamp) -> Result<Vec<(i64, Leased)>, StoreError> {
    let mut leased = Vec::with_capacity(jobs.len());
    for number in jobs {
        let Some(found) = select(db, "number = ?", [number])?.pop() else { continue };
        let Ok(job) = queue::apply(found.job, Event::Lease(until), now) else { continue };
        save(db, found.number, &job, now)?;
        let lease = random::lease_id();
        db.prepare_cached("UPDATE job SET lease_id = ?, leased_at = ? WHERE number = ?")?.execute(params![
            lease.to_string(),
            now.millis(),
            found.number
        ])?;
        let sql =
            "SELECT b.document, b.action FROM job j JOIN bundle b ON b.bundle_id = j.bundle_id WHERE j.number = ?";
        let (document, action) =
            db.prepare_cached(sql)?.query_row([found.number], |row| Ok((row.get(0)?, row.get(1)?)))?;
        leased.push((found.number, Leased { lease, job: found.id, document, action }));
    }
    Ok(leased)
}

/// A droplet gives a sign of life: its leases last longer.
pub(super) fn extend(db: &Conn, workspace: WorkspaceId, until: Timestamp) -> Result<(), StoreError> {
    let sql = "UPDATE job SET lease_until = max(lease_until, ?) WHERE workspace_id = ? AND state = 'leased'";
    db.prepare_cached(sql)?.execute(params![until.millis(), workspace.to_string()])?;
    Ok(())
}

/// A job in flight when the store was opened.
#[derive(Clone, Copy, Debug)]
pub struct InFlight {
    /// Its number.
    pub job: i64,
    /// Its queue.
    pub queue: Queue,
    /// Whose.
    pub workspace: WorkspaceId,
    /// Until when its lease lasts; `None` where the droplet has accepted it.
    pub until: Option<Timestamp>,
    /// When it was handed out.
    pub leased_at: Option<Timestamp>,
}

pub(super) fn in_flight(db: &Conn) -> Result<Vec<InFlight>, StoreError> {
    let sql =
        "SELECT number, queue, workspace_id, lease_until, leased_at FROM job WHERE state IN ('leased', 'accepted')";
    let mut query = db.prepare(sql)?;
    let rows = query.query_map([], |row| {
        Ok(InFlight {
            job: row.get(0)?,
            queue: text(row, 1)?,
            workspace: text(row, 2)?,
            until: time_or_none(row, 3)?,
            leased_at: time_or_none(row, 4)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn delete(db: &Conn, sql: &str, values: impl Params) -> Result<(), StoreError> {
    db.prepare_cached(sql)?.execute(values)?;
    Ok(())
}

fn sweep(db: &Conn, now: Timestamp) -> Result<Swept, StoreError> {
    let over = select(
        db,
        "(state = 'leased' AND lease_until <= ?1) OR (state IN ('queued', 'leased') AND not_after < ?1) LIMIT ?2",
        params![now.millis(), SWEEP_MAX],
    )?;
    move_all(db, &over, Event::Tick, now)?;
    delete(db, "DELETE FROM sidecar_token WHERE expires_at <= ?", [now.millis()])?;
    delete(db, "DELETE FROM provisioning_token WHERE expires_at <= ?", [now.millis() - PROVISIONING_KEEP_MS])?;
    delete(
        db,
        "DELETE FROM event WHERE number <= (SELECT coalesce(max(number), 0) FROM event) - ?",
        [events::EVENTS_KEPT],
    )?;
    let freed = over.iter().filter(|found| found.job.state == JobState::Leased).map(|found| found.number).collect();
    Ok(Swept { workspaces: over.into_iter().map(|found| found.workspace).collect(), freed })
}

impl Store {
    /// What a poll of this tenant would find.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn due(&self, workspace: WorkspaceId, now: Timestamp) -> Result<Due, StoreError> {
        self.read(move |db| due(db, workspace, now)).await
    }

    /// Takes back what was handed out to this tenant and not confirmed; which jobs.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn take_back(&self, workspace: WorkspaceId, now: Timestamp) -> Result<Vec<i64>, StoreError> {
        self.write(move |db| take_back(db, workspace, now)).await
    }

    /// Whether anything waits that was not handed out yet. What is under way to the droplet does not count: the
    /// droplet would be told to ask for what it is just receiving.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn is_queued(&self, workspace: WorkspaceId, now: Timestamp) -> Result<bool, StoreError> {
        self.read(move |db| {
            let sql = format!(
                "SELECT 1 FROM job WHERE workspace_id = ?1 AND not_before <= ?2 AND +not_after >= ?2
                 AND state = 'queued' AND held = 0 AND retry_at <= ?2 AND {ALLOWED} LIMIT 1"
            );
            Ok(db.prepare_cached(&sql)?.exists(params![workspace.to_string(), now.millis()])?)
        })
        .await
    }

    /// Hands out these jobs until then, as far as they are due still; each with its number.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn lease(
        &self,
        jobs: Vec<i64>,
        until: Timestamp,
        now: Timestamp,
    ) -> Result<Vec<(i64, Leased)>, StoreError> {
        self.write(move |db| lease(db, &jobs, until, now)).await
    }

    /// Ends what ran out: leases, bundles, tokens, old events.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn sweep(&self, now: Timestamp) -> Result<Swept, StoreError> {
        self.write(move |db| sweep(db, now)).await
    }
}

#[cfg(test)]
mod tests {
    use super::super::sqlite::{Conn, open, params};

    /// A look of one droplet among many costs what its own jobs cost.
    #[test]
    fn a_look_reads_the_jobs_of_its_own_tenant_only() {
        let dir = tempfile::tempdir().unwrap();
        let db: Conn = open(&dir.path().join("hub.db")).unwrap();
        let source = include_str!("leases.rs").split("#[cfg(test)]").next().unwrap();
        let mut looked = 0;
        for condition in source.split("WHERE workspace_id = ?1").skip(1) {
            let condition = condition.split(['"', '{', '\\']).next().unwrap().trim().trim_end_matches("AND");
            let sql = format!("EXPLAIN QUERY PLAN SELECT number FROM job WHERE workspace_id = ?1 {condition}");
            let mut query = db.prepare(&sql).unwrap();
            let rows = query.query_map(params!["w", 0], |row| row.get::<_, String>(3)).unwrap();
            let plan = rows.collect::<Result<Vec<_>, _>>().unwrap().join("; ");
            assert!(plan.contains("job_waiting (workspace_id=? AND state=?)"), "{sql}: {plan}");
            looked += 1;
        }
        assert!(looked >= 3, "{looked}");
    }
}
