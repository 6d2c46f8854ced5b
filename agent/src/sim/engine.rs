//! A pretend container engine: images, containers and secrets in memory, with knobs for what goes wrong.
//!
//! n8n's container and the stand-in are one: the stand-in listens only while that container runs, says the version of
//! its image, and never comes up where the image is one that never does. What n8n holds is the content of the pretend
//! database ([`super::database`]), which is why a copy of it brings workflows back.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use genesis_shared::secret::Secret;
use genesis_shared::stack::{ImageRef, Service};
use genesis_shared::timestamp::Timestamp;

use super::Crash;
use super::SimClock;
use super::database::Databases;
use super::n8n::Phase;
use super::n8n::Standin;
use super::proxy::SimProxy;
use crate::ports::stack::{ContainerInfo, ContainerPhase, ContainerSpec, Containers, EngineInfo, ImageInfo};
use crate::ports::{Clock, EffectError, ErrorKind};

/// How long the real one waits for an answer that does not come.
const SILENCE: Duration = Duration::from_secs(60);

/// How often the engine has started a container again that ends at once, by the time that somebody looks.
const RESTARTS_OF_A_LOOP: u64 = 5;

/// What an image does when it runs.
#[derive(Clone, Debug, Default)]
pub struct SimImage {
    /// Environment that it was built with.
    pub env: BTreeMap<String, String>,
    /// MiB.
    pub size_mb: u64,
    /// The version that n8n says, for an image of n8n.
    pub n8n_version: Option<String>,
    /// The schema of the database that its n8n needs: starting it raises the database's to this.
    pub schema: u64,
    /// Whether n8n comes so far and no further.
    pub stays: Option<Phase>,
    /// Of an image of the database: whether every n8n ends at once on it.
    pub is_unfit: bool,
    /// Whether the container ends right after its start with this code, and does so each time that the engine starts
    /// it again.
    pub exits: Option<i64>,
}

/// A pretend container.
#[derive(Clone, Debug)]
pub struct SimContainer {
    /// What it was made from.
    pub spec: ContainerSpec,
    /// What it is at.
    pub phase: ContainerPhase,
    /// The engine's id; another one each time it is made.
    pub id: String,
    /// When it was started last.
    pub started_at: Option<Timestamp>,
    /// Restarts by the engine since it was made.
    pub restarts: u64,
    /// Its log, oldest first.
    pub log: Vec<(Timestamp, String)>,
}

/// A call that goes wrong once.
#[derive(Clone, Debug)]
pub struct EngineFault {
    /// Name of the port's method.
    pub call: &'static str,
    /// Calls of that name that pass unharmed first.
    pub skip: u32,
    /// What the caller hears; none for silence.
    pub error: Option<EffectError>,
    /// Whether it takes effect all the same.
    pub happens: bool,
}

/// Everything that survives the agent. The fields are the knobs.
#[derive(Default)]
pub struct Engine {
    /// Whether nobody answers at its socket; containers run on.
    pub is_down: bool,
    /// Whether there is no space for an image, a container, a copy or a dump.
    pub is_full: bool,
    /// What a pull finds.
    pub registry: BTreeMap<ImageRef, SimImage>,
    /// What is on the machine.
    pub images: BTreeMap<ImageRef, SimImage>,
    /// Containers of the stack.
    pub containers: BTreeMap<Service, SimContainer>,
    /// Whether the stack's network exists.
    pub has_network: bool,
    /// Secret files by name, with their owners.
    pub secrets: BTreeMap<String, (u32, Secret<Vec<u8>>)>,
    /// Ports of the host that others have.
    pub taken_ports: BTreeSet<u16>,
    /// Exit codes of containers that are asked to stop, where it is not 0.
    pub stop_codes: BTreeMap<Service, i64>,
    /// Calls that go wrong, each once.
    pub faults: Vec<EngineFault>,
    /// How often each method was called.
    pub calls: BTreeMap<&'static str, u64>,
    /// The database's content and copies.
    pub databases: Databases,
    /// Containers made so far.
    pub made: u64,
}

