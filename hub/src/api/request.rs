//! Around every request: its id, its log line, and the one shape of every error answer. A handler that panics is
//! answered with 500 and harms no other request.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;

use axum::Json;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use genesis_shared::wire::ErrorBody;

use super::Peer;
use crate::error::ApiError;
use crate::hub::Hub;
use crate::random;

/// Carries the request's id in every answer.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The middleware.
pub async fn around(State(hub): State<Hub>, request: Request, next: Next) -> Response {
    let id = random::request_id().to_string();
    let method = request.method().clone();
    // The route, not the path: a path may hold what a client should not have put there.
    let route = request.extensions().get::<MatchedPath>().map_or("-", |path| path.as_str()).to_owned();
    let peer = request.extensions().get::<Peer>().map(|Peer(ip)| ip.to_canonical());
    let mut response = match caught(next.run(request)).await {
        Some(response) => response,
        None => {
            tracing::error!(request_id = id, %method, route, "a handler panicked; this is a bug");
            ApiError::internal().into_response()
        }
    };
    if let Some(error) = error_of(&mut response) {
        tracing::info!(request_id = id, %method, route, status = error.status.as_u16(), code = error.code, "refused");
        hub.count_denial(&error, peer).await;
        let headers = std::mem::take(response.headers_mut());
        let body = ErrorBody {
            code: error.code.to_owned(),
            retryable: error.retryable(),
            message: error.message,
            request_id: id.clone(),
        };
        response = (error.status, Json(body)).into_response();
        for name in [axum::http::header::RETRY_AFTER, axum::http::header::ALLOW] {
            if let Some(value) = headers.get(&name) {
                response.headers_mut().insert(name, value.clone());
            }
        }
    } else {
        tracing::debug!(request_id = id, %method, route, status = response.status().as_u16(), "answered");
    }
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    response
}

/// The error that a handler gave, or one for an answer that the router made by itself.
fn error_of(response: &mut Response) -> Option<ApiError> {
    let status = response.status();
    let given = response.extensions_mut().remove::<ApiError>();
    if given.is_some() || !(status.is_client_error() || status.is_server_error()) {
        return given;
    }
    Some(match status {
        StatusCode::NOT_FOUND => ApiError::not_found("there is no such path; /openapi.json lists what there is"),
        StatusCode::METHOD_NOT_ALLOWED => {
            let message = "this path does not know that method; the Allow header and /openapi.json list what it knows";
            ApiError::new(status, "method_not_allowed", message)
        }
        _ => ApiError::new(status, "malformed", "the request cannot be read"),
    })
}

async fn caught(run: impl Future<Output = Response>) -> Option<Response> {
    let mut run = pin!(run);
    poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| run.as_mut().poll(context))) {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(response)) => Poll::Ready(Some(response)),
        Err(_) => Poll::Ready(None),
    })
    .await
}
