//! Droplets as operators register and see them.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use genesis_shared::audit::event;
use genesis_shared::first_boot::NewDroplet;
use genesis_shared::id::{Digest, DropletId, WorkspaceId};
use genesis_shared::life::ResumeRequest;
use genesis_shared::report::Escrow;
use genesis_shared::wire::{DropletCreate, DropletView, ErrorBody, Page, ProvisioningToken};
use serde::Deserialize;
use serde_json::json;

use super::body::{Id, In, Params};
use super::page;
use crate::auth::{Operator, Scope};
use crate::error::ApiError;
use crate::hub::Hub;
use crate::random;
use crate::state::{Condition, DropletState, Facts, Moment};
use crate::store::droplets::{DropletFilter, DropletRow, Registered};
use crate::store::lives::Resumed;
use crate::watch::Lifecycle;

/// Labels of a droplet, and bytes of a name, region, label or value, at most.
const LABELS_MAX: usize = 32;
const TEXT_BYTES_MAX: usize = 128;

/// Which droplets to list.
#[derive(Clone, Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// Only in this state.
    pub state: Option<DropletState>,
    /// Only in this condition, as the agent saw it last.
    pub condition: Option<Condition>,
    /// Only this tenant's.
    #[param(value_type = Option<String>)]
    pub workspace_id: Option<WorkspaceId>,
    /// Only this region.
    pub region: Option<String>,
    /// Only those with this label, written `name=value`.
    pub label: Option<String>,
    /// `next_cursor` of the page before.
    #[param(pattern = "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    #[param(value_type = Option<String>)]
    pub cursor: Option<DropletId>,
    /// Items on the page, at most 200.
    #[param(minimum = 1, maximum = 200)]
    pub limit: Option<u32>,
}

/// Registers a droplet for a tenant and gives its first provisioning token, which is shown once.
#[utoipa::path(post, path = "/api/v1/droplets", tag = "droplets", request_body = DropletCreate,
    security(("api_token" = ["enrol"])),
    responses(
        (status = 201, body = ProvisioningToken),
        (status = 409, body = ErrorBody, description = "workspace_taken, droplet_taken"),
        (status = 422, body = ErrorBody, description = "droplet_invalid, first_boot_setting, user_data_too_large")
    ))]
pub async fn create(
    State(hub): State<Hub>,
    operator: Operator,
    In(new): In<DropletCreate>,
) -> Result<(StatusCode, Json<ProvisioningToken>), ApiError> {
    operator.require(Scope::Enrol)?;
    let mut texts = new.name.iter().chain(&new.region).chain(new.labels.keys()).chain(new.labels.values());
    if new.labels.len() > LABELS_MAX || texts.any(|text| text.len() > TEXT_BYTES_MAX) {
        let message = format!("at most {LABELS_MAX} labels, and {TEXT_BYTES_MAX} bytes in each text, are accepted");
        return Err(ApiError::refused("droplet_invalid", message));
    }
    let (droplet_id, workspace) = (new.droplet_id.clone(), new.workspace_id);
    let provisioning_token = random::provisioning_token();
    // Before it is registered: settings that do not fit it are refused without a trace.
    let user_data = user_data(&hub, &new, &provisioning_token)?;
    let digest = Digest::of(provisioning_token.as_bytes());
    let (registered, expires_at) =
        hub.store.register_droplet(new, digest, operator.name.clone(), hub.clock.now()).await?;
    match registered {
        Registered::Yes => {
            tracing::info!(droplet = %droplet_id, %workspace, by = operator.name, "droplet registered");
            Ok((StatusCode::CREATED, Json(ProvisioningToken { droplet_id, provisioning_token, expires_at, user_data })))
        }
        Registered::WorkspaceTaken => {
            let message = format!("workspace {workspace} has a droplet; ask for a new token for that one instead");
            Err(ApiError::conflict("workspace_taken", message))
        }
        Registered::DropletTaken => {
            let message = format!("droplet {droplet_id} is registered for another workspace");
            Err(ApiError::conflict("droplet_taken", message))
        }
    }
}

