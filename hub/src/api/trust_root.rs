//! The trust root: operators store it, droplets fetch what is newer.

use axum::Json;
use axum::extract::State;
use genesis_shared::chain::Chain;
use genesis_shared::trust::{TrustError, TrustRoot};
use genesis_shared::wire::{ErrorBody, TrustRootChain, TrustRootView};
use serde::Deserialize;

use super::body::{Params, Raw};
use crate::auth::{Operator, Scope, Sidecar};
use crate::error::ApiError;
use crate::hub::Hub;
use crate::store::StoreError;
use crate::store::trust::PutRoot;

/// Parameters of `GET sidecar/trust-root`.
#[derive(Clone, Copy, Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct After {
    /// The version that the droplet has; 0 where it has none.
    #[serde(default)]
    pub after: u64,
}

/// The trust roots that are newer than the droplet's.
#[utoipa::path(get, path = "/api/v1/sidecar/trust-root", tag = "agent", params(After),
    security(("sidecar_token" = [])), responses((status = 200, body = TrustRootChain), (status = 401, body = ErrorBody)))]
pub async fn chain(
    State(hub): State<Hub>,
    _: Sidecar,
    Params(After { after }): Params<After>,
) -> Result<Json<TrustRootChain>, ApiError> {
    Ok(Json(TrustRootChain { trust_root: hub.store.trust_roots_after(after).await? }))
}

/// The latest trust root.
#[utoipa::path(get, path = "/api/v1/trust-root", tag = "trust", security(("api_token" = ["read"])),
    responses((status = 200, body = TrustRootView), (status = 404, body = ErrorBody)))]
pub async fn current(State(hub): State<Hub>, operator: Operator) -> Result<Json<TrustRootView>, ApiError> {
    operator.require(Scope::Read)?;
    let root = hub.store.trust_root().await?;
    root.map(Json).ok_or_else(|| ApiError::not_found("no trust root was stored yet; store one with PUT"))
}

/// Stores the trust root that follows the latest one; the latest again is accepted and changes nothing.
///
/// Droplets check the succession themselves; it is checked here so that a slip is noticed before it reaches them.
#[utoipa::path(put, path = "/api/v1/trust-root", tag = "trust", security(("api_token" = ["admin"])),
    request_body(content = serde_json::Value, description = "The signed document, kept byte for byte"),
    responses(
        (status = 200, body = TrustRootView),
        (status = 409, body = ErrorBody, description = "trust_root_not_newer"),
        (status = 422, body = ErrorBody, description = "trust_root_invalid, trust_root_not_next, trust_root_threshold, trust_root_contradicts")
    ))]
pub async fn put(State(hub): State<Hub>, operator: Operator, Raw(bytes): Raw) -> Result<Json<TrustRootView>, ApiError> {
    operator.require(Scope::Admin)?;
    let document = super::bundles::json_text(bytes)?;
    let refused = |why: String| ApiError::refused("trust_root_invalid", why);
    let verify = |latest: Option<&TrustRoot>| match latest {
        Some(latest) => latest.verify_successor(document.as_bytes()),
        None => TrustRoot::verify(document.as_bytes(), None),
    };
    let latest = hub.store.trust_root().await?;
    if let Some(latest) = latest.as_ref().filter(|latest| latest.document == document) {
        return Ok(Json(latest.clone()));
    }
    let latest = latest.map(|latest| TrustRoot::reread(latest.document.as_bytes())).transpose();
    let latest = latest.map_err(|e| ApiError::from(StoreError::Broken(Chain(&e).to_string())))?;
    let root = verify(latest.as_ref()).map_err(|error| match error {
        TrustError::NotNext { current, actual } if actual <= current => {
            let message = format!("version {current} is stored; a new trust root needs version {}", current + 1);
            ApiError::conflict("trust_root_not_newer", message)
        }
        TrustError::NotNext { .. } | TrustError::BelowFormerThreshold { .. } | TrustError::Contradicts { .. } => {
            ApiError::refused(error.code(), Chain(&error).to_string())
        }
        TrustError::Jws(_)
        | TrustError::NotPinned { .. }
        | TrustError::BelowThreshold { .. }
        | TrustError::Inconsistent(_) => refused(Chain(&error).to_string()),
    })?;
    if i64::try_from(root.get().version).is_err() {
        return Err(refused("the version is larger than any root needs".into()));
    }
    let view = TrustRootView { version: root.get().version, digest: root.digest(), document };
    match hub.store.put_trust_root(view.clone(), operator.name.clone(), hub.clock.now()).await? {
        PutRoot::Stored => {
            tracing::info!(version = view.version, by = operator.name, "trust root stored");
            Ok(Json(view))
        }
        PutRoot::NotNewer(latest) => {
            let message = format!("version {latest} is stored; a new trust root needs a higher version");
            Err(ApiError::conflict("trust_root_not_newer", message))
        }
    }
}
