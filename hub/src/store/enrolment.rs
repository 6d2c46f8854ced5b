//! Enrolment: a one-time token binds a droplet's own key to its workspace; later that key alone wins tokens back.

use genesis_shared::audit::event;
use genesis_shared::id::{Digest, DropletId, PublicKey, WorkspaceId};
use genesis_shared::life::Life;
use genesis_shared::timestamp::Timestamp;
use genesis_shared::wire::HandshakeRequest;
use serde_json::json;

use super::events::{self, NewEvent};
use super::sqlite::{Conn, OptionalExtension, params, text, text_or_none, time, to_json};
use super::{Store, StoreError, audit, leases, lives, tokens, trust};

/// Renewals that one identity may make between two handshakes. Each leaves its `jti` behind for ever, because a droplet's clock cannot say
/// which are old; one a month for 80 years is 1,000, and the rest is room for restarts.
pub const RENEWALS_MAX: i64 = 10_000;

/// Whether a handshake was accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Handshake {
    /// The droplet is enrolled; its token ends then, and these are the trust roots.
    Enrolled(Timestamp, Vec<String>),
    /// No trust root was stored yet; the provisioning token was not used up.
    NoTrustRoot,
    /// No such provisioning token, or one that a newer one replaced.
    UnknownToken,
    /// The provisioning token ended.
    Expired,
    /// The provisioning token is another droplet's or tenant's.
    NotYours,
    /// The provisioning token was used by another identity.
    UsedByAnother,
}

/// What the hub has to say about a handshake besides the request.
#[derive(Clone, Debug)]
pub struct HandshakeContext {
    /// Digest of the sidecar token that the answer would carry.
    pub sidecar_token: Digest,
    /// The address that the request came from.
    pub peer_ip: Option<String>,
    /// The time.
    pub now: Timestamp,
}

/// Who may renew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The present enrolment.
    pub enrolment: i64,
    /// Its key.
    pub key: PublicKey,
}

/// Whether a renewal was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// The new token ends then.
    Renewed(Timestamp),
    /// The assertion was used before.
    Replayed,
    /// [`RENEWALS_MAX`] were made.
    UsedUp,
}

impl Store {
    /// Carries out a handshake whose proof was checked.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn handshake(
        &self,
        request: HandshakeRequest,
        context: HandshakeContext,
    ) -> Result<Handshake, StoreError> {
        self.write(move |db| handshake(db, request, &context)).await
    }

    /// The present identity of a droplet.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn identity(&self, droplet: DropletId) -> Result<Option<Identity>, StoreError> {
        self.read(move |db| {
            let sql = "SELECT e.number, e.identity_key FROM droplet d
                       JOIN enrolment e ON e.droplet_id = d.droplet_id AND e.number = d.enrolment
                       WHERE d.droplet_id = ?";
            let identity = db
                .prepare_cached(sql)?
                .query_row([droplet.as_str()], |row| Ok(Identity { enrolment: row.get(0)?, key: text(row, 1)? }));
            Ok(identity.optional()?)
        })
        .await
    }

    /// Uses up a verified assertion for a new token.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn renew(
        &self,
        droplet: DropletId,
        enrolment: i64,
        jti: String,
        token: Digest,
        now: Timestamp,
    ) -> Result<Renewal, StoreError> {
        self.write(move |db| {
            let new = "INSERT INTO renewal (droplet_id, jti) VALUES (?, ?) ON CONFLICT DO NOTHING";
            if db.execute(new, params![droplet.as_str(), jti])? == 0 {
                let message = "a renewal assertion was presented twice";
                let event = NewEvent { code: "renewal_replayed", message, droplet: Some(&droplet), job: None };
                events::insert(db, &event, now)?;
                return Ok(Renewal::Replayed);
            }
            let sql =
                "UPDATE enrolment SET renewals = renewals + 1 WHERE droplet_id = ? AND number = ? AND renewals < ?";
            if db.execute(sql, params![droplet.as_str(), enrolment, RENEWALS_MAX])? == 0 {
                return Ok(Renewal::UsedUp);
            }
            Ok(Renewal::Renewed(tokens::insert_sidecar(db, token, &droplet, enrolment, now)?))
        })
        .await
    }
}

#[cfg(test)]
impl Store {
    /// Ten thousand renewals at once.
    pub(crate) async fn use_up_renewals(&self) -> Result<(), StoreError> {
        self.write(|db| Ok(db.execute("UPDATE enrolment SET renewals = ?", [RENEWALS_MAX]).map(drop)?)).await
    }
}

struct Provisioning {
    droplet: DropletId,
    workspace: WorkspaceId,
    expires_at: Timestamp,
    used_by: Option<PublicKey>,
}