/// Gives a new provisioning token, shown once; earlier ones of this droplet end.
#[utoipa::path(post, path = "/api/v1/droplets/{droplet_id}/provisioning-token", tag = "droplets",
    params(("droplet_id" = String, Path)), security(("api_token" = ["enrol"])),
    responses((status = 201, body = ProvisioningToken), (status = 404, body = ErrorBody)))]
pub async fn provisioning_token(
    State(hub): State<Hub>,
    operator: Operator,
    Id(droplet_id): Id<DropletId>,
) -> Result<(StatusCode, Json<ProvisioningToken>), ApiError> {
    operator.require(Scope::Enrol)?;
    let provisioning_token = random::provisioning_token();
    let digest = Digest::of(provisioning_token.as_bytes());
    let expires_at =
        hub.store.issue_provisioning_token(droplet_id.clone(), digest, operator.name, hub.clock.now()).await?;
    let expires_at = expires_at.ok_or_else(|| no_droplet(&droplet_id))?;
    let user_data = None;
    Ok((StatusCode::CREATED, Json(ProvisioningToken { droplet_id, provisioning_token, expires_at, user_data })))
}

fn user_data(hub: &Hub, new: &DropletCreate, token: &str) -> Result<Option<String>, ApiError> {
    let Some((first_boot, pem)) = &hub.settings.first_boot else { return Ok(None) };
    let droplet = NewDroplet {
        workspace_id: new.workspace_id,
        droplet_id: &new.droplet_id,
        labels: &new.labels,
        provisioning_token: token,
        hub_ca_pem: pem.as_deref(),
    };
    first_boot.user_data(&droplet).map(Some).map_err(|e| ApiError::refused(e.code(), e.to_string()))
}

/// One droplet with its latest health report.
#[utoipa::path(get, path = "/api/v1/droplets/{droplet_id}", tag = "droplets", params(("droplet_id" = String, Path)),
    security(("api_token" = ["read"])),
    responses((status = 200, body = DropletView), (status = 404, body = ErrorBody)))]
pub async fn show(
    State(hub): State<Hub>,
    operator: Operator,
    Id(id): Id<DropletId>,
) -> Result<Json<DropletView>, ApiError> {
    operator.require(Scope::Read)?;
    shown(&hub, id).await
}

/// What the droplet deposited for the recovery key last: its stack's secrets, sealed. Nobody but the holder of that key
/// can open it.
#[utoipa::path(get, path = "/api/v1/droplets/{droplet_id}/escrow", tag = "droplets",
    params(("droplet_id" = String, Path)), security(("api_token" = ["admin"])),
    responses((status = 200, body = Escrow), (status = 404, body = ErrorBody)))]
pub async fn escrow(
    State(hub): State<Hub>,
    operator: Operator,
    Id(id): Id<DropletId>,
) -> Result<Json<Escrow>, ApiError> {
    operator.require(Scope::Admin)?;
    hub.store.droplet(id.clone()).await?.ok_or_else(|| no_droplet(&id))?;
    let escrow = hub.store.escrow(id.clone()).await?;
    let escrow = escrow.ok_or_else(|| ApiError::not_found("the droplet has deposited nothing yet"))?;
    // Before it is handed out: what cannot be noted is not given.
    let detail = json!({"droplet": id, "what": "escrow", "recovery": escrow.recovery, "by": operator.name});
    hub.store.note(event::CREDENTIAL_ACCESSED, detail, hub.clock.now()).await?;
    Ok(Json(escrow))
}

/// Droplets by id.
#[utoipa::path(get, path = "/api/v1/droplets", tag = "droplets", params(Wanted), security(("api_token" = ["read"])),
    responses((status = 200, body = Page<DropletView>), (status = 400, body = ErrorBody)))]
