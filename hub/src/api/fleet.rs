//! The fleet at a glance: how many droplets are in which state, a map of all of them, and what waits in the queues.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use genesis_shared::id::{Digest, DropletId};
use genesis_shared::timestamp::Timestamp;
use genesis_shared::wire::ErrorBody;
use serde::Serialize;

use super::body::Id;
use crate::auth::{Operator, Scope};
use crate::error::ApiError;
use crate::hub::Hub;
use crate::state::{DropletState, Moment};
use crate::store::StoreError;
use crate::store::fleet::{Fleet, QueueDepths};

/// Every dashboard that is open asks every few seconds; so old may the answer be.
const AGE_MS: i64 = 1_000;

/// The fleet as counted last.
#[derive(Debug)]
pub struct Census {
    /// When.
    pub at: Timestamp,
    /// Digest of the ids in their order.
    pub order: Digest,
    /// Each droplet.
    pub fleet: Fleet,
    /// Droplets by state; each state is there.
    pub states: BTreeMap<&'static str, u64>,
    /// What waits.
    pub queues: QueueDepths,
}

/// Counts the fleet, at most once a second for all who ask.
///
/// # Errors
/// [`StoreError`].
pub async fn census(hub: &Hub) -> Result<Arc<Census>, StoreError> {
    let now = hub.clock.now();
    let count = async {
        let fleet = hub.store.fleet(Moment::of(hub)).await?;
        let queues = hub.store.queue_depths().await?;
        let mut states: BTreeMap<_, _> = DropletState::ALL.iter().map(|state| (state.name(), 0)).collect();
        fleet.states.iter().for_each(|state| *states.entry(state.name()).or_default() += 1);
        let order = Digest::of(fleet.ids.join("\n").as_bytes());
        Ok(Census { at: now, order, fleet, states, queues })
    };
    hub.census.get(now, AGE_MS, count).await
}

/// The fleet in numbers.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct FleetSummary {
    /// When it was counted.
    #[schema(value_type = String, format = "date-time")]
    pub at: Timestamp,
    /// Registered droplets.
    pub droplets: u64,
    /// Of these, how many are in which state; each state is there.
    pub states: BTreeMap<&'static str, u64>,
    /// Jobs that are not over, and dead letters, by queue.
    pub queues: Vec<QueueDepth>,
    /// Droplets whose poll waits for commands at this moment.
    pub polls_waiting: u64,
    /// The hub's version.
    pub version: &'static str,
    /// Since when it runs.
    #[schema(value_type = String, format = "date-time")]
    pub started_at: Timestamp,
}

/// One queue.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct QueueDepth {
    /// Its name.
    pub queue: String,
    /// Jobs that wait for their droplet.
    pub queued: u64,
    /// Jobs that were handed out and not confirmed yet.
    pub leased: u64,
    /// Jobs that their droplets are at.
    pub accepted: u64,
    /// Dead letters.
    pub dead: u64,
}

/// How many droplets are in which state, and what waits in the queues. At most a second old.
#[utoipa::path(get, path = "/api/v1/fleet/summary", tag = "fleet", security(("api_token" = ["read"])),
    responses((status = 200, body = FleetSummary)))]
pub async fn summary(State(hub): State<Hub>, operator: Operator) -> Result<Json<FleetSummary>, ApiError> {
    operator.require(Scope::Read)?;
    let counted = census(&hub).await?;
    let depth = |(queue, states): (&String, &BTreeMap<String, u64>)| {
        let count = |state: &str| states.get(state).copied().unwrap_or(0);
        let (queued, leased, accepted) = (count("queued"), count("leased"), count("accepted"));
        QueueDepth { queue: queue.clone(), queued, leased, accepted, dead: count("dead") }
    };
    Ok(Json(FleetSummary {
        at: counted.at,
        droplets: counted.fleet.ids.len() as u64,
        states: counted.states.clone(),
        queues: counted.queues.iter().map(depth).collect(),
        polls_waiting: hub.notifier.waiting() as u64,
        version: env!("CARGO_PKG_VERSION"),
        started_at: hub.started_at,
    }))
}

