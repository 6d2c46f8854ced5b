//! `genesis-agent apply FILE`: runs a signed bundle by hand, through the running agent, or alone where none runs.

mod text;

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use genesis_shared::chain::Chain;
use genesis_shared::limits::BUNDLE_BYTES_MAX;
use genesis_shared::report::{CommandResult, OutcomeState};
use serde_json::json;

use crate::agent::by_hand::{Accepted, ByHand, News, Progress, not_enrolled};
use crate::agent::{Agent, Fatal};
use crate::config::Settings;
use crate::daemon::{DaemonError, JOURNAL_FILE};
use crate::journal::{Journal, JournalError};
use crate::local::ask::{AskError, Asked, ask};
use crate::local::{Answer, Request};
use crate::ports::Clock;
use crate::real::RealWorld;
use crate::real::clock::RealClock;

/// Exit code of a bundle that was not taken.
const EXIT_REFUSED: u8 = 5;
/// Exit code of a bundle that was taken and did not succeed.
const EXIT_FAILED: u8 = 6;
/// Exit code where neither the running agent nor the journal can be had.
const EXIT_UNREACHABLE: u8 = 7;

/// A service that is starting has locked the journal and does not listen yet: how often it is tried again, and how long
/// in between. Recovery after a crash takes up to two seconds.
const TRIES: u32 = 20;
const BETWEEN_TRIES: Duration = Duration::from_millis(250);

/// What `--help` says beneath the options.
pub const HELP: &str = "\
Example: genesis-agent apply deploy.jws
         ssh root@droplet genesis-agent apply - <deploy.jws

The bundle is admitted by the same rules as one from the hub, but needs no delivery token. Where the service runs, it
runs the bundle; elsewhere this command does. The report goes to the hub as soon as it can be reached.
Ctrl-C stops waiting, not the work: the same command again goes on waiting.

Exit codes: 0 succeeded, 2 arguments, configuration or FILE, 3 journal (disk full, damaged), 4 anything else,
5 refused (nothing was changed), 6 taken, but failed, expired or stuck, 7 cannot reach the agent.";

/// Why there is no verdict and no result.
#[derive(Debug, thiserror::Error)]
enum ApplyError {
    #[error("cannot read {path}")]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Ask(#[from] AskError),
    #[error("the journal is in use, but no agent listens")]
    InUse(#[source] JournalError),
    #[error("{path} belongs to the user with id {owner}")]
    WrongUser { path: PathBuf, owner: u32 },
    #[error("{message}")]
    Agent { code: String, message: String },
    #[error(transparent)]
    Alone(#[from] DaemonError),
}

impl From<Fatal> for ApplyError {
    fn from(fatal: Fatal) -> Self {
        match fatal {
            Fatal::Journal(error @ JournalError::InUse { .. }) => Self::InUse(error),
            Fatal::Journal(_) | Fatal::Identity(_) | Fatal::TrustRoot(_) => Self::Alone(fatal.into()),
        }
    }
}

impl ApplyError {
    fn code(&self) -> &str {
        match self {
            Self::File { .. } => "no_bundle",
            Self::Ask(AskError::NotRunning(_)) => "agent_not_running",
            Self::Ask(AskError::Silent | AskError::Left(_)) => "agent_silent",
            Self::Ask(AskError::Socket { .. }) => "socket_unusable",
            Self::Ask(AskError::Forbidden { .. }) | Self::WrongUser { .. } => "wrong_user",
            Self::Ask(AskError::Strange(_)) => "agent_strange",
            Self::InUse(_) => "journal_in_use",
            Self::Agent { code, .. } => code,
            Self::Alone(error) => error.code(),
        }
    }

    fn next_step(&self) -> &'static str {
        match self {
            Self::File { .. } => "give the file that `genesisctl bundle sign` wrote, or - for standard input",
            Self::Ask(AskError::Left(_)) | Self::Agent { .. } => {
                "run the same command again: what was accepted goes on when the agent runs again"
            }
            Self::Ask(AskError::Silent | AskError::Socket { .. } | AskError::NotRunning(_)) => {
                "look at the agent: systemctl status genesis-agent, journalctl -u genesis-agent"
            }
            Self::Ask(AskError::Forbidden { .. }) | Self::WrongUser { .. } => {
                "run the command as the user that the agent runs as (with sudo -u, or as root where that is root)"
            }
            Self::Ask(AskError::Strange(_)) => "use the command of the agent that runs, or restart the service",
            Self::InUse(_) => {
                "wait for the other `genesis-agent apply`, or for the service to have started, and try again"
            }
            Self::Alone(_) => "mend what the message names, then run the same command again",
        }
    }

    fn exit(&self) -> u8 {
        match self {
            Self::File { .. } => 2,
            Self::Ask(_) | Self::InUse(_) | Self::WrongUser { .. } | Self::Agent { .. } => EXIT_UNREACHABLE,
            Self::Alone(error) => error.exit_code(),
        }
    }
}

/// Who runs the bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Runner {
    Service,
    Alone,
}

/// Where output goes: for people on the way and in the end, or for machines in the end.
struct Teller {
    json: bool,
    runner: Runner,
}

impl Teller {
    fn accepted(&self, accepted: &Accepted) {
        if !self.json {
            write(io::stdout().lock(), &text::accepted(accepted, self.runner));
        }
    }

    fn progress(&self, progress: &Progress) {
        if !self.json {
            write(io::stdout().lock(), &text::progress(progress));
        }
    }

