//! The other end of the local socket: asks a running agent.

use std::io;
use std::path::{Path, PathBuf};

use genesis_shared::limits::LOCAL_ANSWER_BYTES_MAX;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout;

use super::{Answer, LineError, Lines, PATIENCE, Request, SOCKET_FILE, line};

/// Why the running agent gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody listens there.
    #[error("no agent listens at {0}")]
    NotRunning(PathBuf),
    /// The socket is another user's.
    #[error("{path} may be used by the agent's own user only")]
    Forbidden {
        /// Which socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The socket cannot be used.
    #[error("cannot use {path}")]
    Socket {
        /// Which socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It does not answer in time.
    #[error("the agent has not answered within {} s", PATIENCE.as_secs())]
    Silent,
    /// It left in the middle.
    #[error("the agent stopped answering")]
    Left(#[source] LineError),
    /// Its answer cannot be read; most likely it is of another version.
    #[error("the agent's answer cannot be read")]
    Strange(#[source] serde_json::Error),
}

/// A request under way.
pub struct Asked {
    lines: Lines<OwnedReadHalf>,
    /// Held open: closing it says that nobody waits for the answer.
    _to: OwnedWriteHalf,
}

/// Sends a request to the agent of this data folder.
///
/// # Errors
/// Every [`AskError`] but [`AskError::Strange`].
pub async fn ask(data_dir: &Path, request: &Request) -> Result<Asked, AskError> {
    let path = data_dir.join(SOCKET_FILE);
    let stream = match UnixStream::connect(&path).await {
        Ok(stream) => stream,
        Err(source) => {
            let kind = source.kind();
            return Err(if matches!(kind, io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) {
                AskError::NotRunning(path)
            } else if kind == io::ErrorKind::PermissionDenied {
                AskError::Forbidden { path, source }
            } else {
                AskError::Socket { path, source }
            });
        }
    };
    let (from, mut to) = stream.into_split();
    match timeout(PATIENCE, to.write_all(&line(request))).await {
        Ok(Ok(())) => Ok(Asked { lines: Lines::new(from), _to: to }),
        // A request that is refused before all of it was read: the answer says why.
        Ok(Err(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Asked { lines: Lines::new(from), _to: to }),
        Ok(Err(error)) => Err(AskError::Left(error.into())),
        Err(_) => Err(AskError::Silent),
    }
}

impl Asked {
    /// The first line, which comes at once.
    ///
    /// # Errors
    /// Silence, the connection, or an answer that cannot be read.
    pub async fn first(&mut self) -> Result<Answer, AskError> {
        timeout(PATIENCE, self.next()).await.unwrap_or(Err(AskError::Silent))
    }

    /// The next line, however long it takes.
    ///
    /// # Errors
    /// The connection, or an answer that cannot be read.
    pub async fn next(&mut self) -> Result<Answer, AskError> {
        let line = self.lines.next(LOCAL_ANSWER_BYTES_MAX).await.map_err(AskError::Left)?;
        serde_json::from_slice(&line).map_err(AskError::Strange)
    }
}
