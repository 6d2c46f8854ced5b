//! `GET /metrics`: what the hub counts about itself, for Prometheus.

use axum::Router;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::{health, request};
use crate::auth::{Operator, Scope};
use crate::error::ApiError;
use crate::hub::Hub;
use crate::metrics;

/// Counters and gauges in the text format of Prometheus. A scraper sends an API token as its bearer token; where
/// `metrics_listen` is set, the same is there in the clear without one.
#[utoipa::path(get, path = "/metrics", tag = "machines", security(("api_token" = ["read"])),
    responses((status = 200, body = String, content_type = "text/plain")))]
pub async fn show(State(hub): State<Hub>, operator: Operator) -> Result<Response, ApiError> {
    operator.require(Scope::Read)?;
    page(&hub).await
}

async fn page(hub: &Hub) -> Result<Response, ApiError> {
    let text = metrics::render(hub).await?;
    let headers = [(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8"), (CACHE_CONTROL, "no-store")];
    Ok((headers, text).into_response())
}

/// What is served on the separate address: no tenant's data, and nothing that changes anything.
pub fn router(hub: Hub) -> Router {
    let open = async |State(hub): State<Hub>| page(&hub).await;
    Router::new()
        .route("/metrics", get(open))
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .layer(axum::middleware::from_fn_with_state(hub.clone(), request::around))
        .with_state(hub)
}
