//! The pretend database behind the pretend n8n: its content is what the stand-in holds, and copies are copies of that.

use std::collections::BTreeMap;

use genesis_shared::id::Digest;
use genesis_shared::stack::Service;
use genesis_shared::timestamp::Timestamp;

use super::engine::{Engine, SimEngine};
use super::n8n::N8n;
use crate::ports::stack::{ContainerPhase, Database};
use crate::ports::{EffectError, ErrorKind};

/// One database, without what n8n holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content {
    /// Which version of n8n's tables it has; an n8n that starts raises it.
    pub schema: u64,
    /// Whatever a test writes into it.
    pub notes: Vec<String>,
    /// Executions that run.
    pub running: u64,
}

/// The content of all of it at one moment.
#[derive(Clone)]
pub struct Copy {
    /// The database.
    pub content: Content,
    n8n: N8n,
}

/// The database, its copy, its dumps.
#[derive(Default)]
pub struct Databases {
    /// n8n's.
    pub content: Content,
    /// The copy beside it.
    pub before: Option<Copy>,
    /// Dumps by file.
    pub dumps: BTreeMap<String, Copy>,
    /// Dumps that cannot be read to their end.
    pub broken_dumps: Vec<String>,
}

impl Databases {
    pub(super) fn raise_schema(&mut self, schema: u64) {
        self.content.schema = self.content.schema.max(schema);
    }
}

/// The database of a pretend engine.
#[derive(Clone)]
pub struct SimDatabase(SimEngine);

impl SimDatabase {
    /// Of this engine.
    pub fn new(engine: SimEngine) -> Self {
        Self(engine)
    }

    fn copy(engine: &SimEngine) -> Copy {
        let content = engine.state.borrow().databases.content.clone();
        Copy { content, n8n: engine.n8n.borrow().n8n.clone() }
    }

    /// Ids and version go on as they are: they are no part of the database.
    fn put_back(engine: &SimEngine, copy: Copy) {
        engine.state.borrow_mut().databases.content = copy.content;
        let mut standin = engine.n8n.borrow_mut();
        let (config, seed) = (standin.n8n.config.clone(), standin.n8n.seed.clone());
        standin.n8n = N8n { config, seed, ..copy.n8n };
    }
}

fn refused(message: &str) -> EffectError {
    EffectError::new(ErrorKind::Permanent, "database_refused", message)
}

fn phase(engine: &Engine, service: Service) -> Option<ContainerPhase> {
    engine.containers.get(&service).map(|container| container.phase)
}

fn reachable(engine: &Engine) -> Result<(), EffectError> {
    if phase(engine, Service::Postgres) == Some(ContainerPhase::Running) {
        return Ok(());
    }
    let message = "the database's container does not run; start it first";
    Err(EffectError::new(ErrorKind::Transient, "database_unreachable", message))
}

/// Nobody may be connected, and there has to be space.
fn copyable(engine: &Engine, needs_quiet: bool) -> Result<(), EffectError> {
    reachable(engine)?;
    if needs_quiet && phase(engine, Service::N8n) == Some(ContainerPhase::Running) {
        let message = "the database is being accessed by other users; stop n8n first";
        return Err(EffectError::new(ErrorKind::Transient, "database_in_use", message));
    }
    if engine.is_full {
        let message = "no space left on device; free some space";
        return Err(EffectError::new(ErrorKind::Transient, "disk_full", message));
    }
    Ok(())
}

impl Database for SimDatabase {
    async fn is_ready(&self) -> bool {
        self.0.look("is_ready", |state| reachable(state)).await.is_ok()
    }

    async fn running_executions(&self) -> Result<u64, EffectError> {
        self.0.look("running_executions", |state| reachable(state).map(|()| state.databases.content.running)).await
    }

    async fn snapshot(&self) -> Result<(), EffectError> {
        self.0
            .change("snapshot", |engine| {
                copyable(&engine.state.borrow(), true)?;
                let copy = Self::copy(engine);
                engine.state.borrow_mut().databases.before = Some(copy);
                Ok(())
            })
            .await
    }

    async fn restore_snapshot(&self) -> Result<bool, EffectError> {
        self.0
            .change("restore_snapshot", |engine| {
                reachable(&engine.state.borrow())?;
                let copy = engine.state.borrow_mut().databases.before.take();
                let was_there = copy.is_some();
                if let Some(copy) = copy {
                    Self::put_back(engine, copy);
                }
                Ok(was_there)
            })
            .await
    }

    async fn drop_snapshot(&self) -> Result<(), EffectError> {
        self.0
            .change("drop_snapshot", |engine| {
                reachable(&engine.state.borrow())?;
                engine.state.borrow_mut().databases.before = None;
                Ok(())
            })
            .await
    }

    async fn dump(&self, file: &str) -> Result<(u64, String), EffectError> {
        self.0
            .change("dump", |engine| {
                copyable(&engine.state.borrow(), false)?;
                let copy = Self::copy(engine);
                let text = format!("{:?}", copy.content);
                engine.state.borrow_mut().databases.dumps.insert(file.to_owned(), copy);
                Ok((text.len() as u64, Digest::of(text.as_bytes()).to_string()))
            })
            .await
    }

    async fn restore_dump(&self, file: &str) -> Result<(), EffectError> {
        self.0
            .change("restore_dump", |engine| {
                let state = engine.state.borrow();
                copyable(&state, false)?;
                let Some(copy) = state.databases.dumps.get(file).cloned() else {
                    let message = format!("there is no backup {file}");
                    return Err(EffectError::new(ErrorKind::Permanent, "dump_missing", message));
                };
                if state.databases.broken_dumps.iter().any(|broken| broken == file) {
                    return Err(refused("the dump breaks off; nothing was changed"));
                }
                drop(state);
                Self::put_back(engine, copy);
                Ok(())
            })
            .await
    }

    async fn last_execution_at(&self) -> Result<Option<Timestamp>, EffectError> {
        Ok(None)
    }

    async fn prune_executions(&self) -> Result<u64, EffectError> {
        Ok(0)
    }

    async fn size_mb(&self) -> Result<u64, EffectError> {
        self.0.look("size_mb", |state| reachable(state).map(|()| 12)).await
    }
}
