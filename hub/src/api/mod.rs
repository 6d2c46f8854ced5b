//! The API: one file per resource; this one lists every route. The router and the OpenAPI document are made of this one
//! table, so neither can have a route that the other has not.

pub mod audit;
pub mod body;
pub mod bundles;
pub mod commands;
pub mod cors;
pub mod droplets;
pub mod events;
pub mod examples;
pub mod fleet;
pub mod handshake;
pub mod health;
pub mod heartbeat;
pub mod jobs;
pub mod lifecycle;
pub mod metrics;
pub mod openapi;
pub mod page;
pub mod queues;
pub mod renew;
pub mod request;
pub mod results;
pub mod rollouts;
pub mod site;
pub mod stream;
pub mod trust_root;

use std::net::IpAddr;

use axum::Router;

use crate::hub::Hub;

/// The address that a connection came from; [`crate::serve`] puts it into each request.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub IpAddr);

/// One route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Its method in lower case.
    pub method: &'static str,
    /// Its path, parameters in braces.
    pub path: &'static str,
    /// The one name of it: `operationId` in the OpenAPI document.
    pub name: &'static str,
}

/// Makes of one table the router, the OpenAPI document and the list of routes.
macro_rules! served {
    ($($method:ident $path:literal $module:ident :: $handler:ident;)*) => {
        /// Every route.
        pub const ROUTES: &[Route] = &[$(Route {
            method: stringify!($method),
            path: $path,
            name: concat!(stringify!($module), "_", stringify!($handler)),
        }),*];

        fn routed() -> Router<Hub> {
            Router::new()$(.route($path, axum::routing::$method($module::$handler)))*
        }

        /// The handlers' own descriptions; [`openapi`] completes them.
        #[derive(utoipa::OpenApi)]
        #[openapi(
            paths($($module::$handler),*),
            components(schemas(genesis_shared::wire::ErrorBody, crate::state::DropletState, crate::state::Condition))
        )]
        struct Described;
    };
}

served! {
    post "/api/v1/sidecar/handshake" handshake::handshake;
    post "/api/v1/sidecar/renew" renew::renew;
    post "/api/v1/sidecar/heartbeat" heartbeat::heartbeat;
    get "/api/v1/sidecar/commands" commands::poll;
    post "/api/v1/sidecar/results" results::results;
    get "/api/v1/sidecar/trust-root" trust_root::chain;
    post "/api/v1/droplets" droplets::create;
    get "/api/v1/droplets" droplets::list;
    get "/api/v1/droplets/{droplet_id}" droplets::show;
    post "/api/v1/droplets/{droplet_id}/provisioning-token" droplets::provisioning_token;
    post "/api/v1/droplets/{droplet_id}/resume" droplets::resume;
    put "/api/v1/droplets/{droplet_id}/lifecycle" lifecycle::set;
    get "/api/v1/droplets/{droplet_id}/escrow" droplets::escrow;
    get "/api/v1/droplets/{droplet_id}/health" fleet::health;
    get "/api/v1/fleet/summary" fleet::summary;
    get "/api/v1/fleet/map" fleet::map;
    get "/api/v1/fleet/ids" fleet::ids;
    post "/api/v1/bundles" bundles::push;
    get "/api/v1/bundles" bundles::list;
    get "/api/v1/bundles/{bundle_id}" bundles::show;
    get "/api/v1/jobs" jobs::list;
    get "/api/v1/jobs/{job_id}" jobs::show;
    post "/api/v1/jobs/{job_id}/cancel" jobs::cancel;
    post "/api/v1/jobs/{job_id}/requeue" jobs::requeue;
    get "/api/v1/dead-letters" jobs::dead_letters;
    get "/api/v1/queues" queues::show;
    put "/api/v1/queues" queues::set;
    get "/api/v1/rollouts" rollouts::list;
    get "/api/v1/rollouts/{rollout_id}" rollouts::show;
    post "/api/v1/rollouts/{rollout_id}/pause" rollouts::pause;
    post "/api/v1/rollouts/{rollout_id}/resume" rollouts::resume;
    post "/api/v1/rollouts/{rollout_id}/abort" rollouts::abort;
    get "/api/v1/events" events::list;
    get "/api/v1/events/stream" stream::stream;
    get "/api/v1/audit" audit::list;
    get "/api/v1/trust-root" trust_root::current;
    put "/api/v1/trust-root" trust_root::put;
    get "/api/v1/openapi.json" openapi::show;
    get "/openapi.json" openapi::show_at_the_top;
    get "/" site::index;
    get "/page/{file}" site::file;
    get "/healthz" health::healthz;
    get "/readyz" health::readyz;
    get "/metrics" metrics::show;
}

/// Every route of the hub, and around each of them what all have in common.
pub fn router(hub: Hub) -> Router {
    let around = axum::middleware::from_fn_with_state(hub.clone(), request::around);
    routed().layer(around).with_state(hub)
}