/// The engine of one life of the agent. Clones share everything.
#[derive(Clone)]
pub struct SimEngine {
    /// The state and its knobs.
    pub state: Rc<RefCell<Engine>>,
    pub(super) n8n: Rc<RefCell<Standin>>,
    pub(super) crash: Crash,
    clock: SimClock,
    proxy: Option<Rc<SimProxy>>,
}

impl SimEngine {
    /// An empty engine whose n8n will be this stand-in, which stops until its container starts.
    pub fn new(n8n: Rc<RefCell<Standin>>, clock: SimClock, crash: Crash) -> Self {
        n8n.borrow_mut().phase = Phase::Refusing;
        Self { state: Rc::default(), n8n, crash, clock, proxy: None }
    }

    /// The same whose proxy answers while its container runs.
    #[must_use]
    pub fn with_proxy(self, proxy: Rc<SimProxy>) -> Self {
        proxy.set_down(true);
        Self { proxy: Some(proxy), ..self }
    }

    /// Makes an image known to the registry, and puts it on the machine where `here`.
    pub fn offer(&self, image: &ImageRef, what: SimImage, here: bool) {
        let mut state = self.state.borrow_mut();
        if here {
            state.images.insert(image.clone(), what.clone());
        }
        state.registry.insert(image.clone(), what);
    }

    /// Adds a line to a container's log.
    pub fn say(&self, service: Service, line: &str) {
        let now = self.clock.now();
        if let Some(container) = self.state.borrow_mut().containers.get_mut(&service) {
            container.log.push((now, line.to_owned()));
        }
    }

    /// What a power cut or a crash does to a container: it ends at once.
    pub fn kill(&self, service: Service) {
        self.end(service, 137);
    }

    fn end(&self, service: Service, code: i64) {
        if let Some(container) = self.state.borrow_mut().containers.get_mut(&service) {
            container.phase = ContainerPhase::Exited(code);
        }
        match (service, &self.proxy) {
            (Service::N8n, _) => self.n8n.borrow_mut().phase = Phase::Refusing,
            (Service::Caddy, Some(proxy)) => proxy.set_down(true),
            (Service::Caddy, None) | (Service::Postgres, _) => {}
        }
    }

    /// A call that only looks: one crash point.
    pub(super) async fn look<T>(
        &self,
        call: &'static str,
        answer: impl FnOnce(&mut Engine) -> Result<T, EffectError>,
    ) -> Result<T, EffectError> {
        tokio::task::yield_now().await;
        self.crash.look().await;
        let fault = self.meet(call)?;
        match fault {
            Some(fault) => Err(self.complain(call, fault).await),
            None => answer(&mut self.state.borrow_mut()),
        }
    }

    /// A call that changes something: two crash points, "did not happen" and "nobody heard that it happened".
    pub(super) async fn change<T>(
        &self,
        call: &'static str,
        effect: impl FnOnce(&Self) -> Result<T, EffectError>,
    ) -> Result<T, EffectError> {
        tokio::task::yield_now().await;
        self.crash.point().await;
        let fault = self.meet(call)?;
        if fault.as_ref().is_some_and(|fault| !fault.happens) {
            return Err(self.complain(call, fault.unwrap_or_else(|| unreachable!("just seen"))).await);
        }
        let answer = effect(self);
        self.crash.point().await;
        match fault {
            Some(fault) => Err(self.complain(call, fault).await),
            None => answer,
        }
    }

    /// The fault that hits this call, if one does; an engine that is down hits all.
    fn meet(&self, call: &'static str) -> Result<Option<EngineFault>, EffectError> {
        let mut state = self.state.borrow_mut();
        *state.calls.entry(call).or_default() += 1;
        if state.is_down {
            let message = "the container engine cannot be reached; see that it runs";
            return Err(EffectError::new(ErrorKind::Transient, "engine_unreachable", message));
        }
        for at in 0..state.faults.len() {
            if state.faults[at].call != call {
                continue;
            }
            if state.faults[at].skip == 0 {
                return Ok(Some(state.faults.remove(at)));
            }
            state.faults[at].skip -= 1;
        }
        Ok(None)
    }

