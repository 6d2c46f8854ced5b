//! Jobs as operators see and steer them; what may happen to a job is decided by [`crate::queue`].

use genesis_shared::audit::event;
use genesis_shared::id::{BundleId, JobId, WorkspaceId};
use genesis_shared::timestamp::Timestamp;
use genesis_shared::wire::{JobState, JobView};
use serde_json::json;

use super::sqlite::{ColumnResult, Conn, OptionalExtension, Row, json_or_none, params, text, time, time_or_none};
use super::{Store, StoreError, audit};
use crate::queue::{self, Event, Illegal, Job, Queue};

/// Which jobs to list, newest first.
#[derive(Clone, Debug, Default)]
pub struct JobFilter {
    /// Only in this state.
    pub state: Option<JobState>,
    /// Only this tenant's.
    pub workspace: Option<WorkspaceId>,
    /// Only this bundle's.
    pub bundle: Option<BundleId>,
    /// Only those before this number.
    pub before: Option<i64>,
    /// At most so many.
    pub limit: u32,
}

/// What became of an operator's wish.
#[derive(Clone, Debug, PartialEq)]
pub enum Steered {
    /// Done; the job now, and its number.
    Done(Box<JobView>, i64),
    /// No such job.
    NotFound,
    /// The job's state does not allow it.
    Refused(Illegal),
}

const VIEW: &str = "SELECT j.job_id, j.bundle_id, j.workspace_id, b.action, b.queue, j.priority, j.state, j.attempts,
    j.created_at, j.accepted_at, j.finished_at, j.result, j.number
    FROM job j JOIN bundle b ON b.bundle_id = j.bundle_id";

fn view(row: &Row<'_>) -> ColumnResult<JobView> {
    Ok(JobView {
        job_id: text(row, 0)?,
        bundle_id: text(row, 1)?,
        workspace_id: text(row, 2)?,
        action: row.get(3)?,
        queue: row.get(4)?,
        priority: row.get(5)?,
        state: state(row, 6)?,
        attempts: row.get(7)?,
        created_at: time(row, 8)?,
        accepted_at: time_or_none(row, 9)?,
        finished_at: time_or_none(row, 10)?,
        result: json_or_none(row, 11)?,
    })
}

fn state(row: &Row<'_>, column: usize) -> ColumnResult<JobState> {
    let name = row.get_ref(column)?.as_str()?;
    // A name that no state has could only come from a later hub, whose database this one does not open.
    Ok(JobState::ALL.iter().copied().find(|state| state.name() == name).unwrap_or(JobState::Stuck))
}

/// A job with its key, for the rules.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) number: i64,
    pub(super) id: JobId,
    pub(super) workspace: WorkspaceId,
    pub(super) queue: Queue,
    pub(super) job: Job,
}

/// Columns for [`found`].
pub(super) const FOUND: &str = "SELECT number, job_id, workspace_id, state, attempts, lease_until, not_before,
    not_after, result IS NOT NULL, queue FROM job";

pub(super) fn found(row: &Row<'_>) -> ColumnResult<Found> {
    let job = Job {
        state: state(row, 3)?,
        attempts: row.get(4)?,
        lease_until: time_or_none(row, 5)?,
        not_before: time(row, 6)?,
        not_after: time(row, 7)?,
        answered: row.get(8)?,
    };
    Ok(Found { number: row.get(0)?, id: text(row, 1)?, workspace: text(row, 2)?, queue: text(row, 9)?, job })
}

/// Reads one job for the rules.
pub(super) fn find(db: &Conn, id: JobId) -> Result<Option<Found>, StoreError> {
    Ok(db.prepare_cached(&format!("{FOUND} WHERE job_id = ?"))?.query_row([id.to_string()], found).optional()?)
}

/// Writes what the rules made of a job. Times of acceptance and end are the hub's: a droplet's clock may be wrong.
pub(super) fn save(db: &Conn, number: i64, job: &Job, now: Timestamp) -> Result<(), StoreError> {
    db.prepare_cached(
        "UPDATE job SET state = ?2, attempts = ?3, lease_until = ?4,
            lease_id = CASE WHEN ?4 IS NULL THEN NULL ELSE lease_id END,
            accepted_at = CASE WHEN ?2 = 'accepted' THEN coalesce(accepted_at, ?5) ELSE accepted_at END,
            finished_at = CASE WHEN ?6 THEN coalesce(finished_at, ?5) ELSE NULL END
         WHERE number = ?1",
    )?
    .execute(params![
        number,
        job.state.name(),
        job.attempts,
        job.lease_until.map(Timestamp::millis),
        now.millis(),
        job.state.is_final()
    ])?;
    Ok(())
}

fn one(db: &Conn, id: JobId) -> Result<Option<JobView>, StoreError> {
    Ok(db.prepare_cached(&format!("{VIEW} WHERE j.job_id = ?"))?.query_row([id.to_string()], view).optional()?)
}

impl Store {
    /// Jobs, newest first, each with the number that a cursor names.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn jobs(&self, filter: JobFilter) -> Result<Vec<(i64, JobView)>, StoreError> {
        self.read(move |db| {
            let sql = format!(
                "{VIEW} WHERE (?1 IS NULL OR j.state = ?1) AND (?2 IS NULL OR j.workspace_id = ?2)
                 AND (?3 IS NULL OR j.bundle_id = ?3) AND (?4 IS NULL OR j.number < ?4)
                 ORDER BY j.number DESC LIMIT ?5"
            );
            let mut query = db.prepare_cached(&sql)?;
            let filter = params![
                filter.state.map(JobState::name),
                filter.workspace.map(|id| id.to_string()),
                filter.bundle.map(|id| id.to_string()),
                filter.before,
                filter.limit
            ];
            let rows = query.query_map(filter, |row| Ok((row.get(12)?, view(row)?)))?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// One job.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn job(&self, id: JobId) -> Result<Option<JobView>, StoreError> {
        self.read(move |db| one(db, id)).await
    }

    /// Applies an operator's [`Event::Cancel`] or [`Event::Requeue`].
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn steer(&self, id: JobId, event: Event, by: String, now: Timestamp) -> Result<Steered, StoreError> {
        self.write(move |db| {
            let Some(found) = find(db, id)? else { return Ok(Steered::NotFound) };
            let job = match queue::apply(found.job, event, now) {
                Ok(job) => job,
                Err(illegal) => return Ok(Steered::Refused(illegal)),
            };
            save(db, found.number, &job, now)?;
            if event == Event::Requeue {
                // Somebody wants it now.
                db.prepare_cached("UPDATE job SET retry_at = 0 WHERE number = ?")?.execute([found.number])?;
            }
            let name = if event == Event::Cancel { event::JOB_CANCELLED } else { event::JOB_REQUEUED };
            audit::note(db, name, json!({"job": id, "workspace": found.workspace, "by": by}), now)?;
            let view = one(db, id)?.ok_or_else(|| StoreError::Broken(format!("job {id} is gone")))?;
            Ok(Steered::Done(Box::new(view), found.number))
        })
        .await
    }
}
