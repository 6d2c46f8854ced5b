//! The API: one file per resource; this one lists every route.

pub mod audit;
pub mod body;
pub mod bundles;
pub mod commands;
pub mod droplets;
pub mod events;
pub mod handshake;
pub mod health;
pub mod heartbeat;
pub mod jobs;
pub mod lifecycle;
pub mod openapi;
pub mod page;
pub mod queues;
pub mod renew;
pub mod request;
pub mod results;
pub mod rollouts;
pub mod trust_root;

use std::net::IpAddr;

use axum::Router;
use axum::routing::{get, post, put};

use crate::hub::Hub;

/// The address that a connection came from; [`crate::serve`] puts it into each request.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub IpAddr);

/// Every route of the hub.
pub fn router(hub: Hub) -> Router {
    Router::new()
        .route("/api/v1/sidecar/handshake", post(handshake::handshake))
        .route("/api/v1/sidecar/renew", post(renew::renew))
        .route("/api/v1/sidecar/heartbeat", post(heartbeat::heartbeat))
        .route("/api/v1/sidecar/commands", get(commands::poll))
        .route("/api/v1/sidecar/results", post(results::results))
        .route("/api/v1/sidecar/trust-root", get(trust_root::chain))
        .route("/api/v1/droplets", post(droplets::create).get(droplets::list))
        .route("/api/v1/droplets/{droplet_id}", get(droplets::show))
        .route("/api/v1/droplets/{droplet_id}/provisioning-token", post(droplets::provisioning_token))
        .route("/api/v1/droplets/{droplet_id}/resume", post(droplets::resume))
        .route("/api/v1/droplets/{droplet_id}/lifecycle", put(lifecycle::set))
        .route("/api/v1/droplets/{droplet_id}/escrow", get(droplets::escrow))
        .route("/api/v1/bundles", post(bundles::push))
        .route("/api/v1/jobs", get(jobs::list))
        .route("/api/v1/jobs/{job_id}", get(jobs::show))
        .route("/api/v1/jobs/{job_id}/cancel", post(jobs::cancel))
        .route("/api/v1/jobs/{job_id}/requeue", post(jobs::requeue))
        .route("/api/v1/queues", get(queues::show).put(queues::set))
        .route("/api/v1/rollouts", get(rollouts::list))
        .route("/api/v1/rollouts/{rollout_id}", get(rollouts::show))
        .route("/api/v1/rollouts/{rollout_id}/pause", post(rollouts::pause))
        .route("/api/v1/rollouts/{rollout_id}/resume", post(rollouts::resume))
        .route("/api/v1/rollouts/{rollout_id}/abort", post(rollouts::abort))
        .route("/api/v1/dead-letters", get(jobs::dead_letters))
        .route("/api/v1/events", get(events::list))
        .route("/api/v1/audit", get(audit::list))
        .route("/api/v1/trust-root", get(trust_root::current).put(trust_root::put))
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .route("/openapi.json", get(openapi::document))
        .layer(axum::middleware::from_fn_with_state(hub.clone(), request::around))
        .with_state(hub)
}
