//! Who is asking: bearer token -> principal. Nothing else reads credentials of requests.

use axum::extract::FromRequestParts;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use genesis_shared::id::Digest;

use crate::error::ApiError;
use crate::hub::Hub;
use crate::store::tokens::{Bearer, SidecarToken};

/// What an API token may do. `admin` includes the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Scope {
    /// Look at droplets, jobs, the trust root.
    Read,
    /// Push bundles, steer jobs.
    Submit,
    /// Register droplets, issue provisioning tokens.
    Enrol,
    /// Everything, and change the trust root.
    Admin,
}

impl Scope {
    /// Every scope.
    pub const ALL: &[Scope] = &[Scope::Read, Scope::Submit, Scope::Enrol, Scope::Admin];

    /// The name in the store and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Submit => "submit",
            Self::Enrol => "enrol",
            Self::Admin => "admin",
        }
    }
}

/// A droplet, proven by its sidecar token. Tenant and droplet come from here and never from a body.
#[derive(Clone, Debug)]
pub struct Sidecar(pub SidecarToken);

/// A holder of an API token.
#[derive(Clone, Debug)]
pub struct Operator {
    /// The token's name.
    pub name: String,
    scopes: Vec<Scope>,
}

impl Operator {
    /// Lets pass whoever has the scope.
    ///
    /// # Errors
    /// 403 `scope_missing`.
    pub fn require(&self, scope: Scope) -> Result<(), ApiError> {
        if self.scopes.contains(&scope) || self.scopes.contains(&Scope::Admin) {
            return Ok(());
        }
        let message = format!("this API token has not the scope {}; use one that has", scope.name());
        Err(ApiError::forbidden("scope_missing", message))
    }
}

/// Reads a list of scopes as stored.
fn scopes(names: &str) -> Vec<Scope> {
    let named = |scope: &&Scope| names.split(',').any(|name| name == scope.name());
    Scope::ALL.iter().filter(named).copied().collect()
}

async fn bearer(parts: &Parts, hub: &Hub) -> Result<Bearer, ApiError> {
    let refused = || {
        let message = "no good bearer token; send one in the Authorization header, or renew it";
        ApiError::unauthorised("unauthenticated", message)
    };
    let header = parts.headers.get(AUTHORIZATION).ok_or_else(refused)?.to_str().map_err(|_| refused())?;
    let (scheme, token) = header.split_once(' ').ok_or_else(refused)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(refused());
    }
    let found = hub.store.bearer(Digest::of(token.trim().as_bytes()), hub.clock.now()).await?;
    found.ok_or_else(refused)
}

impl FromRequestParts<Hub> for Sidecar {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, hub: &Hub) -> Result<Self, ApiError> {
        match bearer(parts, hub).await? {
            Bearer::Sidecar(token) => {
                if !token.used {
                    hub.store.first_use(&token, hub.clock.now()).await?;
                }
                Ok(Self(token))
            }
            Bearer::Api(..) => {
                Err(ApiError::forbidden("wrong_plane", "an API token cannot act as a droplet; use its sidecar token"))
            }
        }
    }
}

impl FromRequestParts<Hub> for Operator {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, hub: &Hub) -> Result<Self, ApiError> {
        match bearer(parts, hub).await? {
            Bearer::Api(name, names) => Ok(Self { name, scopes: scopes(&names) }),
            Bearer::Sidecar(_) => {
                Err(ApiError::forbidden("wrong_plane", "a sidecar token cannot act as an operator; use an API token"))
            }
        }
    }
}
