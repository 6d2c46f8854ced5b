//! What n8n's answers mean: which of them are errors, and of which kind (n8n facts, §2 and §5).

use std::time::Duration;

use genesis_shared::secret::Secret;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::TransportError;
use crate::ports::{EffectError, ErrorKind};

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// `Content-Type`.
    pub content_type: String,
    /// `Retry-After`.
    pub retry_after: Option<String>,
    /// Each `Set-Cookie`.
    pub cookies: Vec<Secret<String>>,
    /// The body.
    pub body: Vec<u8>,
}

/// The most of n8n's own words that an error repeats, in characters.
const WORDS_MAX: usize = 600;

impl Answer {
    /// Whether it claims to be JSON; while n8n starts it answers text with 200.
    pub fn is_json(&self) -> bool {
        self.content_type.starts_with("application/json")
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// It is not JSON.
    pub fn json(&self) -> Result<Value, EffectError> {
        self.parse()
    }

    /// The body as a type.
    ///
    /// # Errors
    /// It has not that shape.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, EffectError> {
        serde_json::from_slice(&self.body).map_err(|e| unexpected(&e.to_string()))
    }

    /// The answer, if it is a success; `changing` tells whether the request may have had an effect.
    pub(super) fn checked(self, changing: bool) -> Result<Self, EffectError> {
        if (200..300).contains(&self.status) && self.is_json() {
            return Ok(self);
        }
        let words = self.words();
        let (kind, code, what) = match self.status {
            // Not ready: nothing was heard, whatever the status says.
            _ if !self.is_json() && self.is_starting() => {
                (ErrorKind::Transient, "n8n_starting", "n8n is still starting".to_owned())
            }
            401 => (ErrorKind::Permanent, "n8n_unauthorised", format!("n8n does not accept the agent's key: {words}")),
            404 => (ErrorKind::Permanent, "n8n_not_found", format!("n8n has no such thing: {words}")),
            405 => (ErrorKind::Permanent, "n8n_no_such_method", format!("this n8n cannot do that: {words}")),
            413 => (ErrorKind::Permanent, "n8n_refused", format!("too large for n8n: {words}")),
            429 => (ErrorKind::Transient, "n8n_busy", format!("n8n asks to wait: {words}")),
            503 => (ErrorKind::Transient, "n8n_database", format!("n8n has lost its database: {words}")),
            400..=499 => (ErrorKind::Permanent, "n8n_refused", format!("n8n refused: {words}")),
            status => {
                let kind = if changing { ErrorKind::Ambiguous } else { ErrorKind::Transient };
                (kind, "n8n_failing", format!("n8n answered {status}: {words}"))
            }
        };
        let retry_after = self.retry_after.and_then(|text| text.parse().ok()).map(Duration::from_secs);
        Err(EffectError { kind, code, message: what, retry_after })
    }

    /// The texts of n8n's phases of starting, and its routes' absence while it loads.
    fn is_starting(&self) -> bool {
        let text = String::from_utf8_lossy(&self.body);
        (self.status == 200 && text.contains("starting up")) || (self.status == 404 && text.contains("Cannot "))
    }

    /// n8n's own words, bounded.
    fn words(&self) -> String {
        let parsed = serde_json::from_slice::<Value>(&self.body).ok();
        let message = parsed.as_ref().and_then(|body| body["message"].as_str());
        let text = message.map_or_else(|| String::from_utf8_lossy(&self.body).into_owned(), str::to_owned);
        text.chars().filter(|c| !c.is_control() || *c == '\n').take(WORDS_MAX).collect()
    }
}

/// No answer, as an error of the port.
pub(super) fn no_answer(error: &TransportError, changing: bool) -> EffectError {
    let (kind, code) = match error {
        TransportError::NotSent(_) => (ErrorKind::Transient, "n8n_unreachable"),
        TransportError::NoAnswer(_) if changing => (ErrorKind::Ambiguous, "n8n_no_answer"),
        TransportError::NoAnswer(_) => (ErrorKind::Transient, "n8n_no_answer"),
        TransportError::TooLong(_) => (ErrorKind::Permanent, "n8n_answer_too_long"),
    };
    EffectError::new(kind, code, error.to_string())
}

/// An answer of an unknown shape. It may come from a half-written answer, so it may be tried again.
pub(super) fn unexpected(why: &str) -> EffectError {
    EffectError::new(ErrorKind::Ambiguous, "n8n_answer", format!("n8n's answer cannot be read: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(status: u16, content_type: &str, body: &str, changing: bool) -> EffectError {
        let answer = Answer {
            status,
            content_type: content_type.into(),
            retry_after: Some("7".into()),
            cookies: vec![],
            body: body.as_bytes().to_vec(),
        };
        answer.checked(changing).unwrap_err()
    }

    #[test]
    fn a_starting_n8n_is_not_taken_for_a_success_or_an_absence() {
        let migrating = error(200, "text/html", "n8n is starting up. Please wait", true);
        assert_eq!((migrating.kind, migrating.code), (ErrorKind::Transient, "n8n_starting"));
        let loading = error(404, "text/html; charset=utf-8", "<pre>Cannot GET /api/v1/workflows/x</pre>", true);
        assert_eq!((loading.kind, loading.code), (ErrorKind::Transient, "n8n_starting"));
    }

    #[test]
    fn a_failure_of_a_change_is_ambiguous_and_of_a_look_transient() {
        assert_eq!(error(500, "application/json", "{}", true).kind, ErrorKind::Ambiguous);
        assert_eq!(error(500, "application/json", "{}", false).kind, ErrorKind::Transient);
    }

    #[test]
    fn repeats_n8ns_words_within_bounds_and_its_wish_to_wait() {
        let refused = error(400, "application/json", r#"{"message":"There is a conflict"}"#, true);
        assert_eq!(refused.message, "n8n refused: There is a conflict");
        assert_eq!(refused.retry_after, Some(Duration::from_secs(7)));
        assert!(error(400, "text/html", &"x".repeat(100_000), true).message.len() < 700);
    }
}
