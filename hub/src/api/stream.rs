//! `GET events/stream`: events as they happen (server-sent events), from where the reader left off.
//!
//! Nothing is buffered for a reader but the page that is being written to it: the next one is read from the store when
//! the one before has left. A reader that falls behind is therefore cheap, and still cut off where it would never catch
//! up, with a last event that says so and from where to go on.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};
use genesis_shared::chain::Chain;
use genesis_shared::id::{Digest, DropletId};
use genesis_shared::wire::ErrorBody;
use hyper::body::Frame;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::body::Params;
use super::page;
use crate::auth::{Operator, Scope};
use crate::error::ApiError;
use crate::hub::Hub;
use crate::store::StoreError;
use crate::store::events::EventFilter;
use crate::store::tokens::Bearer;

/// Events that are read and written at once.
const PAGE_EVENTS: u32 = 100;
/// Milliseconds after which a browser's reader comes back.
const RETRY_MS: u32 = 2_000;
/// Seconds after which to try again when there is no room for another reader.
const FULL_RETRY_S: u64 = 30;

/// From where on, and which.
#[derive(Clone, Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// Only events after this number, for whoever cannot set the header `Last-Event-ID`, which wins.
    pub after: Option<i64>,
    /// Only with this code.
    pub code: Option<String>,
    /// Only about this droplet.
    #[param(value_type = Option<String>)]
    pub droplet_id: Option<DropletId>,
}

/// Events as they happen, oldest first, each with its number as `id`, its code as `event`, and an `EventView` as `data`.
/// Without a number to go on from it begins with what happens next. Comments keep it alive.
///
/// The hub's own words have names with a colon: `hub:gap` says which numbers are no longer kept; `hub:cut` is the last
/// event of a reader that fell too far behind, `hub:end` of one whose token ended or whose hub stops.
#[utoipa::path(get, path = "/api/v1/events/stream", tag = "events",
    params(Wanted, ("last-event-id" = Option<i64>, Header, description = "Number of the last event that was read")),
    security(("api_token" = ["read"])),
    responses((status = 200, body = String, content_type = "text/event-stream"),
        (status = 429, body = ErrorBody, description = "rate_limited, too_many_streams")))]
