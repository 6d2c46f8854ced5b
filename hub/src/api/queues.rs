//! `GET queues`, `PUT queues`: how much of each queue is under way, and how much may be.

use axum::Json;
use axum::extract::State;
use genesis_shared::wire::ErrorBody;
use serde::{Deserialize, Serialize};

use super::body::In;
use crate::auth::{Operator, Scope};
use crate::error::ApiError;
use crate::hub::Hub;
use crate::queue::{Limits, Queue};

/// How a queue is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct QueueView {
    /// Which.
    pub queue: Queue,
    /// Jobs that are handed out or at work.
    pub in_flight: u32,
    /// How many may be.
    pub in_flight_max: u32,
    /// Due jobs whose droplets wait for them, and which wait for room or for their time.
    pub waiting: u32,
}

/// How the queues are doing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct QueuesView {
    /// What the governor goes by.
    pub limits: Limits,
    /// Each queue.
    pub queues: Vec<QueueView>,
}

fn view(hub: &Hub) -> QueuesView {
    let (limits, loads) = hub.pace.state();
    let queues = loads.into_iter().map(|load| QueueView {
        queue: load.queue,
        in_flight: load.in_flight,
        in_flight_max: limits.in_flight(load.queue),
        waiting: load.waiting,
    });
    QueuesView { limits, queues: queues.collect() }
}

/// What the governor goes by, and how each queue is doing.
#[utoipa::path(get, path = "/api/v1/queues", tag = "jobs", security(("api_token" = ["read"])),
    responses((status = 200, body = QueuesView)))]
pub async fn show(State(hub): State<Hub>, operator: Operator) -> Result<Json<QueuesView>, ApiError> {
    operator.require(Scope::Read)?;
    std::future::ready(Ok(Json(view(&hub)))).await
}

/// Sets what the governor goes by, at once and for good. 0 holds a queue; what is under way ends in its own time.
#[utoipa::path(put, path = "/api/v1/queues", tag = "jobs", security(("api_token" = ["admin"])), request_body = Limits,
    responses((status = 200, body = QueuesView), (status = 422, body = ErrorBody, description = "limits_invalid")))]
pub async fn set(
    State(hub): State<Hub>,
    operator: Operator,
    In(limits): In<Limits>,
) -> Result<Json<QueuesView>, ApiError> {
    operator.require(Scope::Admin)?;
    limits.check().map_err(|why| ApiError::refused("limits_invalid", why))?;
    hub.set_limits(limits, operator.name).await?;
    Ok(Json(view(&hub)))
}