    fn result(&self, result: &CommandResult, accepted: Option<&Accepted>) {
        let text = match self.json {
            true => serde_json::to_string(result).expect("a result has a JSON form"),
            false => text::result(result, accepted, self.runner),
        };
        write(io::stdout().lock(), &text);
    }
}

/// Runs the verb and answers the process' exit code.
pub async fn run(settings: Settings, file: &Path, json: bool) -> u8 {
    match attempt(settings, file, json).await {
        Ok(state) => exit_of(state),
        Err(error) => {
            let (code, message, next) = (error.code(), Chain(&error).to_string(), error.next_step());
            let text = match json {
                true => json!({"code": code, "message": message, "next": next}).to_string(),
                false => format!("error[{code}]: {message}\n  next: {next}"),
            };
            write(io::stderr().lock(), &text);
            error.exit()
        }
    }
}

fn exit_of(state: OutcomeState) -> u8 {
    match state {
        OutcomeState::Succeeded => 0,
        OutcomeState::Rejected => EXIT_REFUSED,
        OutcomeState::Failed | OutcomeState::Expired | OutcomeState::Stuck => EXIT_FAILED,
    }
}

async fn attempt(settings: Settings, file: &Path, json: bool) -> Result<OutcomeState, ApplyError> {
    let bytes = read(file).map_err(|source| ApplyError::File { path: file.to_owned(), source })?;
    // What is no text is no JSON either, and stays none: admission says so by its rule.
    let request = Request::Apply { bundle: String::from_utf8_lossy(&bytes).into_owned() };
    let mut tries = 0;
    loop {
        tries += 1;
        match ask(&settings.data_dir, &request).await {
            Ok(asked) => return follow(asked, &Teller { json, runner: Runner::Service }).await,
            Err(AskError::NotRunning(_)) => {}
            Err(error) => return Err(error.into()),
        }
        let teller = Teller { json, runner: Runner::Alone };
        match alone(settings.clone(), &bytes, &teller).await {
            Err(ApplyError::InUse(_)) if tries < TRIES => tokio::time::sleep(BETWEEN_TRIES).await,
            ended => return ended,
        }
    }
}

/// One byte more than a bundle may have, so that admission sees that it is too large.
fn read(file: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let limit = BUNDLE_BYTES_MAX as u64 + 1;
    match file == Path::new("-") {
        true => io::stdin().lock().take(limit).read_to_end(&mut bytes)?,
        false => File::open(file)?.take(limit).read_to_end(&mut bytes)?,
    };
    Ok(bytes)
}

/// Tells what the running agent says.
async fn follow(mut asked: Asked, teller: &Teller) -> Result<OutcomeState, ApplyError> {
    let mut accepted = None;
    let mut answer = asked.first().await?;
    loop {
        match answer {
            Answer::Accepted(new) => {
                teller.accepted(&new);
                accepted = Some(new);
            }
            Answer::Progress(progress) => teller.progress(&progress),
            Answer::Refused(result) | Answer::Ended(result) => {
                teller.result(&result, accepted.as_ref());
                return Ok(result.state);
            }
            Answer::Status { .. } | Answer::Journal(_) | Answer::Line(_) | Answer::AuditEnd { .. } => {
                let message = "the agent answered something else than was asked".to_owned();
                return Err(ApplyError::Agent { code: "agent_strange".into(), message });
            }
            Answer::Error { code, message } => return Err(ApplyError::Agent { code, message }),
        }
        answer = asked.next().await?;
    }
}

/// Runs the bundle in this process: the journal's lock keeps the service out meanwhile.
async fn alone(settings: Settings, bytes: &[u8], teller: &Teller) -> Result<OutcomeState, ApplyError> {
    let path = settings.data_dir.join(JOURNAL_FILE);
    let Ok(found) = fs::metadata(&path) else {
        // Nothing is made here: the service would find files that are not its own.
        let refusal = not_enrolled(bytes, RealClock::default().now());
        teller.result(&refusal, None);
        return Ok(refusal.state);
    };
    if me().is_some_and(|me| me != found.uid()) {
        return Err(ApplyError::WrongUser { path, owner: found.uid() });
    }
    let journal = Journal::open(&path).map_err(Fatal::Journal)?;
    let world = RealWorld::new(&settings).map_err(DaemonError::from)?;
    let agent = Agent::new(world, settings, journal)?;
    let accepted = match agent.apply(bytes)? {
        ByHand::Accepted(accepted) => accepted,
        ByHand::Refused(result) => {
            teller.result(&result, None);
            return Ok(result.state);
        }
    };
    teller.accepted(&accepted);
    let told = async {
        let mut seen = None;
        loop {
            match agent.news(&accepted, &mut seen).await? {
                News::Progress(progress) => teller.progress(&progress),
                News::Ended(result) => return Ok(result),
            }
        }
    };
    let ((), result) = tokio::try_join!(agent.run_one(&accepted), told)?;
    teller.result(&result, Some(&accepted));
    Ok(result.state)
}

/// The user that this process acts as, where the system tells.
fn me() -> Option<u32> {
    fs::metadata("/proc/self").ok().map(|own| own.uid())
}

fn write(mut to: impl Write, text: &str) {
    // Nobody listens any more: there is nowhere to say so, and the exit code still tells how it went.
    drop(writeln!(to, "{text}").and_then(|()| to.flush()));
}
