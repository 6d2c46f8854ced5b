//! Registered droplets: what operators said of them and what was last heard from them.

use std::collections::BTreeMap;

use genesis_shared::audit::event;
use genesis_shared::id::{Digest, DropletId, PublicKey, WorkspaceId};
use genesis_shared::life::Quarantine;
use genesis_shared::limits::PROVISIONING_TOKEN_TTL_MS;
use genesis_shared::report::Heartbeat;
use genesis_shared::timestamp::Timestamp;
use genesis_shared::wire::DropletCreate;
use serde_json::json as json_of;

use super::sqlite::{
    ColumnResult, Conn, OptionalExtension, Row, json, json_or_none, params, text, text_or_none, time_or_none, to_json,
};
use super::tokens::SidecarToken;
use super::{Store, StoreError, audit, leases, lives};
use crate::state::{Condition, DropletState, Facts, Moment};

/// A droplet as stored.
#[derive(Clone, Debug, PartialEq)]
pub struct DropletRow {
    /// The provider's id.
    pub droplet: DropletId,
    /// The tenant.
    pub workspace: WorkspaceId,
    /// For people.
    pub name: Option<String>,
    /// Provider region.
    pub region: Option<String>,
    /// Free labels.
    pub labels: BTreeMap<String, String>,
    /// When it enrolled with its present identity; `None` before the first handshake.
    pub enrolled_at: Option<Timestamp>,
    /// Where secrets for it are sealed to.
    pub sealing_key: Option<PublicKey>,
    /// When it was last heard of.
    pub last_seen_at: Option<Timestamp>,
    /// Its latest health report.
    pub heartbeat: Option<Heartbeat>,
    /// Why it gets no changing command.
    pub quarantine: Option<Quarantine>,
}

/// What became of a registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registered {
    /// It is new.
    Yes,
    /// The tenant has a droplet already.
    WorkspaceTaken,
    /// The droplet is registered for another tenant.
    DropletTaken,
}

/// Which droplets to list.
#[derive(Clone, Debug, Default)]
pub struct DropletFilter {
    /// Only this tenant's.
    pub workspace: Option<WorkspaceId>,
    /// Only those in this state at the given moment.
    pub state: Option<(DropletState, Moment)>,
    /// Only those in this condition.
    pub condition: Option<Condition>,
    /// Only this region.
    pub region: Option<String>,
    /// Only those with this label.
    pub label: Option<(String, String)>,
    /// Only those after this id.
    pub after: Option<String>,
    /// At most so many.
    pub limit: u32,
}

const SELECT: &str = "SELECT d.droplet_id, d.workspace_id, d.name, d.region, d.labels, e.enrolled_at, e.sealing_key,
    d.last_seen_at, d.heartbeat, d.quarantine, json_extract(d.heartbeat, '$.state')
    FROM droplet d LEFT JOIN enrolment e ON e.droplet_id = d.droplet_id AND e.number = d.enrolment";

fn row(row: &Row<'_>) -> ColumnResult<DropletRow> {
    Ok(DropletRow {
        droplet: text(row, 0)?,
        workspace: text(row, 1)?,
        name: row.get(2)?,
        region: row.get(3)?,
        labels: json(row, 4)?,
        enrolled_at: time_or_none(row, 5)?,
        sealing_key: text_or_none(row, 6)?,
        last_seen_at: time_or_none(row, 7)?,
        heartbeat: json_or_none(row, 8)?,
        quarantine: json_or_none(row, 9)?,
    })
}

/// What the state of a droplet follows from, at column 10 of [`SELECT`] without reading the whole report.
pub(super) fn facts(row: &Row<'_>) -> ColumnResult<Facts> {
    Ok(Facts {
        enrolled: row.get::<_, Option<i64>>(5)?.is_some(),
        quarantined: row.get::<_, Option<String>>(9)?.is_some(),
        reported: row.get(10)?,
        last_seen_at: time_or_none(row, 7)?,
    })
}

fn issue(db: &Conn, droplet: &DropletId, token: Digest, now: Timestamp) -> Result<Timestamp, StoreError> {
    let expires_at = now.plus_millis(PROVISIONING_TOKEN_TTL_MS);
    // One good token per droplet: a new one takes the place of those before.
    db.execute("DELETE FROM provisioning_token WHERE droplet_id = ?", [droplet.as_str()])?;
    db.execute(
        "INSERT INTO provisioning_token (digest, droplet_id, expires_at) VALUES (?, ?, ?)",
        params![token.as_bytes(), droplet.as_str(), expires_at.millis()],
    )?;
    Ok(expires_at)
}

