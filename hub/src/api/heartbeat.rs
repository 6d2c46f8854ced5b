//! `POST sidecar/heartbeat`: a droplet says how it is.

use axum::Json;
use axum::extract::State;
use genesis_shared::id::Digest;
use genesis_shared::limits::SIDECAR_TOKEN_TTL_MS;
use genesis_shared::report::Heartbeat;
use genesis_shared::wire::{ErrorBody, HeartbeatAnswer, RenewAnswer};

use super::body::In;
use crate::auth::Sidecar;
use crate::error::ApiError;
use crate::history::Sample;
use crate::hub::Hub;
use crate::random;

/// Stores the latest health report and answers whether work waits. Hands out a new token when less than half of the
/// old one's life is left.
#[utoipa::path(post, path = "/api/v1/sidecar/heartbeat", tag = "agent", request_body = Heartbeat,
    security(("sidecar_token" = [])),
    responses(
        (status = 200, body = HeartbeatAnswer),
        (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody, description = "not_yours")
    ))]
pub async fn heartbeat(
    State(hub): State<Hub>,
    Sidecar(token): Sidecar,
    In(beat): In<Heartbeat>,
) -> Result<Json<HeartbeatAnswer>, ApiError> {
    if (&beat.droplet_id, beat.workspace_id) != (&token.droplet, token.workspace) {
        let message = "this token belongs to another droplet or workspace than the heartbeat names";
        return Err(ApiError::forbidden("not_yours", message));
    }
    let now = hub.clock.now();
    let sample = Sample::of(&beat, now);
    hub.pace.alive(token.workspace, now);
    hub.store.heartbeat(&token, beat, now.plus_millis(hub.settings.lease_ttl_ms), now).await?;
    hub.history.note(&token.droplet, sample);
    let rotated = if token.expires_at.millis_since(now) < SIDECAR_TOKEN_TTL_MS / 2 {
        let sidecar_token = random::token();
        let token_expires_at = hub.store.rotate(&token, Digest::of(sidecar_token.as_bytes()), now).await?;
        Some(RenewAnswer { sidecar_token, token_expires_at })
    } else {
        None
    };
    let may_receive = !hub.settings.excluded_workspaces.contains(&token.workspace);
    let work_waiting = may_receive && hub.store.is_queued(token.workspace, now).await?;
    let audit_checkpoint = hub.checkpoint().await?;
    let next_interval_s = hub.settings.agent.heartbeat_interval_s;
    let quarantined = token.quarantined;
    Ok(Json(HeartbeatAnswer { work_waiting, next_interval_s, hub_time: now, rotated, quarantined, audit_checkpoint }))
}
