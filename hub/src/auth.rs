//! Who is asking: bearer token -> principal. Nothing else reads credentials of requests.

use axum::extract::FromRequestParts;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use genesis_shared::id::{Digest, DropletId};
use genesis_shared::life::{BOOT_EPOCH_BYTES_MAX, BOOT_EPOCH_HEADER, HIGH_WATER_HEADER, Life};

use crate::error::ApiError;
use crate::hub::Hub;
use crate::store::lives::Sight;
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

/// Whose requests are counted together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Caller {
    /// An API token, by its name.
    Api(String),
    /// A droplet, however many tokens it has.
    Sidecar(DropletId),
}

/// A holder of an API token.
#[derive(Clone, Debug)]
pub struct Operator {
    /// The token's name.
    pub name: String,
    /// The token's digest, for whoever stays and has to be asked again.
    pub token: Digest,
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

async fn bearer(parts: &Parts, hub: &Hub) -> Result<(Bearer, Digest), ApiError> {
    let refused = || {
        let message = "no good bearer token; send one in the Authorization header, or renew it";
        ApiError::unauthorised("unauthenticated", message)
    };
    let header = parts.headers.get(AUTHORIZATION).ok_or_else(refused)?.to_str().map_err(|_| refused())?;
    let (scheme, token) = header.split_once(' ').ok_or_else(refused)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(refused());
    }
    let (token, now) = (Digest::of(token.trim().as_bytes()), hub.clock.now());
    let found = hub.store.bearer(token, now).await?.ok_or_else(refused)?;
    let (caller, rate) = match &found {
        Bearer::Api(name, _) => (Caller::Api(name.clone()), hub.settings.api_rate),
        Bearer::Sidecar(token) => (Caller::Sidecar(token.droplet.clone()), hub.settings.sidecar_rate),
    };
    hub.rates.take(caller, rate, now).map_err(|wait_s| {
        let message = format!(
            "this token asked more than {} times a second; go on {wait_s} s from now, and ask less often",
            rate.per_s
        );
        ApiError::too_often("rate_limited", message, wait_s)
    })?;
    Ok((found, token))
}

/// The life that a request says it belongs to.
fn life(parts: &Parts) -> Result<Option<Life>, ApiError> {
    let header = |name| parts.headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let Some(boot_epoch) = header(BOOT_EPOCH_HEADER) else { return Ok(None) };
    let journal_high_water = header(HIGH_WATER_HEADER).and_then(|text| text.parse().ok());
    let fits = (1..=BOOT_EPOCH_BYTES_MAX).contains(&boot_epoch.len());
    match journal_high_water.filter(|_| fits) {
        Some(journal_high_water) => Ok(Some(Life { boot_epoch: boot_epoch.to_owned(), journal_high_water })),
        None => Err(ApiError::malformed(format!("{BOOT_EPOCH_HEADER} or {HIGH_WATER_HEADER} cannot be read"))),
    }
}

/// Looks at a life that is not the present one, before anything that it says is believed.
async fn sight(hub: &Hub, token: &mut SidecarToken, life: Life) -> Result<(), ApiError> {
    // Until two heartbeats later, what is heard of a life that was succeeded may be its late last word.
    let grace_ms = i64::try_from(hub.settings.agent.heartbeat_interval_s).unwrap_or(i64::MAX).saturating_mul(2_000);
    token.epoch = Some(life.boot_epoch.clone());
    let seen = hub.store.sight(token, life, grace_ms, hub.clock.now()).await?;
    token.sight = Some(seen);
    token.quarantined = matches!(seen, Sight::Quarantined | Sight::Alarm);
    if seen == Sight::Alarm {
        // Whoever waits beside it must hear of it.
        hub.notifier.wake(token.workspace);
    }
    Ok(())
}

impl FromRequestParts<Hub> for Sidecar {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, hub: &Hub) -> Result<Self, ApiError> {
        match bearer(parts, hub).await?.0 {
            Bearer::Sidecar(mut token) => {
                hub.watching.heard(token.workspace, hub.clock.now());
                if !token.used {
                    hub.store.first_use(&token, hub.clock.now()).await?;
                }
                match life(parts)? {
                    Some(life) if token.epoch.as_ref() != Some(&life.boot_epoch) => {
                        sight(hub, &mut token, life).await?
                    }
                    Some(_) => {}
                    // An agent that does not say cannot be told apart by it.
                    None => token.epoch = None,
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
            (Bearer::Api(name, names), token) => Ok(Self { name, token, scopes: scopes(&names) }),
            (Bearer::Sidecar(_), _) => {
                Err(ApiError::forbidden("wrong_plane", "a sidecar token cannot act as an operator; use an API token"))
            }
        }
    }
}
