//! `PUT droplets/{id}/lifecycle`: operators say what a droplet is doing, so that its silence is no alarm.

use axum::Json;
use axum::extract::State;
use genesis_shared::id::DropletId;
use genesis_shared::timestamp::Timestamp;
use genesis_shared::wire::ErrorBody;
use serde::{Deserialize, Serialize};

use super::body::{Id, In};
use crate::auth::{Operator, Scope};
use crate::error::ApiError;
use crate::hub::Hub;
use crate::watch::{Explained, Lifecycle};

/// The longest reason, in bytes.
const REASON_BYTES_MAX: usize = 512;

/// What a droplet is doing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LifecycleChange {
    /// Absent: nothing special, its silence is an alarm.
    #[serde(default)]
    pub lifecycle: Option<Lifecycle>,
    /// Until then; for good where it is absent.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = "date-time")]
    pub until: Option<Timestamp>,
    /// For the audit.
    pub reason: String,
}

/// Says what a droplet is doing. Nothing is sent to it.
#[utoipa::path(put, path = "/api/v1/droplets/{droplet_id}/lifecycle", tag = "droplets",
    params(("droplet_id" = String, Path)), request_body = LifecycleChange, security(("api_token" = ["submit"])),
    responses((status = 200, body = LifecycleChange), (status = 404, body = ErrorBody),
        (status = 422, body = ErrorBody, description = "lifecycle_invalid")))]
pub async fn set(
    State(hub): State<Hub>,
    operator: Operator,
    Id(id): Id<DropletId>,
    In(change): In<LifecycleChange>,
) -> Result<Json<LifecycleChange>, ApiError> {
    operator.require(Scope::Submit)?;
    if change.reason.trim().is_empty() || change.reason.len() > REASON_BYTES_MAX {
        let message = format!("give a reason of at most {REASON_BYTES_MAX} bytes; it is kept in the audit");
        return Err(ApiError::refused("lifecycle_invalid", message));
    }
    if change.until.is_some_and(|until| change.lifecycle.is_none() || until <= hub.clock.now()) {
        let message = "until needs a lifecycle, and a moment that is still to come";
        return Err(ApiError::refused("lifecycle_invalid", message));
    }
    let explained = change.lifecycle.map(|lifecycle| Explained { lifecycle, until: change.until });
    let known = hub.set_lifecycle(id.clone(), explained, change.reason.clone(), operator.name).await?;
    match known {
        Some(_) => Ok(Json(change)),
        None => Err(ApiError::not_found(format!("there is no droplet {id}"))),
    }
}
