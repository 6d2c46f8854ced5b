//! Carries the real client's requests to the stand-in without a socket.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use genesis_shared::secret::Secret;

use super::crash::Crash;
use super::n8n::{self, Seen, Standin};
use crate::real::n8n::{Answer, Request, Transport, TransportError};

/// How long the real transport waits for an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// A wire to a stand-in.
pub struct SimTransport {
    standin: Rc<RefCell<Standin>>,
    crash: Crash,
}

impl SimTransport {
    /// To this one, in a life that may end.
    pub fn new(standin: Rc<RefCell<Standin>>, crash: Crash) -> Self {
        Self { standin, crash }
    }
}

impl Transport for SimTransport {
    async fn send(&self, request: Request) -> Result<Answer, TransportError> {
        // A request takes a moment, so that others get their turn.
        tokio::task::yield_now().await;
        if request.method == "GET" {
            self.crash.look().await;
        } else {
            self.crash.point().await;
        }
        let seen = self.standin.borrow_mut().handle(&translate(&request));
        // A look of which nobody heard is one that was not taken.
        if request.method != "GET" {
            self.crash.point().await;
        }
        match seen {
            Seen::Answer(answer) => Ok(translate_back(answer)),
            Seen::Late(delay, answer) if delay < ANSWER_TIMEOUT => {
                tokio::time::sleep(delay).await;
                Ok(translate_back(answer))
            }
            Seen::Late(..) | Seen::Nothing => {
                tokio::time::sleep(ANSWER_TIMEOUT).await;
                Err(TransportError::NoAnswer("timed out".into()))
            }
            Seen::Half(_) | Seen::Closed => Err(TransportError::NoAnswer("connection closed".into())),
            Seen::Refused => Err(TransportError::NotSent("connection refused".into())),
        }
    }
}

fn translate(request: &Request) -> n8n::Request {
    let mut translated = n8n::Request::new(request.method, &request.path);
    if let Some((name, value)) = &request.authorisation {
        translated = translated.header(name, value.expose());
    }
    if let Some(body) = &request.body {
        translated = translated.header("content-type", "application/json");
        translated.body = body.expose().clone();
    }
    translated
}

fn translate_back(answer: n8n::Answer) -> Answer {
    Answer {
        status: answer.status,
        content_type: answer.content_type.unwrap_or_default().to_owned(),
        retry_after: None,
        cookies: answer.set_cookie.map(|cookie| Secret::new(cookie.to_string())).into_iter().collect(),
        body: answer.body,
    }
}
