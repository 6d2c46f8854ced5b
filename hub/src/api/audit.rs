//! `GET audit`: the hub's audit chain, or a droplet's as it was delivered, with checkpoints, for `genesisctl audit`.

use axum::Json;
use axum::extract::State;
use genesis_shared::audit::Line;
use genesis_shared::chain::Chain;
use genesis_shared::id::DropletId;
use genesis_shared::wire::{ErrorBody, Page};
use serde::Deserialize;

use super::body::Params;
use super::page;
use crate::auth::{Operator, Scope};
use crate::error::ApiError;
use crate::hub::Hub;

/// The hub's own chain; a droplet that is called so is asked for as `droplet:hub`.
const OWN: &str = "hub";

/// Which chain.
#[derive(Clone, Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// `hub`, or a droplet's id.
    #[param(pattern = "^(hub|(droplet:)?[A-Za-z0-9][A-Za-z0-9._-]{0,63})$")]
    pub chain: String,
    /// Only entries of this event, such as `BUNDLE_PUSHED`. What is left out cannot be verified: such a page is for
    /// looking, and holds neither the chain's name nor checkpoints.
    pub event: Option<String>,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
    /// Entries on the page, at most 200.
    #[param(minimum = 1, maximum = 200)]
    pub limit: Option<u32>,
}

/// A chain from its first entry on, in the order in which it was stored. The first page begins with its name; the last
/// ends with signed checkpoints: of a droplet's chain those that it gave, of the hub's own one by its delivery key.
#[utoipa::path(get, path = "/api/v1/audit", tag = "events", params(Wanted), security(("api_token" = ["read"])),
    responses((status = 200, body = Page<Line>), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody)))]
pub async fn list(
    State(hub): State<Hub>,
    operator: Operator,
    Params(wanted): Params<Wanted>,
) -> Result<Json<Page<Line>>, ApiError> {
    operator.require(Scope::Read)?;
    let limit = page::limit(wanted.limit)?;
    let after = page::number(wanted.cursor.as_deref())?;
    let droplet: Option<DropletId> = match wanted.chain.as_str() {
        OWN => None,
        id => Some(
            id.strip_prefix("droplet:")
                .unwrap_or(id)
                .parse()
                .map_err(|e| ApiError::malformed(format!("chain must be hub or a droplet's id: {}", Chain(&e))))?,
        ),
    };
    let name = match &droplet {
        Some(id) => hub.store.audit_chain_of(id.clone()).await?,
        None => hub.store.audit_head().await?.map(|(name, _)| name),
    };
    let name = name.ok_or_else(|| ApiError::not_found(format!("there is no chain {:?}", wanted.chain)))?;
    // Before the entries: what is written in between shows as longer than the checkpoint, never as cut.
    let checkpoints = match &droplet {
        Some(id) => hub.store.checkpoints(id.clone()).await?,
        None => hub.checkpoint().await?.into_iter().collect(),
    };
    let mut entries = hub.store.audit(droplet, wanted.event.clone(), after.unwrap_or(0), limit + 1).await?;
    let more = page::cut(&mut entries, limit);
    let next_cursor = entries.last().filter(|_| more).map(|(number, _)| number.to_string());
    let mut items: Vec<Line> = if after.is_none() && wanted.event.is_none() { vec![Line::Chain(name)] } else { vec![] };
    items.extend(entries.into_iter().map(|(_, entry)| Line::Entry(entry)));
    if !more && wanted.event.is_none() {
        items.extend(checkpoints.into_iter().map(Line::Checkpoint));
    }
    Ok(Json(Page { items, next_cursor }))
}
