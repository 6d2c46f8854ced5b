//! Jobs as operators see and steer them.

use axum::Json;
use axum::extract::State;
use genesis_shared::id::{BundleId, JobId, WorkspaceId};
use genesis_shared::wire::{ErrorBody, JobState, JobView, Page};
use serde::Deserialize;

use super::body::{Id, Params};
use super::page;
use crate::auth::{Operator, Scope};
use crate::error::ApiError;
use crate::hub::Hub;
use crate::queue::Event;
use crate::store::jobs::{JobFilter, Steered};

/// Which jobs to list.
#[derive(Clone, Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// Only in this state.
    pub state: Option<JobState>,
    /// Only this tenant's.
    #[param(value_type = Option<String>)]
    pub workspace_id: Option<WorkspaceId>,
    /// Only this bundle's.
    #[param(value_type = Option<String>)]
    pub bundle_id: Option<BundleId>,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
    /// Items on the page, at most 200.
    #[param(minimum = 1, maximum = 200)]
    pub limit: Option<u32>,
}

/// Jobs, newest first.
#[utoipa::path(get, path = "/api/v1/jobs", tag = "jobs", params(Wanted), security(("api_token" = ["read"])),
    responses((status = 200, body = Page<JobView>), (status = 400, body = ErrorBody)))]
pub async fn list(
    State(hub): State<Hub>,
    operator: Operator,
    Params(wanted): Params<Wanted>,
) -> Result<Json<Page<JobView>>, ApiError> {
    operator.require(Scope::Read)?;
    let limit = page::limit(wanted.limit)?;
    let before = page::number(wanted.cursor.as_deref())?;
    let (state, workspace, bundle) = (wanted.state, wanted.workspace_id, wanted.bundle_id);
    let filter = JobFilter { state, workspace, bundle, before, limit: limit + 1 };
    let mut jobs = hub.store.jobs(filter).await?;
    let more = page::cut(&mut jobs, limit);
    let next_cursor = jobs.last().filter(|_| more).map(|(number, _)| number.to_string());
    Ok(Json(Page { items: jobs.into_iter().map(|(_, job)| job).collect(), next_cursor }))
}

/// Jobs that were handed out too often without an answer, newest first.
#[utoipa::path(get, path = "/api/v1/dead-letters", tag = "jobs", params(Wanted), security(("api_token" = ["read"])),
    responses((status = 200, body = Page<JobView>), (status = 400, body = ErrorBody)))]
pub async fn dead_letters(
    state: State<Hub>,
    operator: Operator,
    Params(wanted): Params<Wanted>,
) -> Result<Json<Page<JobView>>, ApiError> {
    list(state, operator, Params(Wanted { state: Some(JobState::Dead), ..wanted })).await
}

/// One job.
#[utoipa::path(get, path = "/api/v1/jobs/{job_id}", tag = "jobs", params(("job_id" = String, Path)),
    security(("api_token" = ["read"])), responses((status = 200, body = JobView), (status = 404, body = ErrorBody)))]
pub async fn show(State(hub): State<Hub>, operator: Operator, Id(id): Id<JobId>) -> Result<Json<JobView>, ApiError> {
    operator.require(Scope::Read)?;
    hub.store.job(id).await?.map(Json).ok_or_else(|| no_job(id))
}

/// Withdraws a job that its droplet has not confirmed. If the droplet had it all the same, its word counts.
#[utoipa::path(post, path = "/api/v1/jobs/{job_id}/cancel", tag = "jobs", params(("job_id" = String, Path)),
    security(("api_token" = ["submit"])),
    responses((status = 200, body = JobView), (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody, description = "job_state")))]
pub async fn cancel(State(hub): State<Hub>, operator: Operator, Id(id): Id<JobId>) -> Result<Json<JobView>, ApiError> {
    steer(&hub, &operator, id, Event::Cancel).await
}

/// Gives a dead letter another round of hand-outs.
#[utoipa::path(post, path = "/api/v1/jobs/{job_id}/requeue", tag = "jobs", params(("job_id" = String, Path)),
    security(("api_token" = ["submit"])),
    responses((status = 200, body = JobView), (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody, description = "job_state")))]
pub async fn requeue(State(hub): State<Hub>, operator: Operator, Id(id): Id<JobId>) -> Result<Json<JobView>, ApiError> {
    steer(&hub, &operator, id, Event::Requeue).await
}

async fn steer(hub: &Hub, operator: &Operator, id: JobId, event: Event) -> Result<Json<JobView>, ApiError> {
    operator.require(Scope::Submit)?;
    match hub.store.steer(id, event, operator.name.clone(), hub.clock.now()).await? {
        Steered::Done(job, number) => {
            if job.state == JobState::Cancelled {
                hub.pace.release([number]);
                hub.dispatch();
            }
            tracing::info!(job = %id, by = operator.name, state = job.state.name(), "job steered");
            hub.notifier.wake(job.workspace_id);
            Ok(Json(*job))
        }
        Steered::NotFound => Err(no_job(id)),
        Steered::Refused(illegal) => {
            let rule = if event == Event::Requeue {
                "only a dead letter whose bundle has not expired can be queued again"
            } else {
                "only a job that its droplet has not confirmed can be withdrawn"
            };
            Err(ApiError::conflict("job_state", format!("the job is {}; {rule}", illegal.state.name())))
        }
    }
}

fn no_job(id: JobId) -> ApiError {
    ApiError::not_found(format!("there is no job {id}"))
}