pub async fn stream(
    State(hub): State<Hub>,
    operator: Operator,
    headers: HeaderMap,
    Params(wanted): Params<Wanted>,
) -> Result<Response, ApiError> {
    operator.require(Scope::Read)?;
    let header = headers.get("last-event-id").map(|value| value.to_str().unwrap_or_default());
    let after = page::number(header.filter(|id| !id.is_empty()))?.or(wanted.after);
    let permit = hub.streams.clone().try_acquire_owned().map_err(|_| {
        let message = "every place for readers of the event stream is taken; try again, or read GET events";
        ApiError::too_often("too_many_streams", message, FULL_RETRY_S)
    })?;
    // Before the look, or what happens in between would be missed.
    let news = hub.store.latest_event();
    let range = hub.store.event_range().await?;
    let latest = range.map_or(0, |(_, latest)| latest);
    let after = after.unwrap_or(latest).max(0);
    let filter = EventFilter { code: wanted.code, droplet: wanted.droplet_id };
    // Who resumes far back may be as far back as that, and no further.
    let lag_max = (latest - after).max(0).saturating_add(hub.settings.event_lag_max);
    let mut first = format!("retry: {RETRY_MS}\n\n");
    if let Some((oldest, _)) = range.filter(|(oldest, _)| oldest - 1 > after) {
        let gap = json!({"code": "events_pruned", "from": after + 1, "to": oldest - 1,
            "message": "these numbers are no longer kept"});
        push(&mut first, None, "hub:gap", &gap.to_string());
    }
    let token = operator.token;
    let reader = Reader { hub, token, filter, after, lag_max, news, _permit: permit };
    let events = Events { first: Some(first.into()), next: Some(Box::pin(reader.next())) };
    let mut response = Body::new(events).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // nginx would collect the events otherwise.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

/// Adds one event. `data` has no line break: it is JSON.
fn push(text: &mut String, id: Option<i64>, event: &str, data: &str) {
    if let Some(id) = id {
        text.push_str(&format!("id: {id}\n"));
    }
    text.push_str(&format!("event: {event}\ndata: {data}\n\n"));
}

/// The name of an event. Its code comes from a droplet, which must not be able to write lines of the stream, nor to
/// speak in the hub's name.
fn name(code: &str) -> &str {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    if !code.is_empty() && code.bytes().all(plain) { code } else { "event" }
}

/// One reader's place in the stream.
struct Reader {
    hub: Hub,
    token: Digest,
    filter: EventFilter,
    after: i64,
    lag_max: i64,
    news: watch::Receiver<i64>,
    _permit: OwnedSemaphorePermit,
}

/// What comes out of a look.
struct Next {
    text: String,
    /// Gone with the last event.
    reader: Option<Reader>,
}

impl Next {
    fn end(event: &str, code: &str, message: &str) -> Self {
        let mut text = String::new();
        push(&mut text, None, event, &json!({"code": code, "message": message}).to_string());
        Self { text, reader: None }
    }
}

impl Reader {
    /// Waits for something to write.
    async fn next(mut self) -> Next {
        loop {
            // Whatever is added from here on is seen by the look below, or wakes the wait after it.
            self.news.mark_unchanged();
            match self.page().await {
                Ok(text) if !text.is_empty() => return Next { text, reader: Some(self) },
                Ok(_) => {}
                Err(Ended::Behind(by)) => {
                    let message = format!(
                        "this reader is {by} events behind and was cut off; go on after event {} and read faster, or \
                         read GET events",
                        self.after
                    );
                    return Next::end("hub:cut", "too_slow", &message);
                }
                Err(Ended::Store(error)) => {
                    tracing::warn!(error = %Chain(&error), "an event stream ends");
                    return Next::end("hub:end", error.code(), "the events cannot be read now; come back");
                }
            }
            tokio::select! {
                biased;
                () = self.hub.stopped() => return Next::end("hub:end", "stopping", "the hub stops; come back"),
                // An error would mean that the store is gone, which the hub holds.
                _ = self.news.changed() => {}
                () = tokio::time::sleep(self.hub.settings.event_keep_alive) => return self.alive().await,
            }
        }
    }

    /// The events that came since; empty where there are none for this reader.
    async fn page(&mut self) -> Result<String, Ended> {
        let Some((_, latest)) = self.hub.store.event_range().await? else { return Ok(String::new()) };
        let behind = latest - self.after;
        if behind > self.lag_max {
            return Err(Ended::Behind(behind));
        }
        // One that has caught up is held to the common measure.
        self.lag_max = self.lag_max.min(behind.max(0).saturating_add(self.hub.settings.event_lag_max));
        let events = self.hub.store.events_after(self.filter.clone(), self.after, PAGE_EVENTS).await?;
        let full = u32::try_from(events.len()).is_ok_and(|count| count == PAGE_EVENTS);
        let mut text = String::new();
        for event in &events {
            let data = serde_json::to_string(event).map_err(|e| StoreError::Broken(e.to_string()))?;
            push(&mut text, Some(event.number), name(&event.code), &data);
        }
        // What the filter left out has been seen as well, unless there is more than this page.
        let seen = if full { events.last().map_or(latest, |event| event.number) } else { latest };
        self.after = self.after.max(seen);
        Ok(text)
    }

    /// A sign of life, if the token is still good.
    async fn alive(self) -> Next {
        match self.hub.store.bearer(self.token, self.hub.clock.now()).await {
            Ok(Some(Bearer::Api(..))) => Next { text: ":\n\n".to_owned(), reader: Some(self) },
            Ok(Some(Bearer::Sidecar(_)) | None) => {
                Next::end("hub:end", "unauthenticated", "the API token is no longer good")
            }
            Err(error) => Next::end("hub:end", error.code(), "the token cannot be looked up now; come back"),
        }
    }
}

/// Why a reader gets no more.
enum Ended {
    /// It is so many events behind.
    Behind(i64),
    /// The store.
    Store(StoreError),
}

impl From<StoreError> for Ended {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// The body: asks its reader for more only when what came before was written.
struct Events {
    first: Option<Bytes>,
    next: Option<Pin<Box<dyn Future<Output = Next> + Send>>>,
}

impl HttpBody for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        let Some(next) = self.next.as_mut() else { return Poll::Ready(None) };
        let Poll::Ready(Next { text, reader }) = next.as_mut().poll(context) else { return Poll::Pending };
        self.next = reader.map(|reader| Box::pin(reader.next()) as _);
        Poll::Ready(Some(Ok(Frame::data(text.into()))))
    }
}
