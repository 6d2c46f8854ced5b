//! Whom the watch watches, what explains their silence, and what it told, as events.

use genesis_shared::audit::event;
use genesis_shared::id::{DropletId, WorkspaceId};
use genesis_shared::timestamp::Timestamp;
use serde_json::json;

use super::events::{self, NewEvent};
use super::sqlite::{Conn, OptionalExtension, json_or_none, params, text, time_or_none, to_json};
use super::{Store, StoreError, audit};
use crate::watch::{Explained, Told, Watched};

/// Every droplet that has enrolled.
pub(super) fn watched(db: &Conn) -> Result<Vec<Watched>, StoreError> {
    let sql = "SELECT workspace_id, region, lifecycle FROM droplet WHERE enrolment IS NOT NULL";
    let mut query = db.prepare(sql)?;
    let rows = query.query_map([], |row| {
        Ok(Watched { workspace: text(row, 0)?, region: row.get(1)?, explained: json_or_none(row, 2)? })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// When anybody was heard of last.
pub(super) fn heard_at(db: &Conn) -> Result<Option<Timestamp>, StoreError> {
    Ok(db.query_row("SELECT max(last_seen_at) FROM droplet", [], |row| time_or_none(row, 0))?)
}

impl Store {
    /// Writes down what the watch told.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn tell(&self, told: Vec<Told>, now: Timestamp) -> Result<(), StoreError> {
        self.write(move |db| {
            for told in &told {
                let (code, message, workspace) = match told {
                    Told::Changed(change) => (change.code, &change.reason, Some(change.workspace)),
                    Told::MassSilence(message) => ("mass_silence", message, None),
                    Told::MassSilenceEnded(message) => ("mass_silence_ended", message, None),
                };
                let droplet = workspace.map(|workspace| droplet(db, workspace)).transpose()?.flatten();
                events::insert(db, &NewEvent { code, message, droplet: droplet.as_ref(), job: None }, now)?;
            }
            Ok(())
        })
        .await
    }

    /// What the watch has to know of a droplet that has just enrolled.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn watched(&self, droplet: DropletId) -> Result<Option<Watched>, StoreError> {
        self.read(move |db| {
            let sql = "SELECT workspace_id, region, lifecycle FROM droplet WHERE droplet_id = ?";
            let found = db.prepare_cached(sql)?.query_row([droplet.as_str()], |row| {
                Ok(Watched { workspace: text(row, 0)?, region: row.get(1)?, explained: json_or_none(row, 2)? })
            });
            Ok(found.optional()?)
        })
        .await
    }

    /// Keeps what an operator says a droplet is doing; its tenant, or `None` where there is no such droplet.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn set_lifecycle(
        &self,
        droplet: DropletId,
        explained: Option<Explained>,
        reason: String,
        by: String,
        now: Timestamp,
    ) -> Result<Option<WorkspaceId>, StoreError> {
        self.write(move |db| {
            let sql = "UPDATE droplet SET lifecycle = ? WHERE droplet_id = ? RETURNING workspace_id";
            let stored = explained.as_ref().map(to_json).transpose()?;
            let found = db.query_row(sql, params![stored, droplet.as_str()], |row| text(row, 0)).optional()?;
            if found.is_some() {
                let detail = json!({"droplet": droplet, "lifecycle": explained, "reason": reason, "by": by});
                audit::note(db, event::LIFECYCLE_SET, detail, now)?;
            }
            Ok(found)
        })
        .await
    }
}

fn droplet(db: &Conn, workspace: WorkspaceId) -> Result<Option<DropletId>, StoreError> {
    let sql = "SELECT droplet_id FROM droplet WHERE workspace_id = ?";
    Ok(db.prepare_cached(sql)?.query_row([workspace.to_string()], |row| text(row, 0)).optional()?)
}
