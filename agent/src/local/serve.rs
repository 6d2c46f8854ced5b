//! The agent's end of the local socket. It lives beside the lanes in the same task, and no client can hold them up:
//! connections, bytes and waiting are bounded.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use genesis_shared::limits::{LOCAL_CONNECTIONS_MAX, LOCAL_REQUEST_BYTES_MAX};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

use super::{Answer, LineError, Lines, PATIENCE, Request, SOCKET_FILE, line, metrics};
use crate::agent::by_hand::{ByHand, News};
use crate::agent::status::findings;
use crate::agent::{Agent, Fatal};
use crate::ports::World;

/// Serves until the agent meets something fatal. A socket that cannot be made is tried again: the droplet's work does
/// not depend on it.
///
/// # Errors
/// The journal failed.
pub async fn serve<W: World>(agent: &Agent<W>, data_dir: &Path) -> Result<(), Fatal> {
    loop {
        match bind(data_dir) {
            Ok(listener) => {
                // As many doors as connections: each admits one after the other.
                let doors: [(); LOCAL_CONNECTIONS_MAX] = [(); LOCAL_CONNECTIONS_MAX];
                let [a, b, c, d] = doors.map(|()| door(agent, &listener));
                return tokio::try_join!(a, b, c, d).map(drop);
            }
            Err(error) => tracing::warn!(code = "no_local_socket", "{}: {error}", data_dir.join(SOCKET_FILE).display()),
        }
        tokio::time::sleep(PATIENCE).await;
    }
}

/// Puts the socket where an older life's may still lie. It is made in the folder that only the owner may enter, so that
/// there is no moment in which others could connect.
fn bind(data_dir: &Path) -> io::Result<UnixListener> {
    let new: PathBuf = data_dir.join("secrets").join(SOCKET_FILE);
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&new)?;
    fs::set_permissions(&new, fs::Permissions::from_mode(0o600))?;
    fs::rename(&new, data_dir.join(SOCKET_FILE))?;
    Ok(listener)
}

async fn door<W: World>(agent: &Agent<W>, listener: &UnixListener) -> Result<(), Fatal> {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => match attend(agent, stream).await {
                Ok(()) => {}
                Err(Gone::Client(error)) => tracing::debug!("a local client left: {error}"),
                Err(Gone::Agent(fatal)) => return Err(fatal),
            },
            Err(error) => {
                // Too many open files, most likely: it passes.
                tracing::warn!(code = "no_local_socket", "cannot accept a local connection: {error}");
                tokio::time::sleep(PATIENCE).await;
            }
        }
    }
}

/// Why a connection ends early.
enum Gone {
    Client(LineError),
    Agent(Fatal),
}

impl From<Fatal> for Gone {
    fn from(fatal: Fatal) -> Self {
        Self::Agent(fatal)
    }
}

async fn attend<W: World>(agent: &Agent<W>, stream: UnixStream) -> Result<(), Gone> {
    let (from, mut to) = stream.into_split();
    let mut lines = Lines::new(from);
    let asked = timeout(PATIENCE, lines.next(LOCAL_REQUEST_BYTES_MAX)).await;
    if let Ok(Ok(bytes)) = &asked
        && bytes.starts_with(b"GET ")
    {
        return scrape(agent, bytes, &mut to).await;
    }
    let request = match asked {
        Ok(Ok(bytes)) => serde_json::from_slice::<Request>(&bytes).map_err(|error| error.to_string()),
        Ok(Err(error @ (LineError::Io(_) | LineError::Closed))) => return Err(Gone::Client(error)),
        Ok(Err(error @ LineError::TooLong(_))) => Err(error.to_string()),
        Err(_) => Err(format!("no whole request came within {} s", PATIENCE.as_secs())),
    };
    match request {
        Ok(Request::Apply { bundle }) => apply(agent, &bundle, &mut lines.from, &mut to).await,
        Ok(Request::Status) => {
            let status = agent.status().await?;
            let findings = findings(&status);
            say(&mut to, &Answer::Status { status: Box::new(status), findings }).await
        }
        Ok(Request::Journal { lines }) => say(&mut to, &Answer::Journal(agent.recent(lines)?)).await,
        Ok(Request::Audit) => audit(agent, &mut to).await,
        Err(message) => say(&mut to, &Answer::Error { code: "bad_request".into(), message }).await,
    }
}

/// One request of a scraper, by the first line of its HTTP.
async fn scrape<W: World>(agent: &Agent<W>, request: &[u8], to: &mut OwnedWriteHalf) -> Result<(), Gone> {
    let (status, body) = match request.starts_with(b"GET /metrics") {
        true => ("200 OK", metrics::text(&agent.status().await?)),
        false => ("404 Not Found", "there is /metrics and nothing else\n".to_owned()),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        metrics::CONTENT_TYPE,
        body.len()
    );
    match timeout(PATIENCE, to.write_all(format!("{head}{body}").as_bytes())).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(Gone::Client(error.into())),
        Err(_) => Err(Gone::Client(LineError::Closed)),
    }
}

async fn apply<W: World>(
    agent: &Agent<W>,
    bundle: &str,
    from: &mut OwnedReadHalf,
    to: &mut OwnedWriteHalf,
) -> Result<(), Gone> {
    tracing::info!("a bundle was handed over on the droplet");
    let decided = match agent.apply(bundle.as_bytes()) {
        Ok(decided) => decided,
        Err(fatal) => return Err(last_word(to, fatal).await),
    };
    let accepted = match decided {
        ByHand::Accepted(accepted) => accepted,
        ByHand::Refused(result) => return say(to, &Answer::Refused(*result)).await,
    };
    say(to, &Answer::Accepted(accepted.clone())).await?;
    let mut seen = None;
    loop {
        let news = tokio::select! {
            news = agent.news(&accepted, &mut seen) => news,
            // Nothing more is to come from there: it has left, and the bundle goes on without it.
            _ = from.read_u8() => return Err(Gone::Client(LineError::Closed)),
        };
        match news {
            Ok(News::Progress(progress)) => say(to, &Answer::Progress(progress)).await?,
            Ok(News::Ended(result)) => return say(to, &Answer::Ended(*result)).await,
            Err(fatal) => return Err(last_word(to, fatal).await),
        }
    }
}

/// A page at a time: a chain may be longer than what should be held at once.
async fn audit<W: World>(agent: &Agent<W>, to: &mut OwnedWriteHalf) -> Result<(), Gone> {
    let mut after = Some(0);
    while let Some(from) = after {
        let (lines, next) = match agent.audit_lines(from) {
            Ok(page) => page,
            Err(fatal) => return Err(last_word(to, fatal).await),
        };
        for line in lines {
            say(to, &Answer::Line(line)).await?;
        }
        after = next;
    }
    say(to, &Answer::AuditEnd { identity_key: agent.identity_key() }).await
}

/// The agent ends; whoever asked should not have to guess why.
async fn last_word(to: &mut OwnedWriteHalf, fatal: Fatal) -> Gone {
    let message = genesis_shared::chain::Chain(&fatal).to_string();
    match say(to, &Answer::Error { code: fatal.code().into(), message }).await {
        Ok(()) | Err(_) => Gone::Agent(fatal),
    }
}

async fn say(to: &mut OwnedWriteHalf, answer: &Answer) -> Result<(), Gone> {
    match timeout(PATIENCE, to.write_all(&line(answer))).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(Gone::Client(error.into())),
        Err(_) => Err(Gone::Client(LineError::Closed)),
    }
}
