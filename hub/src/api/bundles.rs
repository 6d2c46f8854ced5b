//! Bundles: operators push signed ones, each of which becomes one job per target, and look at those that were pushed.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use genesis_shared::bundle::Bundle;
use genesis_shared::chain::Chain;
use genesis_shared::id::{BundleId, Digest, WorkspaceId};
use genesis_shared::jws::JwsError;
use genesis_shared::limits::BUNDLE_VALIDITY_MS_MAX;
use genesis_shared::timestamp::Timestamp;
use genesis_shared::trust::TrustRoot;
use genesis_shared::wire::{BundleView, ErrorBody, Page, PushAnswer};
use serde::Deserialize;
use serde_json::Value;

use super::body::{Id, Params, Raw};
use super::page;
use crate::auth::{Operator, Scope};
use crate::error::ApiError;
use crate::hub::Hub;
use crate::store::bundles::{NAMED_MAX, Push};
use crate::store::listing::BundleFilter;

/// Queues a signed bundle for each of its targets. The same bytes again give the same answer.
#[utoipa::path(post, path = "/api/v1/bundles", tag = "jobs", security(("api_token" = ["submit"])),
    request_body(content = serde_json::Value, description = "A JWS in JSON serialisation, kept byte for byte"),
    responses(
        (status = 200, body = PushAnswer),
        (status = 409, body = ErrorBody, description = "bundle_id_taken, no_trust_root"),
        (status = 413, body = ErrorBody),
        (status = 422, body = ErrorBody,
            description = "bundle_signature, bundle_invalid, bundle_expired, bundle_unknown_target, rollout_invalid, \
            workspace_excluded")
    ))]
pub async fn push(State(hub): State<Hub>, operator: Operator, Raw(bytes): Raw) -> Result<Json<PushAnswer>, ApiError> {
    operator.require(Scope::Submit)?;
    let document = json_text(bytes)?;
    // Before every check: a repeated push must get its answer even when the bundle has expired meanwhile.
    if let Some(answer) = hub.store.pushed_before(Digest::of(document.as_bytes())).await? {
        return Ok(Json(answer));
    }
    let now = hub.clock.now();
    let bundle = check(&hub, document.as_bytes(), now).await?;
    let (id, action) = (bundle.id, bundle.action_label());
    match hub.store.push(bundle, document, operator.name, Arc::clone(&hub.settings.excluded_workspaces), now).await? {
        Push::Queued(answer, workspaces) => {
            tracing::info!(bundle = %id, action, jobs = answer.job_ids.len(), "bundle queued");
            workspaces.into_iter().for_each(|workspace| hub.notifier.wake(workspace));
            Ok(Json(answer))
        }
        Push::IdTaken => {
            let message = format!("another bundle has the id {id}; sign this one again with a new id");
            Err(ApiError::conflict("bundle_id_taken", message))
        }
        Push::UnknownTargets(count, some) => {
            let names = some_of(&some);
            let message = format!("no droplet is registered for {count} of the workspaces, among them {names}");
            Err(ApiError::refused("bundle_unknown_target", message))
        }
        Push::Excluded(workspaces) => {
            let (count, names) = (workspaces.len(), some_of(&workspaces));
            let message = format!(
                "{count} of the workspaces must never receive commands (excluded_workspaces), among them {names}"
            );
            Err(ApiError::refused("workspace_excluded", message))
        }
        Push::Rollout(error) => Err(ApiError::refused("rollout_invalid", error.to_string())),
        Push::NobodyMatches => {
            Err(ApiError::refused("bundle_unknown_target", "no registered droplet matches the bundle's targets"))
        }
    }
}

/// Which bundles to list.
#[derive(Clone, Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// Only of this queue.
    pub queue: Option<String>,
    /// Only with this action among its commands.
    pub action: Option<String>,
    /// Only pushed with the API token of this name.
    pub pushed_by: Option<String>,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
    /// Items on the page, at most 200.
    #[param(minimum = 1, maximum = 200)]
    pub limit: Option<u32>,
}

/// Bundles, newest first.
#[utoipa::path(get, path = "/api/v1/bundles", tag = "jobs", params(Wanted), security(("api_token" = ["read"])),
    responses((status = 200, body = Page<BundleView>)))]
pub async fn list(
    State(hub): State<Hub>,
    operator: Operator,
    Params(wanted): Params<Wanted>,
) -> Result<Json<Page<BundleView>>, ApiError> {
    operator.require(Scope::Read)?;
    let limit = page::limit(wanted.limit)?;
    let before = page::number(wanted.cursor.as_deref())?;
    let (queue, action, pushed_by) = (wanted.queue, wanted.action, wanted.pushed_by);
    let mut rows = hub.store.bundles(BundleFilter { queue, action, pushed_by, before, limit: limit + 1 }).await?;
    let more = page::cut(&mut rows, limit);
    let next_cursor = rows.last().filter(|_| more).map(|(number, _)| number.to_string());
    Ok(Json(Page { items: rows.into_iter().map(|(_, bundle)| bundle).collect(), next_cursor }))
}

