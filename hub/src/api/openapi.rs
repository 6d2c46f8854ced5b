//! The OpenAPI document, made from the handlers' own descriptions.

use axum::Json;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};

use super::{
    audit, bundles, commands, droplets, events, handshake, health, heartbeat, jobs, lifecycle, queues, renew, results,
    rollouts, trust_root,
};

#[derive(OpenApi)]
#[openapi(
    info(title = "Genesis hub", description = "Queues signed bundles for droplets and stores what they answer. Every \
        error is an ErrorBody, every answer carries x-request-id."),
    paths(
        handshake::handshake, renew::renew, heartbeat::heartbeat, commands::poll, results::results, trust_root::chain,
        droplets::create, droplets::list, droplets::show, droplets::provisioning_token, droplets::resume,
        droplets::escrow, lifecycle::set, audit::list,
        bundles::push, queues::show, queues::set, rollouts::list, rollouts::show, rollouts::pause, rollouts::resume, rollouts::abort, jobs::list, jobs::show, jobs::cancel, jobs::requeue, jobs::dead_letters, events::list,
        trust_root::current, trust_root::put, health::healthz, health::readyz, document
    ),
    components(schemas(genesis_shared::wire::ErrorBody)),
    modifiers(&Tokens)
)]
struct Document;

struct Tokens;

impl Modify for Tokens {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let components = document.components.get_or_insert_default();
        for (name, what) in [
            ("api_token", "API token of an operator or dashboard, with scopes read, submit, enrol, admin"),
            ("sidecar_token", "Token of a droplet, from its handshake"),
        ] {
            let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(what)).build();
            components.add_security_scheme(name, SecurityScheme::Http(scheme));
        }
    }
}

/// The document.
pub fn openapi() -> utoipa::openapi::OpenApi {
    Document::openapi()
}

/// This document.
#[utoipa::path(get, path = "/openapi.json", tag = "machines", responses((status = 200)), security(()))]
pub async fn document() -> Json<utoipa::openapi::OpenApi> {
    std::future::ready(Json(openapi())).await
}
