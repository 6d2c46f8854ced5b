//! Around every request: its id, its log line, its figures, and the one shape of every error answer. A handler that
//! panics is answered with 500 and harms no other request.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;

use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use genesis_shared::wire::ErrorBody;
use tokio::time::Instant;
use tracing::Instrument;

use super::{Peer, cors};
use crate::error::ApiError;
use crate::hub::Hub;
use crate::random;

/// Carries the request's id: taken from whoever asks, where it is a short plain word, and in every answer.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Longest id that is taken over: it stands in each log line of its request.
const REQUEST_ID_BYTES_MAX: usize = 64;
/// What every error answer is (RFC 9457).
pub const PROBLEM: HeaderValue = HeaderValue::from_static("application/problem+json");

/// The middleware.
pub async fn around(State(hub): State<Hub>, request: Request, next: Next) -> Response {
    let id = request_id(request.headers());
    let span = tracing::info_span!("request", request_id = id);
    let origin = cors::allowed(&hub.settings, request.headers());
    let mut response = if cors::is_preflight(request.method(), request.headers()) {
        cors::preflight(origin)
    } else {
        let mut response = answered(&hub, &id, request, next).instrument(span).await;
        cors::permit(&mut response, origin);
        response
    };
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    response
}

/// The id that the caller gave, where it can stand in a log as it is, or a new one.
fn request_id(headers: &HeaderMap) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let given = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok());
    let given = given.filter(|id| (1..=REQUEST_ID_BYTES_MAX).contains(&id.len()) && id.bytes().all(plain));
    given.map_or_else(|| random::request_id().to_string(), str::to_owned)
}

async fn answered(hub: &Hub, id: &str, request: Request, next: Next) -> Response {
    let method = request.method().clone();
    // The route, not the path: a path may hold what a client should not have put there.
    let route = request.extensions().get::<MatchedPath>().map_or("-", |path| path.as_str()).to_owned();
    let peer = request.extensions().get::<Peer>().map(|Peer(ip)| ip.to_canonical());
    let (_present, began) = (hub.metrics.request(), Instant::now());
    let mut response = match caught(next.run(request)).await {
        Some(response) => response,
        None => {
            tracing::error!(%method, route, "a handler panicked; this is a bug");
            ApiError::internal().into_response()
        }
    };
    let status = response.status().as_u16();
    hub.metrics.answered(&method.as_str().to_ascii_lowercase(), &route, status, began.elapsed());
    let Some(error) = error_of(&mut response) else {
        tracing::debug!(%method, route, status = response.status().as_u16(), "answered");
        return response;
    };
    tracing::info!(%method, route, status = error.status.as_u16(), code = error.code, "refused");
    hub.count_denial(&error, peer).await;
    let given = std::mem::take(response.headers_mut());
    problem(&error, id, &given)
}

/// The one shape of an error.
fn problem(error: &ApiError, id: &str, given: &HeaderMap) -> Response {
    let title = error.status.canonical_reason().unwrap_or("Error");
    let (status, message) = (error.status.as_u16(), error.message.clone());
    let body = ErrorBody::new(status, title, error.code, message, error.retryable(), id.to_owned());
    // A struct of texts and numbers always has a JSON form; without one there is still the status.
    let body = serde_json::to_vec(&body).unwrap_or_default();
    let mut response = (error.status, Body::from(body)).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, PROBLEM);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if error.status == StatusCode::UNAUTHORIZED {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    for name in [RETRY_AFTER, ALLOW] {
        if let Some(value) = given.get(&name) {
            headers.insert(name, value.clone());
        }
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
        StatusCode::NOT_FOUND => ApiError::not_found("there is no such path; /api/v1/openapi.json lists what there is"),
        StatusCode::METHOD_NOT_ALLOWED => {
            let message =
                "this path does not know that method; the Allow header and /api/v1/openapi.json list what it knows";
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