fn handshake(db: &Conn, request: HandshakeRequest, context: &HandshakeContext) -> Result<Handshake, StoreError> {
    let now = context.now;
    let digest = Digest::of(request.provisioning_token.as_bytes());
    let sql = "SELECT t.droplet_id, d.workspace_id, t.expires_at, t.used_by
               FROM provisioning_token t JOIN droplet d ON d.droplet_id = t.droplet_id WHERE t.digest = ?";
    let token = db.query_row(sql, [digest.as_bytes()], |row| {
        let (droplet, workspace) = (text(row, 0)?, text(row, 1)?);
        Ok(Provisioning { droplet, workspace, expires_at: time(row, 2)?, used_by: text_or_none(row, 3)? })
    });
    let Some(token) = token.optional()? else { return Ok(Handshake::UnknownToken) };

    let refuse = |code: &str, message: &str, refusal: Handshake| {
        let event = NewEvent { code, message, droplet: Some(&token.droplet), job: None };
        events::insert(db, &event, now).map(|()| refusal)
    };
    if (&token.droplet, token.workspace) != (&request.droplet_id, request.workspace_id) {
        let message = "a provisioning token was presented for another droplet or workspace";
        return refuse("handshake_mismatch", message, Handshake::NotYours);
    }
    // Before expiry: a second identity is the more telling of the two.
    if token.used_by.is_some_and(|used_by| used_by != request.identity_key) {
        let message = "a used provisioning token was presented with another identity key";
        return refuse("provisioning_token_reused", message, Handshake::UsedByAnother);
    }
    if token.expires_at <= now {
        return Ok(Handshake::Expired);
    }
    let roots = trust::documents(db, 0)?;
    if roots.is_empty() {
        return Ok(Handshake::NoTrustRoot);
    }
    if let (Some(claimed), Some(seen)) = (&request.droplet_ip, &context.peer_ip)
        && claimed != seen
    {
        let message = format!("the droplet gives its address as {claimed:?}, the hub sees {seen}");
        let event = NewEvent { code: "address_mismatch", message: &message, droplet: Some(&token.droplet), job: None };
        events::insert(db, &event, now)?;
    }
    let used = "UPDATE provisioning_token SET used_by = ? WHERE digest = ?";
    db.execute(used, params![request.identity_key.to_string(), digest.as_bytes()])?;
    let identity = request.identity_key;
    let enrolment = enrol(db, request, context)?;
    let (droplet, workspace) = (&token.droplet, token.workspace);
    let detail = json!({"droplet": droplet, "workspace": workspace, "enrolment": enrolment, "identity_key": identity});
    audit::note(db, event::DROPLET_ENROLLED, detail, now)?;
    let expires_at = tokens::insert_sidecar(db, context.sidecar_token, &token.droplet, enrolment, now)?;
    Ok(Handshake::Enrolled(expires_at, roots))
}

/// The number of this identity: a known one keeps its own, a new one gets the next.
fn enrol(db: &Conn, request: HandshakeRequest, context: &HandshakeContext) -> Result<i64, StoreError> {
    let droplet = request.droplet_id.clone();
    let identity = request.identity_key.to_string();
    let sealing = request.sealing_key.to_string();
    let now = context.now;
    let stored_up_to = i64::try_from(request.outbox_next.saturating_sub(1)).unwrap_or(i64::MAX);
    let life = Life { boot_epoch: request.boot_epoch.clone(), journal_high_water: request.journal_high_water };
    let said = HandshakeRequest { provisioning_token: String::new(), proof: String::new(), ..request };
    let said = to_json(&said)?;
    let sql = "SELECT number FROM enrolment WHERE droplet_id = ? AND identity_key = ?";
    let known: Option<i64> = db.query_row(sql, params![droplet.as_str(), identity], |row| row.get(0)).optional()?;
    let present: Option<i64> =
        db.query_row("SELECT enrolment FROM droplet WHERE droplet_id = ?", [droplet.as_str()], |row| row.get(0))?;
    let number = match known {
        Some(number) => {
            db.execute(
                // An operator vouched for it anew, so it may renew anew.
                "UPDATE enrolment SET sealing_key = ?, handshake = ?, peer_ip = ?, renewals = 0
                 WHERE droplet_id = ? AND number = ?",
                params![sealing, said, context.peer_ip, droplet.as_str(), number],
            )?;
            // A known identity that counts from a lower number than is stored has lost its journal: what it writes from
            // now on is new, and must not be taken for what is stored under the same numbers.
            lives::set_aside(db, &droplet, number, stored_up_to, now)?;
            number
        }
        None => {
            let sql = "SELECT coalesce(max(number), 0) + 1 FROM enrolment WHERE droplet_id = ?";
            let number: i64 = db.query_row(sql, [droplet.as_str()], |row| row.get(0))?;
            db.execute(
                "INSERT INTO enrolment
                     (droplet_id, number, identity_key, sealing_key, enrolled_at, handshake, peer_ip, stored_up_to)
                 VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                params![droplet.as_str(), number, identity, sealing, now.millis(), said, context.peer_ip, stored_up_to],
            )?;
            number
        }
    };
    db.execute("UPDATE droplet SET enrolment = ? WHERE droplet_id = ?", params![number, droplet.as_str()])?;
    if present.is_some_and(|present| present != number) {
        leases::reinstalled(db, &droplet, now)?;
    }
    lives::begin(db, &droplet, number, &life, now)?;
    Ok(number)
}
