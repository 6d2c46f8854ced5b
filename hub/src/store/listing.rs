//! Bundles as operators look at them: what was pushed, by whom, and how far it got.

use std::collections::BTreeMap;

use genesis_shared::id::BundleId;
use genesis_shared::wire::BundleView;

use super::sqlite::{ColumnResult, Conn, OptionalExtension, Row, params, text, time};
use super::{Store, StoreError};

/// Which bundles to list, newest first.
#[derive(Clone, Debug, Default)]
pub struct BundleFilter {
    /// Only of this queue.
    pub queue: Option<String>,
    /// Only with this action among its commands.
    pub action: Option<String>,
    /// Only pushed with the token of this name.
    pub pushed_by: Option<String>,
    /// Only those before this number.
    pub before: Option<i64>,
    /// At most so many.
    pub limit: u32,
}

// A bundle is never changed nor moved, so its row number tells the order in which bundles came.
const VIEW: &str = "SELECT bundle_id, digest, action, queue, priority, not_before, not_after, pushed_by, created_at,
    length(document), rowid FROM bundle";

fn view(row: &Row<'_>) -> ColumnResult<BundleView> {
    Ok(BundleView {
        bundle_id: text(row, 0)?,
        digest: text(row, 1)?,
        action: row.get(2)?,
        queue: row.get(3)?,
        priority: row.get(4)?,
        not_before: time(row, 5)?,
        not_after: time(row, 6)?,
        pushed_by: row.get(7)?,
        created_at: time(row, 8)?,
        bytes: row.get::<_, i64>(9)?.unsigned_abs(),
        jobs: None,
    })
}

fn jobs(db: &Conn, bundle: BundleId) -> Result<BTreeMap<String, u64>, StoreError> {
    let mut query = db.prepare_cached("SELECT state, count(*) FROM job WHERE bundle_id = ? GROUP BY state")?;
    let rows = query.query_map([bundle.to_string()], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?.unsigned_abs())))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

impl Store {
    /// Bundles, newest first, each with the number that a cursor names.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn bundles(&self, filter: BundleFilter) -> Result<Vec<(i64, BundleView)>, StoreError> {
        self.read(move |db| {
            let sql = format!(
                "{VIEW} WHERE (?1 IS NULL OR queue = ?1) AND (?2 IS NULL OR ',' || action || ',' LIKE '%,' || ?2 || ',%')
                 AND (?3 IS NULL OR pushed_by = ?3) AND rowid < ?4 ORDER BY rowid DESC LIMIT ?5"
            );
            let mut query = db.prepare_cached(&sql)?;
            let before = filter.before.unwrap_or(i64::MAX);
            let values = params![filter.queue, filter.action, filter.pushed_by, before, filter.limit];
            let rows = query.query_map(values, |row| Ok((row.get(10)?, view(row)?)))?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// One bundle, with its jobs counted by state.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn bundle(&self, id: BundleId) -> Result<Option<BundleView>, StoreError> {
        self.read(move |db| {
            let sql = format!("{VIEW} WHERE bundle_id = ?");
            let found = db.prepare_cached(&sql)?.query_row([id.to_string()], view).optional()?;
            found.map(|found| Ok(BundleView { jobs: Some(jobs(db, id)?), ..found })).transpose()
        })
        .await
    }
}