    async fn complain(&self, call: &str, fault: EngineFault) -> EffectError {
        let Some(error) = fault.error else {
            tokio::time::sleep(SILENCE).await;
            let message = format!("the container engine did not answer ({call})");
            return EffectError::new(ErrorKind::Ambiguous, "engine_silent", message);
        };
        error
    }

    /// The machine starts anew: what ran when it went down runs again, as the engine's restart policy has it.
    pub fn power_on(&self) {
        let running = |container: &SimContainer| container.phase == ContainerPhase::Running;
        let state = self.state.borrow();
        let services: Vec<_> =
            state.containers.iter().filter(|(_, container)| running(container)).map(|(service, _)| *service).collect();
        drop(state);
        for service in services {
            self.run_up(service);
        }
    }

    /// Its process begins: n8n raises the schema of its database, listens, and comes as far as its image does.
    fn run_up(&self, service: Service) {
        let mut guard = self.state.borrow_mut();
        let state = &mut *guard;
        let is_n8n = service == Service::N8n;
        let below = state.containers.get(&Service::Postgres);
        let below = below.and_then(|database| state.images.get(&database.spec.image).cloned()).unwrap_or_default();
        let Some(container) = state.containers.get_mut(&service) else { return };
        container.phase = ContainerPhase::Running;
        container.started_at = Some(self.clock.now());
        let Some(image) = state.images.get(&container.spec.image).cloned() else { return };
        if let Some(code) = image.exits.or((is_n8n && below.is_unfit).then_some(1)) {
            container.restarts = RESTARTS_OF_A_LOOP;
            if is_n8n {
                // It ends after it has changed the tables.
                state.databases.raise_schema(image.schema);
            }
            drop(guard);
            return self.end(service, code);
        }
        if let (Service::Caddy, Some(proxy)) = (service, &self.proxy) {
            proxy.restart();
        }
        if is_n8n {
            state.databases.raise_schema(image.schema);
            let mut n8n = self.n8n.borrow_mut();
            n8n.phase = image.stays.unwrap_or(Phase::Up);
            if let Some(version) = image.n8n_version {
                n8n.n8n.config.version = version;
            }
        }
    }
}

fn error(kind: ErrorKind, code: &'static str, message: impl Into<String>) -> EffectError {
    EffectError::new(kind, code, message)
}

fn missing(service: Service) -> EffectError {
    error(ErrorKind::Permanent, "container_missing", format!("there is no container {service}; it has to be created"))
}

fn full() -> EffectError {
    error(ErrorKind::Transient, "disk_full", "no space left on device; free some space")
}

fn told(reference: &ImageRef, image: &SimImage) -> ImageInfo {
    ImageInfo { id: reference.digest().to_string(), size_mb: image.size_mb, env: image.env.clone() }
}

impl Containers for SimEngine {
    async fn engine(&self) -> Result<EngineInfo, EffectError> {
        self.look("engine", |state| {
            Ok(EngineInfo {
                version: "28.1.1".into(),
                log_driver: "json-file".into(),
                limits_memory: true,
                limits_logs: true,
                free_mb: Some(if state.is_full { 0 } else { 20_000 }),
            })
        })
        .await
    }

    async fn image(&self, image: &ImageRef) -> Result<Option<ImageInfo>, EffectError> {
        self.look("image", |state| Ok(state.images.get(image).map(|found| told(image, found)))).await
    }

    async fn pull(&self, image: &ImageRef) -> Result<ImageInfo, EffectError> {
        self.change("pull", |engine| {
            let mut state = engine.state.borrow_mut();
            if let Some(there) = state.images.get(image) {
                return Ok(told(image, there));
            }
            let Some(offered) = state.registry.get(image).cloned() else {
                return Err(error(ErrorKind::Permanent, "image_not_found", format!("there is no {image}; check it")));
            };
            if state.is_full {
                return Err(full());
            }
            state.images.insert(image.clone(), offered.clone());
            Ok(told(image, &offered))
        })
        .await
    }

