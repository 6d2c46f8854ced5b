//! The one error of the API: a status, a stable code, and words for people.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use genesis_shared::life::QUARANTINED;

use crate::store::StoreError;

/// Seconds after which a client may try again when the store was not available.
const RETRY_AFTER_S: u64 = 2;

/// An error answer. [`crate::api::request`] adds the request's id and writes the body.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct ApiError {
    /// HTTP status.
    pub status: StatusCode,
    /// Stable machine-readable name.
    pub code: &'static str,
    /// What happened and what to do.
    pub message: String,
    /// Seconds after which it may be tried again, where the status is one that says so.
    pub retry_after_s: u64,
}

impl ApiError {
    /// Any status.
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), retry_after_s: RETRY_AFTER_S }
    }
    /// 400: not readable.
    pub fn malformed(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "malformed", message)
    }
    /// 401: who are you.
    pub fn unauthorised(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, code, message)
    }
    /// 403: not yours.
    pub fn forbidden(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, code, message)
    }
    /// 404.
    pub fn not_found(what: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", what)
    }
    /// 409.
    pub fn conflict(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, code, message)
    }
    /// 413.
    pub fn too_large(message: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message)
    }
    /// 422: well-formed but refused.
    pub fn refused(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, message)
    }
    /// 429: too often; `retry_after_s` seconds from now it may ask again.
    pub fn too_often(code: &'static str, message: impl Into<String>, retry_after_s: u64) -> Self {
        Self { retry_after_s, ..Self::new(StatusCode::TOO_MANY_REQUESTS, code, message) }
    }
    /// 500: a bug. What it was is in the log only.
    pub fn internal() -> Self {
        let message = "the hub failed to answer; its log has the details under this request id";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message)
    }

    /// Whether the same request may succeed later.
    pub fn retryable(&self) -> bool {
        self.status.is_server_error()
            || self.status == StatusCode::TOO_MANY_REQUESTS
            || self.status == StatusCode::REQUEST_TIMEOUT
            || self.code == "no_trust_root"
            || self.code == QUARANTINED
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(why) => {
                tracing::error!(why, "the store is not available");
                let message = "the hub cannot store anything now, so nothing was done; try again";
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "store_unavailable", message)
            }
            StoreError::Broken(why) => {
                tracing::error!(why, "the store failed");
                Self::internal()
            }
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        if matches!(self.status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(self.retry_after_s));
        }
        response.extensions_mut().insert(self);
        response
    }
}
