//! `genesis-agent audit`: prints the droplet's audit chain and what the hub signed of its own, for `genesisctl audit`.
//!
//! It asks the running service, or reads the journal itself where no service runs.

use std::io::{self, Write};

use genesis_shared::audit::Line;
use genesis_shared::chain::Chain;
use genesis_shared::id::PublicKey;

use crate::agent::{Agent, Fatal};
use crate::config::Settings;
use crate::daemon::{DaemonError, JOURNAL_FILE};
use crate::journal::Journal;
use crate::local::ask::{AskError, ask};
use crate::local::{Answer, Request};
use crate::real::RealWorld;

/// What `--help` adds.
pub const HELP: &str = "\
Prints one JSON value a line: the name of the chain, its entries as far as they are kept here, the hub's signed
checkpoints and one of this droplet; and on standard error the identity key that signs them.

Example:
  genesis-agent audit > droplet.jsonl
  genesisctl audit verify hub.jsonl --checkpoint droplet.jsonl --trust-root root.json";

/// Why nothing could be printed.
#[derive(Debug, thiserror::Error)]
enum AuditError {
    #[error(transparent)]
    Ask(#[from] AskError),
    #[error("{message}")]
    Agent { message: String },
    #[error("there is no journal yet: this droplet has not run")]
    NoJournal,
    #[error(transparent)]
    Alone(#[from] DaemonError),
    #[error("cannot write")]
    Write(#[from] io::Error),
}

impl AuditError {
    fn code(&self) -> &'static str {
        match self {
            Self::Ask(_) | Self::Agent { .. } => "agent_silent",
            Self::NoJournal => "no_journal",
            Self::Alone(error) => error.code(),
            Self::Write(_) => "cannot_write",
        }
    }

    fn exit(&self) -> u8 {
        match self {
            Self::Alone(error) => error.exit_code(),
            Self::Ask(_) | Self::Agent { .. } | Self::NoJournal | Self::Write(_) => 4,
        }
    }
}

/// Runs the verb and answers the process' exit code.
pub async fn run(settings: Settings) -> u8 {
    let printed = match ask(&settings.data_dir, &Request::Audit).await {
        Err(AskError::NotRunning(_)) => alone(settings),
        Err(error) => Err(error.into()),
        Ok(mut asked) => loop {
            let answer = match asked.first().await {
                Ok(answer) => answer,
                Err(error) => break Err(error.into()),
            };
            match answer {
                Answer::Line(line) => {
                    if let Err(error) = print(&line) {
                        break Err(error.into());
                    }
                }
                Answer::AuditEnd { identity_key } => break Ok(identity_key),
                Answer::Error { message, .. } => break Err(AuditError::Agent { message }),
                Answer::Accepted(_)
                | Answer::Refused(_)
                | Answer::Progress(_)
                | Answer::Ended(_)
                | Answer::Status { .. }
                | Answer::Journal(_) => {
                    break Err(AuditError::Agent { message: "the agent answered something else".into() });
                }
            }
        },
    };
    let (text, exit) = match printed {
        Ok(key) => (format!("identity key: {key}"), 0),
        Err(error) => (format!("error[{}]: {}", error.code(), Chain(&error)), error.exit()),
    };
    // Nobody listens any more: there is nowhere to say so, and the exit code still tells how it went.
    drop(writeln!(io::stderr().lock(), "{text}"));
    exit
}

fn print(line: &Line) -> io::Result<()> {
    let text = serde_json::to_string(line).expect("a line has a JSON form");
    writeln!(io::stdout().lock(), "{text}")
}

/// Reads the journal in this process: its lock keeps the service out meanwhile.
fn alone(settings: Settings) -> Result<PublicKey, AuditError> {
    let path = settings.data_dir.join(JOURNAL_FILE);
    if !path.exists() {
        return Err(AuditError::NoJournal);
    }
    let fatal = |fatal: Fatal| AuditError::Alone(fatal.into());
    let journal = Journal::open(&path).map_err(|error| fatal(error.into()))?;
    let world = RealWorld::new(&settings).map_err(DaemonError::from)?;
    let agent = Agent::new(world, settings, journal).map_err(fatal)?;
    let mut after = Some(0);
    while let Some(from) = after {
        let (lines, next) = agent.audit_lines(from).map_err(fatal)?;
        lines.iter().try_for_each(print)?;
        after = next;
    }
    Ok(agent.identity_key())
}
