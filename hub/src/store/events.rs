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

/// Which events are wanted.
#[derive(Clone, Debug, Default)]
pub struct EventFilter {
    /// Only with this code.
    pub code: Option<String>,
    /// Only about this droplet.
    pub droplet: Option<DropletId>,
}

const SELECT: &str = "SELECT number, at, code, message, droplet_id, job_id FROM event
    WHERE (?1 IS NULL OR code = ?1) AND (?2 IS NULL OR droplet_id = ?2)";

fn select(db: &Conn, sql: &str, filter: &EventFilter, from: i64, limit: u32) -> Result<Vec<EventView>, StoreError> {
    let mut query = db.prepare_cached(sql)?;
    let droplet = filter.droplet.as_ref().map(DropletId::as_str);
    let rows = query.query_map(params![filter.code, droplet, from, limit], |row| {
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
}

impl Store {
    /// Events, newest first; with `before`, only those with a lower number.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn events(&self, before: Option<i64>, limit: u32) -> Result<Vec<EventView>, StoreError> {
        self.events_of(EventFilter::default(), before, limit).await
    }

    /// Events that pass the filter, newest first; with `before`, only those with a lower number.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn events_of(
        &self,
        filter: EventFilter,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<EventView>, StoreError> {
        self.read(move |db| {
            let sql = format!("{SELECT} AND number < ?3 ORDER BY number DESC LIMIT ?4");
            select(db, &sql, &filter, before.unwrap_or(i64::MAX), limit)
        })
        .await
    }

    /// Events that pass the filter and came after that number, oldest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn events_after(
        &self,
        filter: EventFilter,
        after: i64,
        limit: u32,
    ) -> Result<Vec<EventView>, StoreError> {
        self.read(move |db| {
            let sql = format!("{SELECT} AND number > ?3 ORDER BY number LIMIT ?4");
            select(db, &sql, &filter, after, limit)
        })
        .await
    }

    /// Numbers of the oldest and the latest event that is kept; `None` before the first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn event_range(&self) -> Result<Option<(i64, i64)>, StoreError> {
        self.read(|db| {
            let sql = "SELECT (SELECT min(number) FROM event), (SELECT max(number) FROM event)";
            let range = db.prepare_cached(sql)?.query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            Ok(match range {
                (Some(oldest), Some(latest)) => Some((oldest, latest)),
                (None, _) | (_, None) => None,
            })
        })
        .await
    }
}
