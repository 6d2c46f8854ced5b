//! The fleet page at `/`: static files in the binary, which read the API with the token that their visitor gives.
//!
//! The files hold no data and ask for no right; everything that they show comes through the API's own checks. The policy
//! lets the page load and ask nothing but this hub, run no script but its own files, and stand in nobody's frame.

use axum::extract::{Path, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use genesis_shared::id::Digest;
use genesis_shared::wire::ErrorBody;

use crate::error::ApiError;
use crate::hub::Hub;

const INDEX: File = ("index.html", "text/html; charset=utf-8", include_str!("../site/index.html"));

const SCRIPT: &str = "text/javascript; charset=utf-8";

/// Name, type, content.
type File = (&'static str, &'static str, &'static str);

const FILES: &[File] = &[
    ("style.css", "text/css; charset=utf-8", include_str!("../site/style.css")),
    ("favicon.svg", "image/svg+xml", include_str!("../site/favicon.svg")),
    ("app.js", SCRIPT, include_str!("../site/app.js")),
    ("api.js", SCRIPT, include_str!("../site/api.js")),
    ("ui.js", SCRIPT, include_str!("../site/ui.js")),
    ("fleet.js", SCRIPT, include_str!("../site/fleet.js")),
    ("droplet.js", SCRIPT, include_str!("../site/droplet.js")),
];

/// What the page may do.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; \
     form-action 'none'; frame-ancestors 'none'",
);

/// The fleet page.
#[utoipa::path(get, path = "/", tag = "fleet", security(()),
    responses((status = 200, body = String, content_type = "text/html"), (status = 304, description = "as you have it")))]
pub async fn index(State(_): State<Hub>, headers: HeaderMap) -> Response {
    std::future::ready(served(INDEX, &headers)).await
}

/// A file of the fleet page.
#[utoipa::path(get, path = "/page/{file}", tag = "fleet", security(()), params(("file" = String, Path)),
    responses((status = 200, body = String, content_type = "*/*"), (status = 304, description = "as you have it"),
        (status = 404, body = ErrorBody)))]
pub async fn file(State(_): State<Hub>, Path(name): Path<String>, headers: HeaderMap) -> Result<Response, ApiError> {
    let found = FILES.iter().find(|(known, ..)| *known == name);
    let missing = || ApiError::not_found("the page has no such file");
    std::future::ready(found.map(|file| served(*file, &headers)).ok_or_else(missing)).await
}

fn served((_, kind, content): File, headers: &HeaderMap) -> Response {
    let tag = format!("\"{}\"", Digest::of(content.as_bytes()));
    let has_it = headers.get(IF_NONE_MATCH).is_some_and(|given| given.as_bytes() == tag.as_bytes());
    let mut response = if has_it {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        ([(CONTENT_TYPE, kind)], content).into_response()
    };
    let headers = response.headers_mut();
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        headers.insert(ETAG, tag);
    }
    // Asked for again each time, so that a new hub never meets an old page.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(CONTENT_SECURITY_POLICY, POLICY);
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}
