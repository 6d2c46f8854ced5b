//! How the process ends: one documented number for each kind of error.

use crate::error::Error;

/// The process' exit code; the numbers are documented in `--help` and stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Ok = 0,
    /// The job or bundle failed on the droplet, or was refused by it.
    JobFailed = 1,
    /// Wrong use of the command line.
    Usage = 2,
    /// Invalid input, or refused by the hub.
    Invalid = 3,
    /// The hub cannot be reached, is too busy, or answers 5xx.
    Unavailable = 4,
    /// Not authorised.
    Unauthorised = 5,
}

impl Exit {
    /// The number that the shell sees.
    pub fn code(self) -> u8 {
        self as u8
    }
}

impl Error {
    /// How the process ends.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Entropy
            | Self::Read { .. }
            | Self::Write { .. }
            | Self::Exists(_)
            | Self::KeyFile { .. }
            | Self::Argument { .. }
            | Self::Id(_)
            | Self::Json { .. }
            | Self::Bundle(_)
            | Self::Jws(_)
            | Self::Trust(_)
            | Self::Seal(_)
            | Self::SignedAlready(_)
            | Self::NotARootKey(_)
            | Self::NotAllowed(_)
            | Self::Template(_)
            | Self::Audit { .. }
            | Self::NotInstalled(_)
            | Self::Client(_) => Exit::Invalid,
            Self::NoHub => Exit::Usage,
            Self::NoToken => Exit::Unauthorised,
            Self::Unreachable { .. } => Exit::Unavailable,
            Self::Hub { status, .. } | Self::Answer { status, .. } => exit_of_status(*status),
            Self::Job { .. }
            | Self::Timeout { .. }
            | Self::Build(_)
            | Self::Process { .. }
            | Self::DemoResult(_)
            | Self::Interrupted => Exit::JobFailed,
        }
    }
}

/// 401 and 403 ask for another identity, other 4xx for other input, and the rest for patience.
fn exit_of_status(status: u16) -> Exit {
    match status {
        401 | 403 => Exit::Unauthorised,
        429 => Exit::Unavailable,
        400..=499 => Exit::Invalid,
        _ => Exit::Unavailable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use genesis_shared::wire::ErrorBody;

    fn hub(status: u16) -> Error {
        let body = ErrorBody::new(status, "", "bundle_expired", "too old".into(), false, "r-1".into());
        Error::Hub { status, body: Box::new(body) }
    }

    #[test]
    fn exit_codes_follow_the_documented_table() {
        let cases = [(400, 3), (401, 5), (403, 5), (404, 3), (409, 3), (422, 3), (429, 4), (500, 4), (503, 4)];
        for (status, code) in cases {
            assert_eq!(hub(status).exit().code(), code, "{status}");
        }
        let job = Error::Job { job_id: "j".into(), state: "failed".into(), code: "x".into(), message: "y".into() };
        assert_eq!(job.exit().code(), 1);
        assert_eq!(Error::NoHub.exit().code(), 2);
        assert_eq!(Error::Exists("a".into()).exit().code(), 3);
        assert_eq!(Error::NoToken.exit().code(), 5);
    }

    #[test]
    fn a_refusal_by_the_hub_keeps_the_hubs_code_and_words() {
        let error = hub(422);
        assert_eq!(error.code(), "bundle_expired");
        assert!(error.to_string().contains("too old") && error.to_string().contains("r-1"));
    }
}
