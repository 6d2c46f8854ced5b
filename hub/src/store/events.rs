//! What happened that somebody may have to look at: security events, orphaned jobs, dead letters.

use genesis_shared::id::{DropletId, JobId};
use genesis_shared::timestamp::Timestamp;

use super::sqlite::{Conn, params};
use super::{Store, StoreError};

/// Events kept; the oldest go first. At 300 bytes each this is 30 MB.
pub const EVENTS_KEPT: u32 = 100_000;

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventRow {
    /// Stable machine-readable name.
    pub code: String,
    /// For people.
    pub message: String,
    /// Whom it is about.
    pub droplet: Option<String>,
    /// Which job it is about.
    pub job: Option<String>,
}

/// An event about to be written.
pub(super) struct NewEvent<'a> {
    pub(super) code: &'a str,
    pub(super) message: &'a str,
    pub(super) droplet: Option<&'a DropletId>,
    pub(super) job: Option<JobId>,
}

pub(super) fn insert(db: &Conn, event: &NewEvent<'_>, now: Timestamp) -> Result<(), StoreError> {
    tracing::info!(code = event.code, droplet = event.droplet.map(tracing::field::display), "event");
    db.prepare_cached("INSERT INTO event (at, code, message, droplet_id, job_id) VALUES (?, ?, ?, ?, ?)")?.execute(
        params![
            now.millis(),
            event.code,
            event.message,
            event.droplet.map(ToString::to_string),
            event.job.map(|job| job.to_string())
        ],
    )?;
    Ok(())
}

impl Store {
    /// The latest events, newest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn events(&self, limit: u32) -> Result<Vec<EventRow>, StoreError> {
        self.read(move |db| {
            let sql = "SELECT code, message, droplet_id, job_id FROM event ORDER BY number DESC LIMIT ?";
            let mut query = db.prepare(sql)?;
            let rows = query.query_map([limit], |row| {
                Ok(EventRow { code: row.get(0)?, message: row.get(1)?, droplet: row.get(2)?, job: row.get(3)? })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }
}
