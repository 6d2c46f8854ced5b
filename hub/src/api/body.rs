//! Reading requests: bodies within their limit and time, as JSON, with the parser's words when they are not.

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use genesis_shared::limits::REQUEST_BODY_BYTES_MAX;
use http_body_util::BodyExt;
use serde::de::DeserializeOwned;

use crate::error::ApiError;
use crate::hub::Hub;

/// A body that is too large is read on, and thrown away, up to here: a client that is still sending when the
/// connection closes would see a reset instead of the answer. Beyond eight times the limit it deserves no better.
const DISCARD_BYTES_MAX: usize = 8 * REQUEST_BODY_BYTES_MAX;

/// Largest body of a caller who has not shown who it is: a handshake has about 1 KB. With every connection taken, this
/// is 320 MB, where the general limit would be 40 GB.
pub const STRANGER_BYTES_MAX: usize = 16 * 1024;

/// The raw bytes of a JSON body, kept as they came.
#[derive(Clone, Debug)]
pub struct Raw(pub Vec<u8>);

/// A JSON body of at most `MAX` bytes as a type.
#[derive(Clone, Debug)]
pub struct In<T, const MAX: usize = REQUEST_BODY_BYTES_MAX>(pub T);

/// Query parameters as a type.
#[derive(Clone, Debug)]
pub struct Params<T>(pub T);

/// The one parameter of a path.
#[derive(Clone, Debug)]
pub struct Id<T>(pub T);

impl FromRequest<Hub> for Raw {
    type Rejection = ApiError;

    async fn from_request(request: Request, hub: &Hub) -> Result<Self, ApiError> {
        json_bytes(request, hub, REQUEST_BODY_BYTES_MAX).await.map(Self)
    }
}

impl<T: DeserializeOwned, const MAX: usize> FromRequest<Hub> for In<T, MAX> {
    type Rejection = ApiError;

    async fn from_request(request: Request, hub: &Hub) -> Result<Self, ApiError> {
        let bytes = json_bytes(request, hub, MAX).await?;
        let value = serde_json::from_slice(&bytes);
        value.map(Self).map_err(|e| ApiError::malformed(format!("the body is not acceptable JSON: {e}")))
    }
}

impl<T: DeserializeOwned> FromRequestParts<Hub> for Params<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, hub: &Hub) -> Result<Self, ApiError> {
        let query = Query::<T>::from_request_parts(parts, hub).await;
        query.map(|Query(value)| Self(value)).map_err(|e| ApiError::malformed(e.body_text()))
    }
}

impl<T: DeserializeOwned + Send> FromRequestParts<Hub> for Id<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, hub: &Hub) -> Result<Self, ApiError> {
        let path = Path::<T>::from_request_parts(parts, hub).await;
        path.map(|Path(value)| Self(value)).map_err(|e| ApiError::malformed(e.body_text()))
    }
}

async fn json_bytes(request: Request, hub: &Hub, max: usize) -> Result<Vec<u8>, ApiError> {
    let (parts, body) = request.into_parts();
    let read = read(&parts.headers, body, max);
    let bytes = tokio::time::timeout(hub.settings.slow_client, read).await.map_err(|_| {
        let message = "the body did not arrive in time; try again";
        ApiError::new(StatusCode::REQUEST_TIMEOUT, "body_timeout", message)
    })??;
    // After the body, so that a client that is refused here has been heard out.
    json_type(&parts.headers)?;
    Ok(bytes)
}

fn json_type(headers: &HeaderMap) -> Result<(), ApiError> {
    let given = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    let essence = given.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    let json = essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"));
    if json {
        return Ok(());
    }
    let message = "the content type must be application/json";
    Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", message))
}

async fn read(headers: &HeaderMap, mut body: Body, max: usize) -> Result<Vec<u8>, ApiError> {
    let announced = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    let mut bytes = Vec::with_capacity(announced.unwrap_or(0).min(max));
    let mut length: usize = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| ApiError::malformed("the body broke off"))?;
        let Ok(data) = frame.into_data() else { continue };
        length = length.saturating_add(data.len());
        if length <= max {
            bytes.extend_from_slice(&data);
        } else if length > DISCARD_BYTES_MAX {
            break;
        }
    }
    if length > max {
        return Err(ApiError::too_large(format!("the body is larger than the {max} bytes accepted here")));
    }
    Ok(bytes)
}
