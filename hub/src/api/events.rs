//! `GET events`: what happened that somebody may have to look at.

use axum::Json;
use axum::extract::State;
use genesis_shared::wire::{ErrorBody, EventView, Page};
use serde::Deserialize;

use super::body::Params;
use super::page;
use crate::auth::{Operator, Scope};
use crate::error::ApiError;
use crate::hub::Hub;

/// Which events to list.
#[derive(Clone, Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
    /// Items on the page, at most 200.
    pub limit: Option<u32>,
}

/// Events, newest first: what droplets reported beside results, bundles applied by hand, security events, dead letters.
#[utoipa::path(get, path = "/api/v1/events", tag = "events", params(Wanted), security(("api_token" = ["read"])),
    responses((status = 200, body = Page<EventView>), (status = 400, body = ErrorBody)))]
pub async fn list(
    State(hub): State<Hub>,
    operator: Operator,
    Params(wanted): Params<Wanted>,
) -> Result<Json<Page<EventView>>, ApiError> {
    operator.require(Scope::Read)?;
    let limit = page::limit(wanted.limit)?;
    let before = wanted.cursor.map(|cursor| cursor.parse::<i64>());
    let before = before.transpose().map_err(|_| ApiError::malformed("cursor is not one that the hub gave"))?;
    let mut items = hub.store.events(before, limit + 1).await?;
    let more = page::cut(&mut items, limit);
    let next_cursor = items.last().filter(|_| more).map(|event| event.number.to_string());
    Ok(Json(Page { items, next_cursor }))
}