pub async fn list(
    State(hub): State<Hub>,
    operator: Operator,
    Params(wanted): Params<Wanted>,
) -> Result<Json<Page<DropletView>>, ApiError> {
    operator.require(Scope::Read)?;
    let limit = page::limit(wanted.limit)?;
    let label = wanted.label.map(|label| {
        let pair = label.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
        pair.ok_or_else(|| ApiError::malformed("label must be written name=value"))
    });
    let (label, after) = (label.transpose()?, wanted.cursor.map(|id| id.to_string()));
    let filter = DropletFilter {
        workspace: wanted.workspace_id,
        state: wanted.state.map(|state| (state, Moment::of(&hub))),
        condition: wanted.condition,
        region: wanted.region,
        label,
        after,
        limit: limit + 1,
    };
    let mut rows = hub.store.droplets(filter).await?;
    let more = page::cut(&mut rows, limit);
    let next_cursor = rows.last().filter(|_| more).map(|row| row.droplet.to_string());
    Ok(Json(Page { items: rows.into_iter().map(|row| view(&hub, row)).collect(), next_cursor }))
}

/// The longest reason of a resumption, in bytes.
const REASON_BYTES_MAX: usize = 512;

/// Ends a quarantine: the life that is named, or else was heard last, is the droplet from now on. Stop the others
/// first: one that speaks again brings the quarantine back.
#[utoipa::path(post, path = "/api/v1/droplets/{droplet_id}/resume", tag = "droplets",
    params(("droplet_id" = String, Path)), request_body = ResumeRequest, security(("api_token" = ["admin"])),
    responses(
        (status = 200, body = DropletView),
        (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody, description = "not_quarantined"),
        (status = 422, body = ErrorBody, description = "resume_invalid")
    ))]
pub async fn resume(
    State(hub): State<Hub>,
    operator: Operator,
    Id(id): Id<DropletId>,
    In(request): In<ResumeRequest>,
) -> Result<Json<DropletView>, ApiError> {
    operator.require(Scope::Admin)?;
    if request.reason.trim().is_empty() || request.reason.len() > REASON_BYTES_MAX {
        let message = format!("give a reason of at most {REASON_BYTES_MAX} bytes; it is kept with the event");
        return Err(ApiError::refused("resume_invalid", message));
    }
    match hub.store.resume(id.clone(), request, operator.name, hub.clock.now()).await? {
        Resumed::Done => {}
        Resumed::NotFound => return Err(no_droplet(&id)),
        Resumed::NotQuarantined => {
            return Err(ApiError::conflict("not_quarantined", format!("droplet {id} is not quarantined")));
        }
        Resumed::UnknownLife => {
            let message = "the hub knows no such boot epoch of this droplet; `droplet show` lists those it knows";
            return Err(ApiError::refused("resume_invalid", message));
        }
    }
    let answer = shown(&hub, id).await?;
    hub.notifier.wake(answer.workspace_id);
    Ok(answer)
}

async fn shown(hub: &Hub, id: DropletId) -> Result<Json<DropletView>, ApiError> {
    let row = hub.store.droplet(id.clone()).await?.ok_or_else(|| no_droplet(&id))?;
    let lives = hub.store.lives(id).await?;
    Ok(Json(DropletView { lives, ..view(hub, row) }))
}

fn no_droplet(id: &DropletId) -> ApiError {
    ApiError::not_found(format!("there is no droplet {id}"))
}

fn view(hub: &Hub, row: DropletRow) -> DropletView {
    let facts = Facts {
        enrolled: row.enrolled_at.is_some(),
        quarantined: row.quarantine.is_some(),
        reported: row.heartbeat.as_ref().map(|beat| beat.state.clone()),
        last_seen_at: row.last_seen_at,
    };
    let explained = hub.watching.explained(row.workspace);
    let told = explained.filter(|_| row.quarantine.is_none()).map(Lifecycle::state_name);
    let state = told.unwrap_or_else(|| facts.state(Moment::of(hub)).name());
    let lifecycle = explained.map_or(if row.enrolled_at.is_some() { "active" } else { "pending" }, Lifecycle::name);
    DropletView {
        lifecycle: lifecycle.to_owned(),
        state: state.to_owned(),
        droplet_id: row.droplet,
        workspace_id: row.workspace,
        name: row.name,
        region: row.region,
        labels: row.labels,
        sealing_key: row.sealing_key,
        enrolled_at: row.enrolled_at,
        last_seen_at: row.last_seen_at,
        health: row.heartbeat,
        quarantine: row.quarantine,
        lives: Vec::new(),
    }
}
