//! Handing jobs out and taking them back; the rules are [`crate::queue`]'s.

use std::collections::BTreeSet;

use genesis_shared::id::{DropletId, JobId, LeaseId, WorkspaceId};
use genesis_shared::limits::POLL_COMMANDS_MAX;
use genesis_shared::timestamp::Timestamp;
use genesis_shared::wire::JobState;

use super::events::{self, NewEvent};
use super::jobs::{FOUND, Found, found, save};
use super::sqlite::{Conn, Params, params};
use super::{Store, StoreError};
use crate::queue::{self, Event};
use crate::random;

/// Jobs that one sweep moves at most; the next sweep takes the rest. Keeps one change below some 50 ms.
const SWEEP_MAX: i64 = 1000;
/// Outbox records are kept so long after they were applied, for looking into what went wrong.
const RECORD_KEEP_MS: i64 = 30 * 24 * 3600 * 1000;

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

/// What a poll asks for.
#[derive(Clone, Copy, Debug)]
pub struct LeaseRequest {
    /// Whose jobs.
    pub workspace: WorkspaceId,
    /// Whether leases that the droplet did not confirm are taken back first: at the start of a poll, and not when it
    /// was woken, for a poll that still waits has not been answered.
    pub take_back: bool,
    /// Until when the leases last.
    pub until: Timestamp,
    /// The time.
    pub now: Timestamp,
}

fn select(db: &Conn, condition: &str, values: impl Params) -> Result<Vec<Found>, StoreError> {
    let mut query = db.prepare_cached(&format!("{FOUND} WHERE {condition}"))?;
    let rows = query.query_map(values, found)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Applies `event` to each job; a job that does not know it stays as it is. A job that died leaves an event behind.
fn move_all(db: &Conn, jobs: &[Found], event: Event, now: Timestamp) -> Result<(), StoreError> {
    for found in jobs {
        let Ok(job) = queue::apply(found.job, event, now) else { continue };
        if job == found.job {
            continue;
        }
        save(db, found.number, &job, now)?;
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

fn lease(db: &Conn, request: LeaseRequest) -> Result<Vec<Leased>, StoreError> {
    let (workspace, now) = (request.workspace.to_string(), request.now);
    if request.take_back {
        let out = select(db, "workspace_id = ? AND state = 'leased'", [&workspace])?;
        move_all(db, &out, Event::TakeBack, now)?;
    }
    let limit = i64::try_from(POLL_COMMANDS_MAX).unwrap_or(i64::MAX);
    let due = select(
        db,
        &format!(
            "workspace_id = ? AND state = 'queued' AND not_before <= ? AND not_after >= ? AND {ALLOWED}
             ORDER BY priority, created_at, number LIMIT ?"
        ),
        params![workspace, now.millis(), now.millis(), limit],
    )?;
    let mut leased = Vec::with_capacity(due.len());
    for found in due {
        let Ok(job) = queue::apply(found.job, Event::Lease(request.until), now) else { continue };
        save(db, found.number, &job, now)?;
        let lease = random::lease_id();
        db.prepare_cached("UPDATE job SET lease_id = ? WHERE number = ?")?
            .execute(params![lease.to_string(), found.number])?;
        let sql =
            "SELECT b.document, b.action FROM job j JOIN bundle b ON b.bundle_id = j.bundle_id WHERE j.number = ?";
        let (document, action) =
            db.prepare_cached(sql)?.query_row([found.number], |row| Ok((row.get(0)?, row.get(1)?)))?;
        leased.push(Leased { lease, job: found.id, document, action });
    }
    Ok(leased)
}

fn delete(db: &Conn, sql: &str, values: impl Params) -> Result<(), StoreError> {
    db.prepare_cached(sql)?.execute(values)?;
    Ok(())
}

fn sweep(db: &Conn, now: Timestamp) -> Result<BTreeSet<WorkspaceId>, StoreError> {
    let over = select(
        db,
        "(state = 'leased' AND lease_until <= ?1) OR (state IN ('queued', 'leased') AND not_after < ?1) LIMIT ?2",
        params![now.millis(), SWEEP_MAX],
    )?;
    move_all(db, &over, Event::Tick, now)?;
    delete(db, "DELETE FROM sidecar_token WHERE expires_at <= ?", [now.millis()])?;
    delete(db, "DELETE FROM provisioning_token WHERE expires_at <= ?", [now.millis() - RECORD_KEEP_MS])?;
    // A deposit for the recovery key is made once and needed years later.
    delete(
        db,
        "DELETE FROM record WHERE (droplet_id, enrolment, seq) IN (
            SELECT droplet_id, enrolment, seq FROM record
            WHERE stored_at < ? AND body ->> '$.record.escrow' IS NULL LIMIT ?)",
        params![now.millis() - RECORD_KEEP_MS, SWEEP_MAX],
    )?;
    delete(db, "DELETE FROM former_record WHERE set_aside_at < ?", [now.millis() - RECORD_KEEP_MS])?;
    delete(
        db,
        "DELETE FROM event WHERE number <= (SELECT coalesce(max(number), 0) FROM event) - ?",
        [events::EVENTS_KEPT],
    )?;
    Ok(over.into_iter().map(|found| found.workspace).collect())
}

impl Store {
    /// Whether a poll of this tenant would find something, its own unconfirmed leases included.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn has_work(&self, workspace: WorkspaceId, now: Timestamp) -> Result<bool, StoreError> {
        self.read(move |db| {
            let sql = format!(
                "SELECT 1 FROM job WHERE workspace_id = ?1 AND not_before <= ?2 AND not_after >= ?2
                 AND state IN ('queued', 'leased') AND {ALLOWED} LIMIT 1"
            );
            Ok(db.prepare_cached(&sql)?.exists(params![workspace.to_string(), now.millis()])?)
        })
        .await
    }

    /// Whether anything waits that was not handed out yet. What is under way to the droplet does not count: the
    /// droplet would be told to ask for what it is just receiving.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn is_queued(&self, workspace: WorkspaceId, now: Timestamp) -> Result<bool, StoreError> {
        self.read(move |db| {
            let sql = format!(
                "SELECT 1 FROM job WHERE workspace_id = ?1 AND not_before <= ?2 AND not_after >= ?2
                 AND state = 'queued' AND {ALLOWED} LIMIT 1"
            );
            Ok(db.prepare_cached(&sql)?.exists(params![workspace.to_string(), now.millis()])?)
        })
        .await
    }

    /// Hands out what is due.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn lease(&self, request: LeaseRequest) -> Result<Vec<Leased>, StoreError> {
        self.write(move |db| lease(db, request)).await
    }

    /// Ends what ran out (leases, bundles, tokens, old records) and says which tenants have something new to fetch.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn sweep(&self, now: Timestamp) -> Result<BTreeSet<WorkspaceId>, StoreError> {
        self.write(move |db| sweep(db, now)).await
    }
}
