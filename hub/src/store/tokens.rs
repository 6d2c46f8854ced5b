//! API tokens and sidecar tokens; only their digests are here (contract S6).

use genesis_shared::audit::event;
use genesis_shared::id::{Digest, DropletId, WorkspaceId};
use genesis_shared::limits::SIDECAR_TOKEN_TTL_MS;
use genesis_shared::timestamp::Timestamp;
use serde_json::json;

use super::lives::Sight;
use super::sqlite::{Conn, OptionalExtension, params, text, time, time_or_none};
use super::{Store, StoreError, audit};

/// Sidecar tokens that were handed out but never used, per enrolment: answers that got lost. Older ones go.
const UNUSED_TOKENS_MAX: i64 = 8;
/// How long a token stays good after a newer one was used: requests with it may still be under way.
const OLD_TOKEN_GRACE_MS: i64 = 10 * 60 * 1000;

/// An API token as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiToken {
    /// Unique name.
    pub name: String,
    /// Names of scopes joined by commas.
    pub scopes: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
}

/// Whose sidecar token it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SidecarToken {
    /// Row number; grows with each token.
    pub id: i64,
    /// The droplet.
    pub droplet: DropletId,
    /// Its tenant.
    pub workspace: WorkspaceId,
    /// The identity that it belongs to.
    pub enrolment: i64,
    /// When it ends.
    pub expires_at: Timestamp,
    /// Whether it was used before.
    pub used: bool,
    /// Boot epoch of the present life, if one is known; once the request was looked at, of the life that asks.
    pub epoch: Option<String>,
    /// Whether the droplet is quarantined.
    pub quarantined: bool,
    /// What was made of the life that asks, where it was not the present one.
    pub sight: Option<Sight>,
}

/// Who presents a bearer token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bearer {
    /// An operator, a dashboard, a script: name and scopes.
    Api(String, String),
    /// A droplet.
    Sidecar(SidecarToken),
}

/// Adds a sidecar token, inside another change.
pub(super) fn insert_sidecar(
    db: &Conn,
    token: Digest,
    droplet: &DropletId,
    enrolment: i64,
    now: Timestamp,
) -> Result<Timestamp, StoreError> {
    let expires_at = now.plus_millis(SIDECAR_TOKEN_TTL_MS);
    db.execute(
        "INSERT INTO sidecar_token (digest, droplet_id, enrolment, expires_at) VALUES (?, ?, ?, ?)",
        params![token.as_bytes(), droplet.as_str(), enrolment, expires_at.millis()],
    )?;
    db.execute(
        "DELETE FROM sidecar_token WHERE droplet_id = ?1 AND enrolment = ?2 AND used_at IS NULL AND id NOT IN (
            SELECT id FROM sidecar_token WHERE droplet_id = ?1 AND enrolment = ?2 AND used_at IS NULL
            ORDER BY id DESC LIMIT ?3)",
        params![droplet.as_str(), enrolment, UNUSED_TOKENS_MAX],
    )?;
    Ok(expires_at)
}

impl Store {
    /// Adds an API token; `false` if the name is taken, revoked or not.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn create_api_token(
        &self,
        name: String,
        scopes: String,
        token: Digest,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        self.write(move |db| {
            let sql = "INSERT INTO api_token (digest, name, scopes, created_at) VALUES (?, ?, ?, ?)
                       ON CONFLICT (name) DO NOTHING";
            let made = db.execute(sql, params![token.as_bytes(), name, scopes, now.millis()])? == 1;
            if made {
                audit::note(db, event::TOKEN_CREATED, json!({"name": name, "scopes": scopes}), now)?;
            }
            Ok(made)
        })
        .await
    }

    /// Every API token by name.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn api_tokens(&self) -> Result<Vec<ApiToken>, StoreError> {
        self.read(|db| {
            let mut query = db.prepare("SELECT name, scopes, created_at, revoked_at FROM api_token ORDER BY name")?;
            let rows = query.query_map([], |row| {
                let (created_at, revoked_at) = (time(row, 2)?, time_or_none(row, 3)?);
                Ok(ApiToken { name: row.get(0)?, scopes: row.get(1)?, created_at, revoked_at })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// Ends an API token; `false` if none of that name is good.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn revoke_api_token(&self, name: String, now: Timestamp) -> Result<bool, StoreError> {
        self.write(move |db| {
            let sql = "UPDATE api_token SET revoked_at = ? WHERE name = ? AND revoked_at IS NULL";
            let ended = db.execute(sql, params![now.millis(), name])? == 1;
            if ended {
                audit::note(db, event::TOKEN_REVOKED, json!({ "name": name }), now)?;
            }
            Ok(ended)
        })
        .await
    }

    /// Who presents a token with this digest, if it is good at `now`. The comparison is a look-up by digest, so its
    /// duration says nothing about the token.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn bearer(&self, token: Digest, now: Timestamp) -> Result<Option<Bearer>, StoreError> {
        self.read(move |db| {
            // A token of an earlier enrolment is another machine's: it died with the new identity.
            let sql = "SELECT t.id, t.droplet_id, d.workspace_id, t.enrolment, t.expires_at, t.used_at IS NOT NULL,
                       (SELECT epoch FROM life l WHERE l.droplet_id = t.droplet_id AND l.enrolment = t.enrolment
                        ORDER BY number DESC LIMIT 1), d.quarantine IS NOT NULL
                       FROM sidecar_token t JOIN droplet d ON d.droplet_id = t.droplet_id AND d.enrolment = t.enrolment
                       WHERE t.digest = ? AND t.expires_at > ?";
            let sidecar = db
                .prepare_cached(sql)?
                .query_row(params![token.as_bytes(), now.millis()], |row| {
                    Ok(SidecarToken {
                        id: row.get(0)?,
                        droplet: text(row, 1)?,
                        workspace: text(row, 2)?,
                        enrolment: row.get(3)?,
                        expires_at: time(row, 4)?,
                        used: row.get(5)?,
                        epoch: row.get(6)?,
                        quarantined: row.get(7)?,
                        sight: None,
                    })
                })
                .optional()?;
            if let Some(sidecar) = sidecar {
                return Ok(Some(Bearer::Sidecar(sidecar)));
            }
            let sql = "SELECT name, scopes FROM api_token WHERE digest = ? AND revoked_at IS NULL";
            let api = db.prepare_cached(sql)?.query_row([token.as_bytes()], |row| Ok((row.get(0)?, row.get(1)?)));
            Ok(api.optional()?.map(|(name, scopes)| Bearer::Api(name, scopes)))
        })
        .await
    }

    /// Notes the first use of a token; older ones of its enrolment end soon after.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn first_use(&self, token: &SidecarToken, now: Timestamp) -> Result<(), StoreError> {
        let token = token.clone();
        self.write(move |db| {
            db.execute("UPDATE sidecar_token SET used_at = ? WHERE id = ?", params![now.millis(), token.id])?;
            let end = now.plus_millis(OLD_TOKEN_GRACE_MS).millis();
            db.execute(
                "UPDATE sidecar_token SET expires_at = min(expires_at, ?) WHERE droplet_id = ? AND enrolment = ? AND id < ?",
                params![end, token.droplet.as_str(), token.enrolment, token.id],
            )?;
            Ok(())
        })
        .await
    }

    /// Adds a sidecar token to an enrolment.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn rotate(&self, old: &SidecarToken, token: Digest, now: Timestamp) -> Result<Timestamp, StoreError> {
        let old = old.clone();
        self.write(move |db| insert_sidecar(db, token, &old.droplet, old.enrolment, now)).await
    }
}
