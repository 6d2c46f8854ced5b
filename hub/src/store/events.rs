//! What happened that somebody may have to look at: security events, orphaned jobs, dead letters.

use genesis_shared::id::{DropletId, JobId};
use genesis_shared::timestamp::Timestamp;
use genesis_shared::wire::EventView;

use super::sqlite::{Conn, params, text_or_none, time};
use super::{Store, StoreError, audit};

/// Events kept; the oldest go first. At 300 bytes each this is 30 MB.
pub const EVENTS_KEPT: u32 = 100_000;

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
    audit::note_event(db, event, now)
}

impl Store {
    /// Events, newest first; with `before`, only those with a lower number.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn events(&self, before: Option<i64>, limit: u32) -> Result<Vec<EventView>, StoreError> {
        self.read(move |db| {
            let sql = "SELECT number, at, code, message, droplet_id, job_id FROM event WHERE number < ?
                       ORDER BY number DESC LIMIT ?";
            let mut query = db.prepare(sql)?;
            let rows = query.query_map(params![before.unwrap_or(i64::MAX), limit], |row| {
                Ok(EventView {
                    number: row.get(0)?,
                    at: time(row, 1)?,
                    code: row.get(2)?,
                    message: row.get(3)?,
                    droplet_id: text_or_none(row, 4)?,
                    job_id: text_or_none(row, 5)?,
                })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }
}
