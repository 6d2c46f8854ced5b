//! For machines that watch the hub.

use axum::Json;
use axum::extract::State;
use serde::Serialize;

use crate::error::ApiError;
use crate::hub::Hub;

/// Answer of the health checks.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct Health {
    /// `ok`.
    pub status: &'static str,
    /// The hub's version.
    pub version: &'static str,
}

const OK: Health = Health { status: "ok", version: env!("CARGO_PKG_VERSION") };

/// The process answers.
#[utoipa::path(get, path = "/healthz", tag = "machines", responses((status = 200, body = Health)), security(()))]
pub async fn healthz() -> Json<Health> {
    std::future::ready(Json(OK)).await
}

/// The store answers too.
#[utoipa::path(get, path = "/readyz", tag = "machines", security(()),
    responses((status = 200, body = Health), (status = 503, body = genesis_shared::wire::ErrorBody)))]
pub async fn readyz(State(hub): State<Hub>) -> Result<Json<Health>, ApiError> {
    hub.store.ping().await?;
    Ok(Json(OK))
}
