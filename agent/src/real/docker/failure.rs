//! What the engine's failures mean: each of bollard's errors and each of the engine's words -> one code of the port.

use std::time::Duration;

use bollard::errors::Error;
use genesis_shared::chain::Chain;

use crate::ports::{EffectError, ErrorKind};

/// How a call ended that may find its work done, or nothing to do it to.
#[derive(Debug)]
pub enum Fate<T> {
    /// It did it.
    Done(T),
    /// There is no such thing (404).
    Missing,
    /// It is so already, or somebody else is at it (304, 409).
    Already,
}

impl<T> Fate<T> {
    /// From the engine's answer.
    ///
    /// # Errors
    /// It failed for any other reason.
    pub fn of(doing: &str, answer: Result<T, Error>) -> Result<Self, EffectError> {
        match answer {
            Ok(done) => Ok(Self::Done(done)),
            Err(Error::DockerResponseServerError { status_code: 404, message }) if !is_known(&message) => {
                Ok(Self::Missing)
            }
            Err(Error::DockerResponseServerError { status_code: 304 | 409, .. }) => Ok(Self::Already),
            Err(error) => Err(failed(doing, &error)),
        }
    }

    /// What came of it, if it was done.
    pub fn done(self) -> Option<T> {
        match self {
            Self::Done(done) => Some(done),
            Self::Missing | Self::Already => None,
        }
    }
}

/// The engine's words -> kind and code. The first that is found counts.
const WORDS: [(&str, ErrorKind, &str); 22] = [
    ("no space left on device", ErrorKind::Transient, "disk_full"),
    ("disk quota exceeded", ErrorKind::Transient, "disk_full"),
    ("port is already allocated", ErrorKind::Transient, "port_taken"),
    ("address already in use", ErrorKind::Transient, "port_taken"),
    ("no such image", ErrorKind::Permanent, "image_missing"),
    ("manifest unknown", ErrorKind::Permanent, "image_not_found"),
    ("pull access denied", ErrorKind::Permanent, "image_not_found"),
    ("repository does not exist", ErrorKind::Permanent, "image_not_found"),
    ("manifest for", ErrorKind::Permanent, "image_not_found"),
    ("no matching manifest", ErrorKind::Permanent, "image_not_found"),
    ("unauthorized", ErrorKind::Permanent, "image_not_found"),
    ("invalid reference format", ErrorKind::Permanent, "image_not_found"),
    ("toomanyrequests", ErrorKind::Transient, "registry_unreachable"),
    ("no such host", ErrorKind::Transient, "registry_unreachable"),
    ("failed to resolve reference", ErrorKind::Transient, "registry_unreachable"),
    ("request canceled", ErrorKind::Transient, "registry_unreachable"),
    ("tls handshake timeout", ErrorKind::Transient, "registry_unreachable"),
    ("dial tcp", ErrorKind::Transient, "registry_unreachable"),
    ("i/o timeout", ErrorKind::Transient, "registry_unreachable"),
    ("unexpected eof", ErrorKind::Transient, "registry_unreachable"),
    ("service unavailable", ErrorKind::Transient, "registry_unreachable"),
    ("is not running", ErrorKind::Transient, "container_stopped"),
];

fn known(message: &str) -> Option<(ErrorKind, &'static str)> {
    let message = message.to_lowercase();
    WORDS.iter().find(|(words, ..)| message.contains(words)).map(|(_, kind, code)| (*kind, *code))
}

fn is_known(message: &str) -> bool {
    known(message).is_some_and(|(_, code)| code != "image_missing")
}

/// The engine's words about something that it did not do.
pub fn said(doing: &str, message: &str) -> EffectError {
    let (kind, code) = known(message).unwrap_or((ErrorKind::Permanent, "engine_refused"));
    let advice = match code {
        "disk_full" => "; free some space",
        "port_taken" => "; stop what listens there",
        "registry_unreachable" => "; it is tried again",
        "image_not_found" => "; check name and digest",
        _ => "",
    };
    EffectError::new(kind, code, format!("the container engine could not {doing}: {}{advice}", message.trim()))
}