    async fn prune(&self, keep: &[ImageRef]) -> Result<u64, EffectError> {
        self.change("prune", |engine| {
            let mut state = engine.state.borrow_mut();
            let used: BTreeSet<_> = state.containers.values().map(|container| container.spec.image.digest()).collect();
            let kept: BTreeSet<_> = keep.iter().map(ImageRef::digest).chain(used).collect();
            let mut freed = 0;
            state.images.retain(|image, what| {
                let stays = kept.contains(&image.digest());
                freed += if stays { 0 } else { what.size_mb * 1024 * 1024 };
                stays
            });
            Ok(freed)
        })
        .await
    }

    fn place_secret(&self, name: &str, owner_uid: u32, content: &Secret<Vec<u8>>) -> Result<(), EffectError> {
        let over = || error(ErrorKind::Permanent, "folder_unusable", "this life is over");
        let is_there = self
            .state
            .borrow()
            .secrets
            .get(name)
            .is_some_and(|(owner, kept)| *owner == owner_uid && kept.expose() == content.expose());
        if is_there {
            return Ok(());
        }
        if self.crash.is_over() {
            return Err(over());
        }
        if self.state.borrow().is_full {
            return Err(full());
        }
        self.state.borrow_mut().secrets.insert(name.to_owned(), (owner_uid, content.clone()));
        if self.crash.is_over() { Err(over()) } else { Ok(()) }
    }

    async fn ensure_network(&self) -> Result<(), EffectError> {
        if self.state.borrow().has_network {
            return self.look("ensure_network", |_| Ok(())).await;
        }
        self.change("ensure_network", |engine| {
            engine.state.borrow_mut().has_network = true;
            Ok(())
        })
        .await
    }

    async fn container(&self, service: Service) -> Result<Option<ContainerInfo>, EffectError> {
        self.look("container", |state| {
            Ok(state.containers.get(&service).map(|container| ContainerInfo {
                id: container.id.clone(),
                image_id: container.spec.image.digest().to_string(),
                phase: container.phase,
                spec_digest: container.spec.digest().to_string(),
                restarts: container.restarts,
                oom_killed: false,
                pid: (container.phase == ContainerPhase::Running).then_some(4242),
                started_at: container.started_at,
            }))
        })
        .await
    }

    async fn create(&self, spec: &ContainerSpec) -> Result<(), EffectError> {
        self.change("create", |engine| {
            if !engine.state.borrow().images.contains_key(&spec.image) {
                let message = format!("the image {} is not here; pull it first", spec.image);
                return Err(error(ErrorKind::Permanent, "image_missing", message));
            }
            let secret = |source: &str| source.rsplit_once("/secrets/").map(|(_, name)| name.to_owned());
            let mut secrets = spec.mounts.iter().filter_map(|mount| secret(&mount.source));
            if let Some(name) = secrets.find(|name| !engine.state.borrow().secrets.contains_key(name)) {
                return Err(error(ErrorKind::Permanent, "mount_missing", format!("{name} has to be placed first")));
            }
            engine.end(spec.service, 0);
            let mut state = engine.state.borrow_mut();
            state.containers.remove(&spec.service);
            if state.is_full {
                return Err(full());
            }
            state.made += 1;
            let container = SimContainer {
                spec: spec.clone(),
                phase: ContainerPhase::Created,
                id: format!("container-{}", state.made),
                started_at: None,
                restarts: 0,
                log: vec![],
            };
            state.containers.insert(spec.service, container);
            Ok(())
        })
        .await
    }

