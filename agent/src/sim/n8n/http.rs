//! The stand-in on a socket: many connections, one state.

use std::{
    convert::Infallible,
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use http_body_util::{BodyExt, Limited};
use hyper::{
    body::{Body, Bytes, Frame, Incoming, SizeHint},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
};

use super::{
    answer::{Answer, Request},
    model::BODY_BYTES_MAX,
    standin::{Seen, Standin},
};

/// How much of a body is read at all: enough to see that it is too large.
const READ_BYTES_MAX: usize = 4 * BODY_BYTES_MAX;

/// A stand-in that several connections and a test share.
#[derive(Clone, Debug)]
pub struct Shared {
    standin: Arc<Mutex<Standin>>,
    released: watch::Sender<u64>,
}

impl Shared {
    /// Shares a stand-in.
    pub fn new(standin: Standin) -> Self {
        Self { standin: Arc::new(Mutex::new(standin)), released: watch::Sender::new(0) }
    }

    /// The stand-in, locked; do not hold it across an await.
    pub fn lock(&self) -> MutexGuard<'_, Standin> {
        self.standin.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes the connection of every request that hangs now.
    pub fn release(&self) {
        self.released.send_modify(|count| *count += 1);
    }

    /// Serves connections until it is dropped or accepting fails.
    ///
    /// # Errors
    /// What accepting a connection failed with.
    pub async fn serve(&self, listener: TcpListener) -> io::Result<Infallible> {
        loop {
            let (stream, _) = listener.accept().await?;
            tokio::spawn(self.clone().connection(stream));
        }
    }

    async fn connection(self, stream: TcpStream) {
        if self.lock().phase == super::faults::Phase::Refusing {
            // The listener cannot be closed for one phase: a connection that closes at once is as near as it gets.
            return;
        }
        let service = service_fn(|request| self.answer(request));
        // A connection that breaks is the caller's business, and often what the test wants.
        drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
    }

    async fn answer(&self, request: hyper::Request<Incoming>) -> Result<hyper::Response<Reply>, Closed> {
        let mut released = self.released.subscribe();
        let request = read(request).await?;
        if request.method == "POST" && request.path == "/__standin/release" {
            self.release();
            return respond(Answer::ok(&serde_json::json!({ "ok": true })), false);
        }
        let control = self.lock().control(&request);
        if let Some(answer) = control {
            return respond(answer, false);
        }
        let seen = self.lock().handle(&request);
        match seen {
            Seen::Answer(answer) => respond(answer, false),
            Seen::Half(answer) => respond(answer, true),
            Seen::Late(time, answer) => {
                tokio::time::sleep(time).await;
                respond(answer, false)
            }
            Seen::Nothing => {
                // The sender lives in self, so this ends by a release only.
                drop(released.changed().await);
                Err(Closed)
            }
            Seen::Closed | Seen::Refused => Err(Closed),
        }
    }
}

/// The connection is to be closed without an answer.
#[derive(Debug)]
struct Closed;

impl std::fmt::Display for Closed {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("closed on purpose")
    }
}

impl std::error::Error for Closed {}

async fn read(request: hyper::Request<Incoming>) -> Result<Request, Closed> {
    let (head, body) = request.into_parts();
    let text = |value: &hyper::header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers = head.headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect();
    let body = Limited::new(body, READ_BYTES_MAX).collect().await.map_err(|_| Closed)?.to_bytes();
    Ok(Request {
        method: head.method.as_str().to_owned(),
        path: head.uri.path().to_owned(),
        query: head.uri.query().unwrap_or_default().to_owned(),
        headers,
        body: body.to_vec(),
    })
}

fn respond(answer: Answer, half: bool) -> Result<hyper::Response<Reply>, Closed> {
    let mut response = hyper::Response::builder().status(answer.status);
    if let Some(kind) = answer.content_type {
        response = response.header("content-type", kind);
    }
    if let Some(cookie) = &answer.set_cookie {
        response = response.header("set-cookie", cookie);
    }
    let length = answer.body.len();
    let keep = if half { length / 2 } else { length };
    let body = Bytes::from(answer.body).slice(..keep);
    let end = if half { End::Flush } else { End::Whole };
    response.body(Reply { body: Some(body), length, end }).map_err(|_| Closed)
}

/// How a body ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// As promised.
    Whole,
    /// Broken, once what is there has been sent.
    Flush,
    /// Broken.
    Broken,
}

/// A body that may break off before the length it promised.
struct Reply {
    body: Option<Bytes>,
    length: usize,
    end: End,
}

impl Body for Reply {
    type Data = Bytes;
    type Error = Closed;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Closed>>> {
        if let Some(body) = self.body.take() {
            return Poll::Ready(Some(Ok(Frame::data(body))));
        }
        match self.end {
            End::Whole => Poll::Ready(None),
            End::Flush => {
                // Hyper flushes when a body has nothing for it.
                self.end = End::Broken;
                context.waker().wake_by_ref();
                Poll::Pending
            }
            End::Broken => Poll::Ready(Some(Err(Closed))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.length == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.length.try_into().unwrap_or(u64::MAX))
    }
}
