//! The trust roots that were stored, oldest first.

use genesis_shared::audit::event;
use genesis_shared::timestamp::Timestamp;
use genesis_shared::wire::TrustRootView;
use serde_json::json;

use super::sqlite::{ColumnResult, Conn, OptionalExtension, Row, params, text};
use super::{Store, StoreError, audit};

/// What became of a new root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutRoot {
    /// Stored now, or the very same document was the latest already.
    Stored,
    /// There is one that is as new or newer; its version.
    NotNewer(u64),
}

fn version(row: &Row<'_>, column: usize) -> ColumnResult<u64> {
    // Written from u64 that fits (see put_trust_root), so it is never negative.
    Ok(row.get::<_, i64>(column)?.unsigned_abs())
}

fn view(row: &Row<'_>) -> ColumnResult<TrustRootView> {
    Ok(TrustRootView { version: version(row, 0)?, digest: text(row, 1)?, document: row.get(2)? })
}

pub(super) fn documents(db: &Conn, after: u64) -> Result<Vec<String>, StoreError> {
    let after = i64::try_from(after).unwrap_or(i64::MAX);
    let mut query = db.prepare_cached("SELECT document FROM trust_root WHERE version > ? ORDER BY version")?;
    let rows = query.query_map([after], |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

impl Store {
    /// The latest root.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn trust_root(&self) -> Result<Option<TrustRootView>, StoreError> {
        self.read(|db| {
            let sql = "SELECT version, digest, document FROM trust_root ORDER BY version DESC LIMIT 1";
            Ok(db.prepare_cached(sql)?.query_row([], view).optional()?)
        })
        .await
    }

    /// The texts of all roots newer than `after`, oldest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn trust_roots_after(&self, after: u64) -> Result<Vec<String>, StoreError> {
        self.read(move |db| documents(db, after)).await
    }

    /// Stores a root that was verified.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn put_trust_root(&self, root: TrustRootView, by: String, now: Timestamp) -> Result<PutRoot, StoreError> {
        self.write(move |db| {
            let sql = "SELECT version, digest, document FROM trust_root ORDER BY version DESC LIMIT 1";
            if let Some(latest) = db.query_row(sql, [], view).optional()?
                && root.version <= latest.version
            {
                return Ok(if latest == root { PutRoot::Stored } else { PutRoot::NotNewer(latest.version) });
            }
            let version = i64::try_from(root.version).map_err(|e| StoreError::Broken(e.to_string()))?;
            db.execute(
                "INSERT INTO trust_root (version, digest, document, stored_at) VALUES (?, ?, ?, ?)",
                params![version, root.digest.to_string(), root.document, now.millis()],
            )?;
            let detail = json!({"version": root.version, "digest": root.digest, "by": by});
            audit::note(db, event::TRUST_ROOT_STORED, detail, now)?;
            Ok(PutRoot::Stored)
        })
        .await
    }
}
