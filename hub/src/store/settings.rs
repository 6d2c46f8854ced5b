//! What operators change while the hub runs.

use genesis_shared::audit::event;
use genesis_shared::timestamp::Timestamp;
use serde_json::json;

use super::sqlite::{Conn, OptionalExtension, json as from_json, params, to_json};
use super::{Store, StoreError, audit};
use crate::queue::Limits;

/// Name of the governor's limits.
const LIMITS: &str = "limits";

pub(super) fn limits(db: &Conn) -> Result<Option<Limits>, StoreError> {
    let sql = "SELECT value FROM setting WHERE name = ?";
    Ok(db.query_row(sql, [LIMITS], |row| from_json(row, 0)).optional()?)
}

impl Store {
    /// Keeps the governor's limits, and notes who set them.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn set_limits(&self, limits: Limits, by: String, now: Timestamp) -> Result<(), StoreError> {
        self.write(move |db| {
            let sql = "INSERT INTO setting (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = ?2";
            db.execute(sql, params![LIMITS, to_json(&limits)?])?;
            audit::note(db, event::LIMITS_SET, json!({"limits": limits, "by": by}), now)
        })
        .await
    }
}