/// The whole fleet in one byte per droplet.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct FleetMap {
    /// When it was looked at.
    #[schema(value_type = String, format = "date-time")]
    pub at: Timestamp,
    /// Changes when droplets come or go; then `GET fleet/ids` is to be read again.
    #[schema(value_type = String)]
    pub order: Digest,
    /// What the digits mean.
    pub names: Vec<&'static str>,
    /// Regions in the order of the map, with the number of their droplets; `""` for those without one.
    pub regions: Vec<MapRegion>,
    /// One digit per droplet, by region and id: the position of its state in `names`.
    #[schema(pattern = "^[0-6]*$")]
    pub states: String,
}

/// A region of the map.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct MapRegion {
    /// Its name.
    pub region: String,
    /// Its droplets.
    pub droplets: u64,
}

/// Every droplet's state, one byte each: 15 KB for a fleet of 15,000. At most a second old.
#[utoipa::path(get, path = "/api/v1/fleet/map", tag = "fleet", security(("api_token" = ["read"])),
    responses((status = 200, body = FleetMap)))]
pub async fn map(State(hub): State<Hub>, operator: Operator) -> Result<Json<FleetMap>, ApiError> {
    operator.require(Scope::Read)?;
    let counted = census(&hub).await?;
    let digit = |state: &DropletState| {
        let place = DropletState::ALL.iter().position(|known| known == state).unwrap_or(0);
        char::from_digit(u32::try_from(place).unwrap_or(0), 10).unwrap_or('0')
    };
    let region =
        |(region, droplets): &(String, usize)| MapRegion { region: region.clone(), droplets: *droplets as u64 };
    Ok(Json(FleetMap {
        at: counted.at,
        order: counted.order,
        names: DropletState::ALL.iter().map(|state| state.name()).collect(),
        regions: counted.fleet.regions.iter().map(region).collect(),
        states: counted.fleet.states.iter().map(digit).collect(),
    }))
}

/// The ids of the map.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct FleetIds {
    /// That of the map that they belong to.
    #[schema(value_type = String)]
    pub order: Digest,
    /// Droplet ids in the order of the map.
    pub ids: Vec<String>,
}

/// The ids of all droplets, in the order of the map.
#[utoipa::path(get, path = "/api/v1/fleet/ids", tag = "fleet", security(("api_token" = ["read"])),
    responses((status = 200, body = FleetIds)))]
pub async fn ids(State(hub): State<Hub>, operator: Operator) -> Result<Json<FleetIds>, ApiError> {
    operator.require(Scope::Read)?;
    let counted = census(&hub).await?;
    Ok(Json(FleetIds { order: counted.order, ids: counted.fleet.ids.clone() }))
}

/// How a droplet was.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct HealthHistory {
    /// Since when this hub has been looking; before, it knows nothing.
    #[schema(value_type = String, format = "date-time")]
    pub since: Timestamp,
    /// Oldest first, at most one a minute for three hours.
    pub samples: Vec<HealthSample>,
}

/// How a droplet was at one time.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct HealthSample {
    /// When the hub heard it.
    #[schema(value_type = String, format = "date-time")]
    pub at: Timestamp,
    /// Processor in use, whole host.
    #[schema(maximum = 100)]
    pub cpu_percent: u8,
    /// Memory in use.
    #[schema(maximum = 100)]
    pub memory_percent: u8,
    /// Disk of the data folder in use.
    #[schema(maximum = 100)]
    pub disk_percent: u8,
    /// Whether the agent said that all was well.
    pub healthy: bool,
}

/// A droplet's health over the last hours.
#[utoipa::path(get, path = "/api/v1/droplets/{droplet_id}/health", tag = "droplets",
    params(("droplet_id" = String, Path)), security(("api_token" = ["read"])),
    responses((status = 200, body = HealthHistory), (status = 404, body = ErrorBody)))]
pub async fn health(
    State(hub): State<Hub>,
    operator: Operator,
    Id(id): Id<DropletId>,
) -> Result<Json<HealthHistory>, ApiError> {
    operator.require(Scope::Read)?;
    let known = hub.store.droplet(id.clone()).await?;
    known.ok_or_else(|| ApiError::not_found(format!("there is no droplet {id}")))?;
    let samples = hub.history.of(&id).into_iter().map(|sample| HealthSample {
        at: sample.at(),
        cpu_percent: sample.cpu_percent,
        memory_percent: sample.memory_percent,
        disk_percent: sample.disk_percent,
        healthy: sample.healthy,
    });
    Ok(Json(HealthHistory { since: hub.started_at, samples: samples.collect() }))
}
