//! `GET rollouts`, and an operator's word on one of them.

use axum::Json;
use axum::extract::State;
use genesis_shared::id::BundleId;
use genesis_shared::timestamp::Timestamp;
use genesis_shared::wire::ErrorBody;
use serde::{Deserialize, Serialize};

use super::body::Id;
use crate::auth::{Operator, Scope};
use crate::error::ApiError;
use crate::hub::Hub;
use crate::rollout::{Counts, Phase, Wish};
use crate::store::rollouts::{Rollout, SteeredRollout};

/// Rollouts that are listed; older ones are found by their id.
const LISTED_MAX: u32 = 100;

/// A rollout as it goes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RolloutView {
    /// The bundle that it spreads.
    #[schema(value_type = String, format = "uuid")]
    pub rollout_id: BundleId,
    /// Where it is.
    pub phase: Phase,
    /// The wave that was released last, from 1.
    pub wave: u32,
    /// How many droplets have it after each wave.
    pub waves: Vec<u32>,
    /// Over the waves that are released.
    pub counts: Counts,
    /// Failures per answer, 0 to 1.
    pub failure_share: f64,
    /// Whether a rollback was signed with it.
    pub has_rollback: bool,
    /// When it began.
    #[schema(value_type = String, format = "date-time")]
    pub created_at: Timestamp,
    /// When its phase or wave changed last.
    #[schema(value_type = String, format = "date-time")]
    pub changed_at: Timestamp,
}

fn view(rollout: Rollout) -> RolloutView {
    RolloutView {
        rollout_id: rollout.bundle,
        phase: rollout.state.phase,
        wave: rollout.state.wave + 1,
        waves: rollout.plan.waves,
        counts: rollout.counts,
        failure_share: rollout.counts.failure_share(),
        has_rollback: rollout.plan.rollback.is_some(),
        created_at: rollout.created_at,
        changed_at: rollout.changed_at,
    }
}

/// The latest hundred, newest first.
#[utoipa::path(get, path = "/api/v1/rollouts", tag = "rollouts", security(("api_token" = ["read"])),
    responses((status = 200, body = Vec<RolloutView>)))]
pub async fn list(State(hub): State<Hub>, operator: Operator) -> Result<Json<Vec<RolloutView>>, ApiError> {
    operator.require(Scope::Read)?;
    let rollouts = hub.store.rollouts(LISTED_MAX, hub.clock.now()).await?;
    Ok(Json(rollouts.into_iter().map(view).collect()))
}

/// One rollout: waves, counts, and the share of failures.
#[utoipa::path(get, path = "/api/v1/rollouts/{rollout_id}", tag = "rollouts", params(("rollout_id" = String, Path)),
    security(("api_token" = ["read"])),
    responses((status = 200, body = RolloutView), (status = 404, body = ErrorBody)))]
pub async fn show(
    State(hub): State<Hub>,
    operator: Operator,
    Id(id): Id<BundleId>,
) -> Result<Json<RolloutView>, ApiError> {
    operator.require(Scope::Read)?;
    let rollout = hub.store.rollout(id, hub.clock.now()).await?.ok_or_else(|| no_rollout(id))?;
    Ok(Json(view(rollout)))
}

/// Releases no further wave until it is resumed; what is under way goes on.
#[utoipa::path(post, path = "/api/v1/rollouts/{rollout_id}/pause", tag = "rollouts",
    params(("rollout_id" = String, Path)), security(("api_token" = ["submit"])),
    responses((status = 200, body = RolloutView), (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody, description = "rollout_state")))]
pub async fn pause(
    State(hub): State<Hub>,
    operator: Operator,
    Id(id): Id<BundleId>,
) -> Result<Json<RolloutView>, ApiError> {
    steer(&hub, operator, id, Wish::Pause).await
}

/// Goes on over what has failed so far.
#[utoipa::path(post, path = "/api/v1/rollouts/{rollout_id}/resume", tag = "rollouts",
    params(("rollout_id" = String, Path)), security(("api_token" = ["submit"])),
    responses((status = 200, body = RolloutView), (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody, description = "rollout_state")))]
pub async fn resume(
    State(hub): State<Hub>,
    operator: Operator,
    Id(id): Id<BundleId>,
) -> Result<Json<RolloutView>, ApiError> {
    steer(&hub, operator, id, Wish::Resume).await
}

/// Withdraws what was not handed out, and rolls back where a rollback was signed with the bundle.
#[utoipa::path(post, path = "/api/v1/rollouts/{rollout_id}/abort", tag = "rollouts",
    params(("rollout_id" = String, Path)), security(("api_token" = ["submit"])),
    responses((status = 200, body = RolloutView), (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody, description = "rollout_state")))]
pub async fn abort(
    State(hub): State<Hub>,
    operator: Operator,
    Id(id): Id<BundleId>,
) -> Result<Json<RolloutView>, ApiError> {
    steer(&hub, operator, id, Wish::Abort).await
}

async fn steer(hub: &Hub, operator: Operator, id: BundleId, wish: Wish) -> Result<Json<RolloutView>, ApiError> {
    operator.require(Scope::Submit)?;
    match hub.steer_rollout(id, wish, operator.name).await? {
        SteeredRollout::Done(rollout, _) => Ok(Json(view(*rollout))),
        SteeredRollout::NotFound => Err(no_rollout(id)),
        SteeredRollout::Refused(senseless) => Err(ApiError::conflict("rollout_state", senseless.to_string())),
    }
}

fn no_rollout(id: BundleId) -> ApiError {
    ApiError::not_found(format!("there is no rollout {id}"))
}
