//! `GET events`: what happened that somebody may have to look at.

use axum::Json;
use axum::extract::State;
use genesis_shared::id::DropletId;
use genesis_shared::wire::{ErrorBody, EventView, Page};
use serde::Deserialize;

use super::body::Params;
use super::page;
use crate::auth::{Operator, Scope};
use crate::error::ApiError;
use crate::hub::Hub;
use crate::store::events::EventFilter;

/// Which events to list.
#[derive(Clone, Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// Only with this code, such as `dead_letter`.
    pub code: Option<String>,
    /// Only about this droplet.
    #[param(value_type = Option<String>)]
    pub droplet_id: Option<DropletId>,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
    /// Items on the page, at most 200.
    #[param(minimum = 1, maximum = 200)]
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
    let before = page::number(wanted.cursor.as_deref())?;
    let filter = EventFilter { code: wanted.code, droplet: wanted.droplet_id };
    let mut items = hub.store.events_of(filter, before, limit + 1).await?;
    let more = page::cut(&mut items, limit);
    let next_cursor = items.last().filter(|_| more).map(|event| event.number.to_string());
    Ok(Json(Page { items, next_cursor }))
}