/// One bundle, and how many of its jobs are in which state.
#[utoipa::path(get, path = "/api/v1/bundles/{bundle_id}", tag = "jobs", params(("bundle_id" = String, Path)),
    security(("api_token" = ["read"])), responses((status = 200, body = BundleView), (status = 404, body = ErrorBody)))]
pub async fn show(
    State(hub): State<Hub>,
    operator: Operator,
    Id(id): Id<BundleId>,
) -> Result<Json<BundleView>, ApiError> {
    operator.require(Scope::Read)?;
    let found = hub.store.bundle(id).await?;
    found.map(Json).ok_or_else(|| ApiError::not_found(format!("there is no bundle {id}")))
}

/// The first few by name.
fn some_of(workspaces: &[WorkspaceId]) -> String {
    workspaces.iter().take(NAMED_MAX).map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// The body as text, if it is JSON at all; `400` with the parser's words if not.
pub(super) fn json_text(bytes: Vec<u8>) -> Result<String, ApiError> {
    serde_json::from_slice::<serde::de::IgnoredAny>(&bytes)
        .map_err(|e| ApiError::malformed(format!("the body is not acceptable JSON: {e}")))?;
    String::from_utf8(bytes).map_err(|e| ApiError::malformed(format!("the body is not UTF-8: {e}")))
}

/// **Early refusal, not trust.** It spares an operator the wait for a refusal by every droplet. No droplet relies on it:
/// each verifies the received bytes itself, so a stolen hub that skips this gains nothing.
async fn check(hub: &Hub, bytes: &[u8], now: Timestamp) -> Result<Bundle, ApiError> {
    let root = hub.store.trust_root().await?.ok_or_else(|| {
        let message = "the hub has no trust root yet; store one with PUT /api/v1/trust-root";
        ApiError::conflict("no_trust_root", message)
    })?;
    let root = TrustRoot::reread(root.document.as_bytes()).map_err(|error| {
        tracing::error!(error = %Chain(&error), "the stored trust root cannot be read");
        ApiError::internal()
    })?;
    let bundle = Bundle::verify(bytes, &root).map_err(|e| unverified(&e))?;
    let signed_by_issuer = bundle.signers().contains(&bundle.get().issuer);
    let bundle = bundle.into_inner();
    let invalid = |message: String| Err(ApiError::refused("bundle_invalid", message));
    if let Err(error) = bundle.check() {
        return invalid(Chain(&error).to_string());
    }
    if let Some(rollback) = bundle.rollout.as_ref().and_then(|rollout| rollout.get("rollback")) {
        check_rollback(&bundle, rollback, &root)?;
    }
    if !signed_by_issuer {
        return invalid(format!("the issuer {} is not among the signers", bundle.issuer));
    }
    let validity = bundle.not_after.millis_since(bundle.not_before);
    if !(0..=BUNDLE_VALIDITY_MS_MAX).contains(&validity) {
        return invalid(format!("not_after must be within 30 days after not_before, which is {}", bundle.not_before));
    }
    if now > bundle.not_after {
        let message = format!("the bundle was good until {}, the hub has {now}; sign it anew", bundle.not_after);
        return Err(ApiError::refused("bundle_expired", message));
    }
    Ok(bundle)
}

/// The bundle that an abort brings, as early as the one that it takes back.
fn check_rollback(bundle: &Bundle, rollback: &Value, root: &TrustRoot) -> Result<(), ApiError> {
    let refused = |what: &str| Err(ApiError::refused("rollout_invalid", format!("rollout.rollback: {what}")));
    let Some(text) = rollback.as_str() else { return refused("a signed bundle as a text is wanted") };
    let rollback = match Bundle::verify(text.as_bytes(), root) {
        Ok(rollback) => rollback.into_inner(),
        Err(error) => return refused(&Chain(&error).to_string()),
    };
    if let Err(error) = rollback.check() {
        return refused(&Chain(&error).to_string());
    }
    if rollback.id == bundle.id || rollback.targets != bundle.targets || rollback.rollout.is_some() {
        return refused("it needs an id of its own, the same targets, and no rollout");
    }
    Ok(())
}

fn unverified(error: &JwsError) -> ApiError {
    let message = Chain(error).to_string();
    match error {
        JwsError::TooLarge { .. } => ApiError::too_large(message),
        JwsError::Header(_)
        | JwsError::UnknownKey(_)
        | JwsError::BadSignature(_)
        | JwsError::SameKeyTwice(_)
        | JwsError::Grant(_) => ApiError::refused("bundle_signature", message),
        JwsError::Malformed(_) | JwsError::Encoding(_) | JwsError::SignatureCount(_) | JwsError::Payload(_) => {
            ApiError::refused("bundle_invalid", message)
        }
    }
}
