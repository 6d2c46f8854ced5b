//! `GET sidecar/commands`: the long poll by which droplets fetch their jobs.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use genesis_shared::wire::{CommandsAnswer, ErrorBody, LeasedCommand};
use serde::Deserialize;

use super::body::Params;
use crate::auth::Sidecar;
use crate::delivery::HandOut;
use crate::error::ApiError;
use crate::hub::Hub;
use crate::store::leases::Leased;
use crate::store::lives::Sight;
use crate::store::tokens::SidecarToken;

/// Parameters of a poll.
#[derive(Clone, Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct Poll {
    /// Seconds to wait for something to come; the hub's own limit where it is longer or absent.
    pub wait: Option<u64>,
    /// 16 to 128 characters of A-Z a-z 0-9 _ -, new for every poll; stands in the delivery tokens of the answer.
    pub nonce: String,
}

/// Waits for jobs and leases up to four of them, the most urgent first. A new poll takes back at once what this droplet
/// was given before and has not confirmed: it journals a whole answer before it polls again.
#[utoipa::path(get, path = "/api/v1/sidecar/commands", tag = "agent", params(Poll),
    security(("sidecar_token" = [])),
    responses(
        (status = 200, body = CommandsAnswer),
        (status = 204, description = "nothing came, and the droplet is not quarantined"),
        (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody)
    ))]
pub async fn poll(
    State(hub): State<Hub>,
    Sidecar(token): Sidecar,
    Params(poll): Params<Poll>,
) -> Result<Response, ApiError> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if !(16..=128).contains(&poll.nonce.len()) || !poll.nonce.bytes().all(fits) {
        return Err(ApiError::malformed("nonce must be 16 to 128 characters of A-Z a-z 0-9 _ -"));
    }
    let longest = hub.settings.agent.poll_wait_s;
    let longest = Duration::from_secs(poll.wait.unwrap_or(longest).min(longest));
    let (leased, quarantined) = wait(&hub, &token, longest).await?;
    if leased.is_empty() && !quarantined {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let commands = leased.into_iter().map(|leased| hand_out(&hub, &token, &poll.nonce, leased));
    let commands = commands.collect::<Result<Vec<_>, _>>()?;
    let trust_root_version = hub.store.trust_root().await?.map_or(0, |root| root.version);
    Ok(Json(CommandsAnswer { commands, trust_root_version, quarantined }).into_response())
}

/// Leases what is due and may start, or waits for it. Nothing here asks the database again and again: it looks once, and
/// then once for every wake. Also answers whether the droplet is quarantined; the wait ends when that changes.
async fn wait(hub: &Hub, token: &SidecarToken, longest: Duration) -> Result<(Vec<Leased>, bool), ApiError> {
    // A life that has ended takes nothing with it, and some tenants must never receive anything.
    let gets_nothing = token.sight == Some(Sight::Late) || hub.settings.excluded_workspaces.contains(&token.workspace);
    let waiter = hub.notifier.waiter(token.workspace);
    let turn = hub.turn(token.workspace);
    let mut over = std::pin::pin!(tokio::time::sleep(longest));
    let (mut is_first, mut has_asked) = (true, false);
    loop {
        let mut woken = std::pin::pin!(waiter.notify().notified());
        // Before the look, or what is queued between look and wait would be missed.
        woken.as_mut().enable();
        let now = hub.clock.now();
        let mut due = hub.store.due(token.workspace, now).await?;
        if due.quarantined != token.quarantined || (is_first && token.sight == Some(Sight::Alarm)) {
            return Ok((Vec::new(), due.quarantined));
        }
        if !gets_nothing {
            // At the start of a poll, and not when it was woken: a poll that still waits has not been answered.
            if is_first && due.unconfirmed {
                hub.pace.release(Box::pin(hub.store.take_back(token.workspace, now)).await?);
                due = hub.store.due(token.workspace, now).await?;
            }
            // Boxed: most polls wait for nothing, and there is one for each droplet.
            // What it asked for before and is not due any more has to be taken out, though.
            if has_asked || !due.candidates.is_empty() {
                has_asked = true;
                let leased = Box::pin(turn.lease(&due.candidates)).await?;
                if !leased.is_empty() {
                    return Ok((leased, due.quarantined));
                }
            }
        }
        is_first = false;
        let next_due = async {
            match due.next_at {
                Some(at) => tokio::time::sleep(Duration::from_millis(at.millis_since(now).unsigned_abs())).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            // Fixed order: a wake that comes together with the end of the wait is not passed over by chance.
            biased;
            () = woken => {}
            () = next_due => {}
            () = &mut over => return Ok((Vec::new(), due.quarantined)),
            () = hub.stopped() => return Ok((Vec::new(), due.quarantined)),
        }
    }
}

fn hand_out(hub: &Hub, token: &SidecarToken, nonce: &str, leased: Leased) -> Result<LeasedCommand, ApiError> {
    let Leased { lease, job, document, action } = leased;
    let claims =
        HandOut { workspace: token.workspace, droplet: &token.droplet, action: &action, bundle: &document, nonce };
    let delivery_token = hub.delivery.mint(&claims, hub.clock.now()).map_err(|error| {
        tracing::error!(error = %genesis_shared::chain::Chain(&error), "no delivery token");
        ApiError::internal()
    })?;
    Ok(LeasedCommand { lease_id: lease, job_id: job, bundle: document, delivery_token })
}