impl Store {
    /// Registers a droplet with its first provisioning token; answers when that ends.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn register_droplet(
        &self,
        new: DropletCreate,
        token: Digest,
        by: String,
        now: Timestamp,
    ) -> Result<(Registered, Timestamp), StoreError> {
        self.write(move |db| {
            let taken = |sql: &str, id: &str| db.query_row(sql, [id], |_| Ok(())).optional();
            let workspace = new.workspace_id.to_string();
            if taken("SELECT 1 FROM droplet WHERE workspace_id = ?", &workspace)?.is_some() {
                return Ok((Registered::WorkspaceTaken, now));
            }
            if taken("SELECT 1 FROM droplet WHERE droplet_id = ?", new.droplet_id.as_str())?.is_some() {
                return Ok((Registered::DropletTaken, now));
            }
            db.execute(
                "INSERT INTO droplet (workspace_id, droplet_id, name, region, labels, created_at) VALUES (?, ?, ?, ?, ?, ?)",
                params![workspace, new.droplet_id.as_str(), new.name, new.region, to_json(&new.labels)?, now.millis()],
            )?;
            let detail = json_of!({"droplet": new.droplet_id, "workspace": new.workspace_id, "by": by});
            audit::note(db, event::DROPLET_CREATED, detail, now)?;
            Ok((Registered::Yes, issue(db, &new.droplet_id, token, now)?))
        })
        .await
    }

    /// Issues a new provisioning token; `None` if the droplet is not registered.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn issue_provisioning_token(
        &self,
        droplet: DropletId,
        token: Digest,
        by: String,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, StoreError> {
        self.write(move |db| {
            let sql = "SELECT 1 FROM droplet WHERE droplet_id = ?";
            let known = db.query_row(sql, [droplet.as_str()], |_| Ok(())).optional()?;
            if known.is_none() {
                return Ok(None);
            }
            audit::note(db, event::PROVISIONING_TOKEN_ISSUED, json_of!({"droplet": droplet, "by": by}), now)?;
            issue(db, &droplet, token, now).map(Some)
        })
        .await
    }

    /// One droplet.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn droplet(&self, droplet: DropletId) -> Result<Option<DropletRow>, StoreError> {
        self.read(move |db| {
            let sql = format!("{SELECT} WHERE d.droplet_id = ?");
            Ok(db.prepare_cached(&sql)?.query_row([droplet.as_str()], row).optional()?)
        })
        .await
    }

    /// Droplets by id.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn droplets(&self, filter: DropletFilter) -> Result<Vec<DropletRow>, StoreError> {
        self.read(move |db| {
            let sql = format!(
                "{SELECT} WHERE (?1 IS NULL OR d.region = ?1) AND (?2 IS NULL OR EXISTS (
                    SELECT 1 FROM json_each(d.labels) WHERE key = ?2 AND value = ?3))
                 AND (?5 IS NULL OR d.workspace_id = ?5)
                 AND d.droplet_id > coalesce(?4, '') ORDER BY d.droplet_id"
            );
            let (label, value) = filter.label.unzip();
            let mut query = db.prepare_cached(&sql)?;
            let workspace = filter.workspace.map(|id| id.to_string());
            let mut rows = query.query(params![filter.region, label, value, filter.after, workspace])?;
            let mut found = Vec::new();
            let limit = usize::try_from(filter.limit).unwrap_or(usize::MAX);
            while let Some(next) = if found.len() < limit { rows.next()? } else { None } {
                // The state depends on the time, so the database cannot choose by it; it is read before all the rest is.
                let facts = facts(next)?;
                let fits = filter.state.is_none_or(|(state, moment)| facts.state(moment) == state)
                    && filter.condition.is_none_or(|condition| facts.condition() == Some(condition));
                if fits {
                    found.push(row(next)?);
                }
            }
            Ok(found)
        })
        .await
    }

    /// Stores the latest health report of the droplet whose token it is, and the checkpoint in it where that is new. What
    /// is handed out to the droplet stays so until `lease_until` at least.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn heartbeat(
        &self,
        token: &SidecarToken,
        mut beat: Heartbeat,
        lease_until: Timestamp,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let token = token.clone();
        self.write_patiently(move |db| {
            leases::extend(db, token.workspace, lease_until)?;
            let whose = (&token.droplet, token.enrolment);
            lives::heard(db, whose, token.epoch.as_deref(), beat.journal_high_water, now)?;
            if let Some(checkpoint) = beat.audit_checkpoint.take() {
                audit::keep_checkpoint(db, &token, &checkpoint, now)?;
            }
            db.prepare_cached("UPDATE droplet SET last_seen_at = ?, heartbeat = ? WHERE droplet_id = ?")?
                .execute(params![now.millis(), to_json(&beat)?, beat.droplet_id.as_str()])?;
            Ok(())
        })
        .await
    }
}
