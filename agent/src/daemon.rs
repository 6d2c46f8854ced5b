//! Runs the agent as a process: builds it for real, and stops it on a signal.

use genesis_shared::chain::Chain;
use tokio::signal::unix::{SignalKind, signal};

use crate::agent::{Agent, Fatal};
use crate::config::Settings;
use crate::journal::Journal;
use crate::local::serve::serve;
use crate::ports::World;
use crate::real::files::make_private;
use crate::real::metadata;
use crate::real::systemd::ServiceManager;
use crate::real::{RealWorld, SetupError};

/// The journal's file within the data folder.
pub(crate) const JOURNAL_FILE: &str = "journal.db";

/// Why the process ends other than by a signal.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The ports cannot be set up.
    #[error("cannot start")]
    Setup(#[from] SetupError),
    /// The agent met something that it must not go on after.
    #[error("stopped")]
    Fatal(#[from] Fatal),
    /// Signals cannot be received.
    #[error("cannot receive signals")]
    Signals(#[source] std::io::Error),
}

impl DaemonError {
    /// Stable machine-readable name.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Setup(_) => "cannot_start",
            Self::Fatal(fatal) => fatal.code(),
            Self::Signals(_) => "no_signals",
        }
    }

    /// The process' exit code: 3 for the journal, 4 for everything else.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Fatal(Fatal::Journal(_)) => 3,
            Self::Setup(_) | Self::Fatal(Fatal::Identity(_) | Fatal::TrustRoot(_)) | Self::Signals(_) => 4,
        }
    }
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// Every [`DaemonError`]; the service manager starts the process again.
pub async fn run(settings: Settings) -> Result<(), DaemonError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(DaemonError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(DaemonError::Signals)?;
    let world = RealWorld::new(&settings)?;
    let path = settings.data_dir.join(JOURNAL_FILE);
    // SQLite would make it as the process' umask says; what it makes beside it has the same mode.
    make_private(&path).map_err(SetupError::Files)?;
    let journal = Journal::open(&path).map_err(Fatal::Journal)?;
    let (workspace, droplet) = (settings.workspace_id, settings.droplet_id.clone());
    let data_dir = settings.data_dir.clone();
    if settings.block_metadata
        && let Err(why) = metadata::block()
    {
        // The workload must run all the same; what can be read there is a spent token.
        tracing::error!(code = "metadata_open", "containers can reach the provider's metadata service: {why}");
    }
    let agent = Agent::new(world, settings, journal)?;
    tracing::info!(%workspace, %droplet, version = env!("CARGO_PKG_VERSION"), "agent runs");
    let manager = ServiceManager::from_environment();
    manager.ready();
    let ended = tokio::select! {
        ended = agent.run() => Ok(ended?),
        ended = serve(&agent, &data_dir) => Ok(ended?),
        ended = say_alive(&agent, &manager) => Ok(ended?),
        _ = terminate.recv() => { tracing::info!("SIGTERM: stopping; what is under way is resumed after the next start"); Ok(()) }
        _ = interrupt.recv() => { tracing::info!("SIGINT: stopping; what is under way is resumed after the next start"); Ok(()) }
    };
    manager.stopping();
    ended
}

/// Tells the service manager that the agent works, for as long as it does: a lane that blocked the task, or a journal that
/// does not answer, ends it.
async fn say_alive<W: World>(agent: &Agent<W>, manager: &ServiceManager) -> Result<(), Fatal> {
    let Some(interval) = manager.interval() else { return std::future::pending().await };
    loop {
        agent.is_alive()?;
        manager.alive();
        tokio::time::sleep(interval).await;
    }
}

/// The line for the log when the process ends by an error: code, causes.
pub fn last_words(error: &DaemonError) -> String {
    format!("{}: {}", error.code(), Chain(error))
}
