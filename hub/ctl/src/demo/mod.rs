//! The demo: one tenant ignited on this machine by the real binaries, from keys to seven active workflows.
//!
//! [`binaries`] finds or builds them, [`process`] runs and stops them, [`log`] reads what they log, [`stage`] prepares
//! folder, keys, hub and agent, [`ignite`] does what an operator does, [`values`] makes up a tenant, [`timeline`] tells
//! it, [`report`] judges it.

pub mod binaries;
pub mod ignite;
pub mod log;
pub mod owner;
pub mod process;
pub mod report;
pub mod stage;
pub mod timeline;
pub mod values;

use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::files;
use process::Processes;
use report::Report;
use timeline::Timeline;

/// What the demo is asked to do.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// A real n8n; the stand-in when absent.
    pub n8n_url: Option<String>,
    /// E-mail address of the owner that the agent makes in n8n.
    pub n8n_owner_email: Option<String>,
    /// Keep the folder with its keys and logs.
    pub keep: bool,
    /// Folder to work in; a temporary one when absent.
    pub dir: Option<PathBuf>,
}

/// Runs the demo. However it ends, every process that it started has ended, and the folder is gone unless it is to be
/// kept.
///
/// # Errors
/// What went wrong, with the last lines of the log of the process that failed.
pub async fn run(options: &Options, timeline: &Timeline) -> Result<Report, Error> {
    let folder = Folder::new(options)?;
    let mut processes = Processes::default();
    let result = tokio::select! {
        result = play(options, folder.path(), &mut processes, timeline) => result,
        interrupted = interruption() => Err(interrupted),
    };
    timeline.doing("stopping agent, hub and n8n's stand-in");
    let stopped = processes.stop().await;
    if options.keep {
        timeline.say(&format!("everything is kept in {}", folder.path().display()));
    }
    let removed = folder.close();
    let report = result?;
    stopped?;
    removed?;
    Ok(report)
}

async fn play(
    options: &Options,
    folder: &Path,
    processes: &mut Processes,
    timeline: &Timeline,
) -> Result<Report, Error> {
    timeline.doing("building hub, agent and stand-in");
    let binaries = binaries::find(options.n8n_url.is_none()).await?;
    timeline.restart();
    let stage = stage::set(options, folder, &binaries, processes, timeline).await?;
    ignite::ignite(&stage, processes, timeline).await
}

/// Ends when the user or the system wants the demo to end.
#[cfg(unix)]
async fn interruption() -> Error {
    use tokio::signal::unix::{SignalKind, signal};
    let failed = |e: std::io::Error| Error::Process { what: "signals cannot be watched".into(), why: e.to_string() };
    let watched = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()].map(signal);
    let [Ok(mut interrupt), Ok(mut terminate), Ok(mut hangup)] = watched else {
        let error = watched.into_iter().find_map(Result::err).unwrap_or_else(|| std::io::Error::other("unknown"));
        return failed(error);
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
    Error::Interrupted
}

/// Ends when the user wants the demo to end.
#[cfg(not(unix))]
async fn interruption() -> Error {
    match tokio::signal::ctrl_c().await {
        Ok(()) => Error::Interrupted,
        Err(e) => Error::Process { what: "signals cannot be watched".into(), why: e.to_string() },
    }
}

/// The folder of one demo.
enum Folder {
    /// A new one that goes with its value, unless it is to be kept.
    Temporary(tempfile::TempDir),
    /// One that was named, or is to be kept.
    Named { path: PathBuf, keep: bool },
}

impl Folder {
    fn new(options: &Options) -> Result<Self, Error> {
        let failed = |path: &Path, source| Error::Write { path: path.to_owned(), source };
        let keep = options.keep;
        let Some(dir) = &options.dir else {
            let folder = tempfile::Builder::new().prefix("genesis-demo-").tempdir();
            let folder = folder.map_err(|e| failed(&std::env::temp_dir(), e))?;
            return Ok(if keep { Self::Named { path: folder.keep(), keep } } else { Self::Temporary(folder) });
        };
        files::create_folder(dir)?;
        // Whatever is in it at the end is removed, so nothing may be in it at the beginning.
        if dir.read_dir().map_err(|e| failed(dir, e))?.next().is_some() {
            let why = format!("{} is not empty; name a new folder", dir.display());
            return Err(Error::Argument { what: "--dir".into(), why });
        }
        Ok(Self::Named { path: dir.canonicalize().map_err(|e| failed(dir, e))?, keep })
    }

    fn path(&self) -> &Path {
        match self {
            Self::Temporary(folder) => folder.path(),
            Self::Named { path, .. } => path,
        }
    }

    fn close(self) -> Result<(), Error> {
        let path = self.path().to_owned();
        let removed = match self {
            Self::Temporary(folder) => folder.close(),
            Self::Named { keep: true, .. } => Ok(()),
            Self::Named { path, keep: false } => std::fs::remove_dir_all(path),
        };
        removed.map_err(|source| Error::Write { path, source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(dir: Option<&Path>, keep: bool) -> Options {
        Options { dir: dir.map(Path::to_owned), keep, ..Options::default() }
    }

    #[test]
    fn the_folder_goes_unless_it_is_to_be_kept() {
        let parent = tempfile::tempdir().unwrap();
        let named = parent.path().join("demo");
        for (dir, keep) in [(None, false), (None, true), (Some(named.as_path()), false), (Some(named.as_path()), true)]
        {
            let folder = Folder::new(&options(dir, keep)).unwrap();
            let path = folder.path().to_owned();
            std::fs::write(path.join("x"), "x").unwrap();
            folder.close().unwrap();
            assert_eq!(path.exists(), keep, "{dir:?} {keep}");
            if keep {
                std::fs::remove_dir_all(path).unwrap();
            }
        }
    }

    #[test]
    fn a_folder_with_something_in_it_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("mine"), "x").unwrap();
        assert!(matches!(Folder::new(&options(Some(folder.path()), false)), Err(Error::Argument { .. })));
        assert!(folder.path().join("mine").exists());
    }
}
