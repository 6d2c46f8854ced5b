//! `POST sidecar/results`: droplets deliver their outbox.

use axum::Json;
use axum::extract::State;
use genesis_shared::life::QUARANTINED;
use genesis_shared::limits::{RECORD_BYTES_MAX, RESULTS_BATCH_MAX};
use genesis_shared::report::Record;
use genesis_shared::wire::{ErrorBody, ResultsAnswer, ResultsRequest};

use super::body::In;
use crate::auth::Sidecar;
use crate::error::ApiError;
use crate::hub::Hub;
use crate::store::results::{Sender, Stored};

/// Stores outbox records by number, each once, and applies them to jobs. Answers up to where everything is stored; a
/// number that is missing is taken for a record that gave way on the droplet.
#[utoipa::path(post, path = "/api/v1/sidecar/results", tag = "agent", request_body = ResultsRequest,
    security(("sidecar_token" = [])),
    responses(
        (status = 200, body = ResultsAnswer),
        (status = 401, body = ErrorBody),
        (status = 409, body = ErrorBody, description = "quarantined"),
        (status = 422, body = ErrorBody, description = "batch_too_large, record_too_large")
    ))]
pub async fn results(
    State(hub): State<Hub>,
    Sidecar(token): Sidecar,
    In(ResultsRequest { records }): In<ResultsRequest>,
) -> Result<Json<ResultsAnswer>, ApiError> {
    if records.len() > RESULTS_BATCH_MAX {
        let message = format!("{} records; at most {RESULTS_BATCH_MAX} are accepted at once", records.len());
        return Err(ApiError::refused("batch_too_large", message));
    }
    if !records.is_sorted_by(|a, b| a.seq < b.seq) {
        return Err(ApiError::malformed("records must come in ascending seq, each once"));
    }
    for record in &records {
        let size = serde_json::to_vec(&record.record).map_or(usize::MAX, |bytes| bytes.len());
        if size > RECORD_BYTES_MAX {
            let message = format!("record {} has {size} bytes; at most {RECORD_BYTES_MAX} are accepted", record.seq);
            return Err(ApiError::refused("record_too_large", message));
        }
        let inner = if let Record::Audit(entry) = &record.record { entry.seq } else { 0 };
        if i64::try_from(record.seq.max(inner)).is_err() {
            return Err(ApiError::malformed("seq is larger than any outbox or audit chain can grow"));
        }
    }
    let sender =
        Sender { droplet: token.droplet, workspace: token.workspace, enrolment: token.enrolment, epoch: token.epoch };
    match hub.store.results(sender, records, hub.clock.now()).await? {
        Stored::UpTo(stored_up_to, moved) => {
            hub.moved(token.workspace, &moved);
            Ok(Json(ResultsAnswer { stored_up_to }))
        }
        Stored::Quarantined { now } => {
            if now {
                hub.notifier.wake(token.workspace);
            }
            let message =
                "the droplet is quarantined: keep the records, they are taken when an operator has resumed it";
            Err(ApiError::conflict(QUARANTINED, message))
        }
    }
}