/// Any failure of a call.
pub fn failed(doing: &str, error: &Error) -> EffectError {
    let words = Chain(error).to_string();
    let silent = || {
        EffectError::new(
            ErrorKind::Ambiguous,
            "engine_silent",
            format!("the container engine broke off while it was to {doing}: {words}"),
        )
    };
    let away = || {
        let message =
            format!("the container engine cannot be reached ({words}); see that it runs: systemctl status docker");
        EffectError::new(ErrorKind::Transient, "engine_unreachable", message)
    };
    match error {
        Error::DockerResponseServerError { message, .. } | Error::DockerStreamError { error: message } => {
            said(doing, message)
        }
        Error::DockerContainerWaitError { error, .. } => said(doing, error),
        Error::SocketNotFoundError(_) => away(),
        Error::HyperLegacyError { err } if err.is_connect() => away(),
        Error::HyperLegacyError { .. }
        | Error::HyperResponseError { .. }
        | Error::RequestTimeoutError
        | Error::IOError { .. }
        // It answered, and the answer makes no sense.
        | Error::JsonDataError { .. }
        | Error::JsonSerdeError { .. }
        | Error::StrParseError { .. } => silent(),
        // What is left never reached the engine.
        Error::APIVersionParseError { .. }
        | Error::MissingSessionBuildkitError { .. }
        | Error::MissingVersionBuildkitError { .. }
        | Error::StrFmtError { .. }
        | Error::HttpClientError { .. }
        | Error::URLEncodedError { .. }
        | Error::URLParseError { .. }
        | Error::InvalidURIError { .. }
        | Error::InvalidURIPartsError { .. }
        | Error::UnsupportedURISchemeError { .. }
        | Error::HttpHeaderNotFoundError(_)
        | Error::HttpHeaderToStrError { .. }
        | Error::Base64DecodeError { .. } => refused(doing, &words),
    }
}

/// Something that no other code names.
pub fn refused(doing: &str, words: &str) -> EffectError {
    let message = format!("the container engine could not {doing}: {words}");
    EffectError::new(ErrorKind::Permanent, "engine_refused", message)
}

/// No answer within the time that it was given.
pub fn silent(doing: &str, waited: Duration) -> EffectError {
    let message = format!("the container engine was to {doing} and has not answered for {} s", waited.as_secs());
    EffectError::new(ErrorKind::Ambiguous, "engine_silent", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(status_code: u16, message: &str) -> Error {
        Error::DockerResponseServerError { status_code, message: message.into() }
    }

    #[test]
    fn the_engines_words_become_codes() {
        let table = [
            (500, "write /var/lib/docker/tmp/x: no space left on device", "disk_full", ErrorKind::Transient),
            (500, "Bind for 0.0.0.0:80 failed: port is already allocated", "port_taken", ErrorKind::Transient),
            (500, "listen tcp4 0.0.0.0:80: bind: address already in use", "port_taken", ErrorKind::Transient),
            (404, "No such image: caddy@sha256:12", "image_missing", ErrorKind::Permanent),
            (404, "manifest for caddy@sha256:12 not found: manifest unknown", "image_not_found", ErrorKind::Permanent),
            (404, "pull access denied for x, repository does not exist", "image_not_found", ErrorKind::Permanent),
            (
                500,
                "Get https://registry-1.docker.io/v2/: dial tcp: i/o timeout",
                "registry_unreachable",
                ErrorKind::Transient,
            ),
            (
                500,
                "toomanyrequests: You have reached your pull rate limit",
                "registry_unreachable",
                ErrorKind::Transient,
            ),
            (409, "Container 12 is not running", "container_stopped", ErrorKind::Transient),
            (400, "something new", "engine_refused", ErrorKind::Permanent),
        ];
        for (status, words, code, kind) in table {
            let error = failed("do it", &server(status, words));
            assert_eq!((error.code, error.kind), (code, kind), "{words}");
            assert!(error.message.contains("do it"), "{error}");
        }
    }

    #[test]
    fn what_was_sent_and_not_answered_may_have_happened() {
        let error = failed("stop it", &Error::RequestTimeoutError);
        assert_eq!((error.code, error.kind), ("engine_silent", ErrorKind::Ambiguous));
        let error = failed("stop it", &Error::SocketNotFoundError("/run/docker.sock".into()));
        assert_eq!((error.code, error.kind), ("engine_unreachable", ErrorKind::Transient));
    }

    #[test]
    fn nothing_to_do_is_no_failure() {
        assert!(matches!(Fate::<()>::of("x", Err(server(404, "No such container: a"))), Ok(Fate::Missing)));
        assert!(matches!(Fate::<()>::of("x", Err(server(304, ""))), Ok(Fate::Already)));
        assert!(matches!(Fate::<()>::of("x", Err(server(409, "removal is already in progress"))), Ok(Fate::Already)));
        assert!(Fate::<()>::of("x", Err(server(500, "no space left on device"))).is_err());
    }
}
