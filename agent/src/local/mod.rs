//! What the agent can be asked on its own droplet: one JSON line per request over a unix socket in its data folder.
//!
//! The socket is the owner's alone (0600); there is no TCP port. A connection carries one request, answered by lines of
//! [`Answer`] until one that is the last. Not HTTP, but for one line that scrapers send: `GET /metrics` is answered with
//! metrics in the text format of Prometheus, and the connection closed.

pub mod ask;
pub mod metrics;
pub mod serve;

use std::time::Duration;

use genesis_shared::audit::Line;
use genesis_shared::id::PublicKey;
use genesis_shared::limits::LOCAL_PATIENCE_S;
use genesis_shared::report::CommandResult;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::agent::by_hand::{Accepted, Progress};
use crate::agent::status::{Finding, JournalLine, Status};

/// The socket's file within the data folder.
pub const SOCKET_FILE: &str = "agent.sock";

/// How long one end waits for the other to say or take something.
const PATIENCE: Duration = Duration::from_secs(LOCAL_PATIENCE_S);

/// What may be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Run a signed bundle: [`Answer::Accepted`], any number of [`Answer::Progress`], [`Answer::Ended`] as the last; or
    /// at once [`Answer::Refused`].
    Apply {
        /// Its exact text.
        bundle: String,
    },
    /// [`Answer::Status`].
    Status,
    /// The last commands, newest first: [`Answer::Journal`].
    Journal {
        /// At most so many.
        lines: u32,
    },
    /// Show the audit chain: any number of [`Answer::Line`], [`Answer::AuditEnd`] as the last.
    Audit,
}

/// One line of an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// The bundle is in the journal.
    Accepted(Accepted),
    /// The bundle is not run. Last.
    Refused(CommandResult),
    /// The bundle has come so far.
    Progress(Progress),
    /// The bundle has ended. Last.
    Ended(CommandResult),
    /// Where everything stands, and what is wrong with it. Last.
    Status {
        /// The droplet at this moment.
        status: Box<Status>,
        /// What is wrong.
        findings: Vec<Finding>,
    },
    /// Commands of the journal. Last.
    Journal(Vec<JournalLine>),
    /// A line of the audit chain.
    Line(Line),
    /// There are no more lines. Last.
    AuditEnd {
        /// What signs the droplet's checkpoints.
        identity_key: PublicKey,
    },
    /// The request cannot be answered. Last.
    Error {
        /// Stable machine-readable name.
        code: String,
        /// What happened and what to do.
        message: String,
    },
}

/// Why no line came.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// The other end failed.
    #[error("the connection failed")]
    Io(#[from] std::io::Error),
    /// The other end closed first.
    #[error("the connection was closed before a whole line came")]
    Closed,
    /// It was longer.
    #[error("a line is longer than {0} bytes")]
    TooLong(usize),
}

/// Reads lines of bounded length.
struct Lines<R> {
    from: R,
    held: Vec<u8>,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    fn new(from: R) -> Self {
        Self { from, held: Vec::new() }
    }

    /// The next line without its end. Cut off in the middle it goes on where it was.
    async fn next(&mut self, bytes_max: usize) -> Result<Vec<u8>, LineError> {
        let mut looked_at = 0;
        loop {
            if let Some(end) = self.held[looked_at..].iter().position(|byte| *byte == b'\n') {
                let rest = self.held.split_off(looked_at + end + 1);
                let mut line = std::mem::replace(&mut self.held, rest);
                line.pop();
                return Ok(line);
            }
            looked_at = self.held.len();
            if looked_at > bytes_max {
                return Err(LineError::TooLong(bytes_max));
            }
            if self.from.read_buf(&mut self.held).await? == 0 {
                return Err(LineError::Closed);
            }
        }
    }
}

/// A value as a line.
fn line(value: &impl Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(value).expect("requests and answers have a JSON form");
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_are_cut_where_they_end_and_refused_where_they_do_not() {
        let mut lines = Lines::new(&b"one\n\ntwo"[..]);
        assert_eq!(lines.next(10).await.unwrap(), b"one");
        assert_eq!(lines.next(10).await.unwrap(), b"");
        assert!(matches!(lines.next(10).await, Err(LineError::Closed)));
        let mut endless = Lines::new(tokio::io::repeat(b'x'));
        assert!(matches!(endless.next(1000).await, Err(LineError::TooLong(1000))));
        assert!(endless.held.len() < 4096, "what is held stays bounded: {}", endless.held.len());
    }
}