    async fn start(&self, service: Service) -> Result<(), EffectError> {
        self.change("start", |engine| {
            let state = engine.state.borrow();
            let container = state.containers.get(&service).ok_or_else(|| missing(service))?;
            if container.phase == ContainerPhase::Running {
                return Ok(());
            }
            let others = state
                .containers
                .iter()
                .filter(|(other, container)| **other != service && container.phase == ContainerPhase::Running);
            let theirs = others.flat_map(|(_, container)| container.spec.ports.iter().map(|port| port.host_port));
            let taken: BTreeSet<u16> = theirs.chain(state.taken_ports.iter().copied()).collect();
            if let Some(port) = container.spec.ports.iter().find(|port| taken.contains(&port.host_port)) {
                let message = format!("port {} is already allocated; stop what listens there", port.host_port);
                return Err(error(ErrorKind::Transient, "port_taken", message));
            }
            if !state.has_network {
                return Err(error(ErrorKind::Permanent, "engine_refused", "the stack's network is not there"));
            }
            drop(state);
            engine.run_up(service);
            Ok(())
        })
        .await
    }

    async fn stop(&self, service: Service) -> Result<Option<i64>, EffectError> {
        self.change("stop", |engine| {
            let state = engine.state.borrow();
            let Some(container) = state.containers.get(&service) else { return Ok(None) };
            let code = match container.phase {
                ContainerPhase::Created => return Ok(Some(0)),
                ContainerPhase::Exited(code) => return Ok(Some(code)),
                ContainerPhase::Running | ContainerPhase::Restarting | ContainerPhase::Other => {
                    state.stop_codes.get(&service).copied().unwrap_or(0)
                }
            };
            drop(state);
            engine.end(service, code);
            Ok(Some(code))
        })
        .await
    }

    async fn remove(&self, service: Service) -> Result<(), EffectError> {
        self.change("remove", |engine| {
            engine.end(service, 0);
            engine.state.borrow_mut().containers.remove(&service);
            Ok(())
        })
        .await
    }

    async fn remove_data(&self) -> Result<(), EffectError> {
        self.change("remove_data", |engine| {
            Service::ALL.into_iter().for_each(|service| engine.end(service, 0));
            let mut state = engine.state.borrow_mut();
            state.containers.clear();
            state.secrets.clear();
            state.has_network = false;
            state.databases = Databases::default();
            drop(state);
            let mut n8n = engine.n8n.borrow_mut();
            n8n.reset();
            n8n.phase = Phase::Refusing;
            Ok(())
        })
        .await
    }

    /// Knows `echo`, `true` and `false`; what else there is to run, the pretend database does by itself.
    async fn run(&self, service: Service, argv: &[&str]) -> Result<String, EffectError> {
        self.change("run", |engine| {
            let state = engine.state.borrow();
            let container = state.containers.get(&service).ok_or_else(|| missing(service))?;
            if container.phase != ContainerPhase::Running {
                return Err(error(ErrorKind::Transient, "container_stopped", format!("{service} does not run")));
            }
            match argv {
                ["true"] => Ok(String::new()),
                ["echo", words @ ..] => Ok(format!("{}\n", words.join(" "))),
                _ => {
                    let message = format!("{} ended with code 1: ", argv.first().unwrap_or(&""));
                    Err(error(ErrorKind::Permanent, "program_failed", message))
                }
            }
        })
        .await
    }

    async fn logs(
        &self,
        service: Service,
        lines: u32,
        since: Option<Timestamp>,
        max_bytes: usize,
    ) -> Result<String, EffectError> {
        self.look("logs", |state| {
            let container = state.containers.get(&service).ok_or_else(|| missing(service))?;
            let wanted = container.log.iter().rev().take(lines as usize);
            let wanted = wanted.filter(|(at, _)| since.is_none_or(|since| *at >= since));
            let mut bytes = 0;
            let fitting = wanted.map(|(at, line)| format!("{at} {line}\n")).take_while(|line| {
                bytes += line.len();
                bytes <= max_bytes
            });
            let mut fitting: Vec<_> = fitting.collect();
            fitting.reverse();
            Ok(fitting.concat())
        })
        .await
    }
}
