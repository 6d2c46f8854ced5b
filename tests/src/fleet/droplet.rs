//! One droplet of the fleet: everything that survives a crash of its agent, and the agent's lives one after the other.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use genesis_agent::agent::{Agent, Fatal};
use genesis_agent::config::{N8nSettings, Settings};
use genesis_agent::journal::{Journal, JournalError};
use genesis_agent::ports::no_stack::NoStack;
use genesis_agent::ports::{FileError, Host, HostSample, World};
use genesis_agent::real::n8n::N8n;
use genesis_agent::sim::{
    Outside, SimClock, SimEntropy, SimFiles, SimHost, SimNames, SimProxy, SimSlots, SimTransport,
};
use genesis_shared::id::{Digest, DropletId, WorkspaceId};
use genesis_shared::wire::Preflight;
use tokio::sync::Notify;

use super::network::{Link, Network};
use super::trace::Trace;

/// Where the pretend cloud-init left the token.
const TOKEN_FILE: &str = "/run/token";

/// How long systemd waits before it starts an agent that ended.
const RESTART: Duration = Duration::from_secs(5);

/// MiB free on a disk with space, and on one that is as good as full.
const PLENTY_MB: u64 = 20_000;
const LITTLE_MB: u64 = 3;

/// The disk with the data folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disk {
    /// There is space.
    Spacious,
    /// There is too little to take commands; writes still succeed.
    Low,
    /// No write succeeds.
    Full,
}

/// A droplet.
pub struct FleetDroplet {
    /// The provider's id.
    pub id: DropletId,
    /// The tenant.
    pub workspace: WorkspaceId,
    /// What survives a crash.
    pub outside: Outside,
    /// The way to the hub.
    pub network: Rc<Network>,
    disk: Rc<Cell<Disk>>,
    settings: Settings,
    journal: PathBuf,
    trace: Trace,
    killed: Notify,
    stopped: Cell<bool>,
    lives: Cell<u32>,
}

/// What a droplet is made of.
pub struct Parts<'a> {
    /// 0, 1, 2.
    pub index: usize,
    /// Everything outside.
    pub outside: Outside,
    /// The way to the hub.
    pub network: Rc<Network>,
    /// What it was installed with.
    pub pin: Digest,
    /// Where its data folder is made.
    pub folder: &'a Path,
    /// What happens to it.
    pub trace: Trace,
}

/// The tenant of a droplet.
pub fn workspace(index: usize) -> WorkspaceId {
    WorkspaceId::from_random([u8::try_from(index).unwrap() + 1; 16])
}

impl FleetDroplet {
    /// Installed, not started.
    pub fn new(parts: Parts<'_>) -> Self {
        let Parts { index, outside, network, pin, folder, trace } = parts;
        let id: DropletId = format!("droplet-{index}").parse().unwrap();
        let data_dir = folder.join(id.as_str());
        std::fs::create_dir_all(&data_dir).unwrap();
        let settings = Settings {
            stack: None,
            hub_url: "https://hub.sim".into(),
            hub_ca_file: None,
            workspace_id: workspace(index),
            droplet_id: id.clone(),
            droplet_id_file: None,
            droplet_ip: None,
            // For messages only; the real folder's name differs from run to run.
            data_dir: "/var/lib/genesis".into(),
            trust_root_digest: pin,
            provisioning_token_file: Some(TOKEN_FILE.into()),
            ignore_quarantine: false,
            block_metadata: false,
            forget: None,
            labels: std::collections::BTreeMap::new(),
            n8n: n8n_settings(),
        };
        Self {
            id,
            workspace: workspace(index),
            outside,
            network,
            disk: Rc::new(Cell::new(Disk::Spacious)),
            settings,
            journal: data_dir.join("journal.db"),
            trace,
            killed: Notify::new(),
            stopped: Cell::default(),
            lives: Cell::default(),
        }
    }

    /// Gives it a provisioning token.
    pub fn provision(&self, token: &str) {
        self.outside.files.put_outside(TOKEN_FILE, token.as_bytes());
    }

    /// Fills or empties the disk.
    pub fn set_disk(&self, disk: Disk) {
        self.disk.set(disk);
        self.outside.files.set_full(disk == Disk::Full);
    }

    /// Kills the agent at whatever it waits for.
    pub fn kill(&self) {
        self.killed.notify_one();
    }

    /// Ends the agent and starts it no more.
    pub fn stop(&self) {
        self.stopped.set(true);
        self.killed.notify_one();
    }

    /// Lets [`FleetDroplet::supervise`] run again.
    pub fn start_again(&self) {
        self.stopped.set(false);
    }

    /// Everything that the journal has on disk.
    pub fn journal_bytes(&self) -> Vec<u8> {
        let read = |path: PathBuf| std::fs::read(path).unwrap_or_default();
        [read(self.journal.clone()), read(self.journal.with_extension("db-wal"))].concat()
    }

    /// The journal, while no agent has it open.
    pub fn journal(&self) -> Result<Journal, JournalError> {
        Journal::open(&self.journal)
    }

    fn agent(&self) -> Result<Agent<FleetWorld>, Fatal> {
        let mut journal = Journal::open(&self.journal)?;
        let (crash, disk) = (self.outside.crash.clone(), Rc::clone(&self.disk));
        journal.set_hook(Rc::new(move || disk.get() == Disk::Full || crash.is_over()));
        Agent::new(FleetWorld::new(self), self.settings.clone(), journal)
    }

    /// Starts the agent again and again, as systemd does.
    pub async fn supervise(self: Rc<Self>) {
        while !self.stopped.get() {
            self.outside.crash.plan(None);
            let end = match self.agent() {
                Ok(agent) => {
                    self.trace.line(format_args!("{} agent starts", self.id));
                    tokio::select! {
                        biased;
                        () = self.killed.notified() => "killed".to_owned(),
                        () = self.outside.crash.happened() => "crashed".to_owned(),
                        ended = agent.run() => ended.map_or_else(|fatal| why(&fatal), |()| "ended".to_owned()),
                    }
                }
                Err(fatal) => why(&fatal),
            };
            self.trace.line(format_args!("{} agent {end}", self.id));
            tokio::time::sleep(RESTART).await;
        }
    }
}

/// The reason without the folder, which differs from run to run.
fn why(fatal: &Fatal) -> String {
    match fatal {
        Fatal::Journal(error) => error.code().to_owned(),
        Fatal::Identity(_) => "no keys".to_owned(),
        Fatal::TrustRoot(_) => "no trust root".to_owned(),
    }
}

fn n8n_settings() -> N8nSettings {
    N8nSettings {
        url: "http://n8n.sim".into(),
        owner_email: "owner@genesis.internal".into(),
        public_url: None,
        answer_timeout_s: 60,
    }
}

/// A machine whose disk may be full.
pub struct FleetHost(Rc<Cell<Disk>>, String);

impl Host for FleetHost {
    fn sample(&self) -> HostSample {
        SimHost::default().sample()
    }
    fn preflight(&self) -> Preflight {
        SimHost::default().preflight()
    }
    fn free_mb(&self) -> Option<u64> {
        Some(match self.0.get() {
            Disk::Spacious => PLENTY_MB,
            Disk::Low => LITTLE_MB,
            Disk::Full => 0,
        })
    }
    fn set_ballast(&self, _: u64) -> Result<bool, FileError> {
        Ok(false)
    }
    fn boot_epoch(&self) -> String {
        self.1.clone()
    }
}

/// The ports of one life.
pub struct FleetWorld {
    workflows: N8n<SimTransport, SimFiles, SimEntropy>,
    host: FleetHost,
    link: Link,
    outside: Outside,
}

impl FleetWorld {
    fn new(droplet: &FleetDroplet) -> Self {
        let outside = droplet.outside.clone();
        let transport = SimTransport::new(Rc::clone(&outside.n8n), outside.crash.clone());
        droplet.lives.set(droplet.lives.get() + 1);
        let boot_epoch = format!("{}.{}", droplet.id, droplet.lives.get());
        Self {
            workflows: N8n::new(transport, Rc::clone(&outside.files), outside.entropy.clone(), n8n_settings()),
            host: FleetHost(Rc::clone(&droplet.disk), boot_epoch),
            link: Link::new(&droplet.network),
            outside,
        }
    }
}

impl World for FleetWorld {
    type Workflows = N8n<SimTransport, SimFiles, SimEntropy>;
    type Host = FleetHost;
    type Files = SimFiles;
    type Hub = Link;
    type Clock = SimClock;
    type Entropy = SimEntropy;
    type Containers = NoStack;
    type Proxy = SimProxy;
    type Names = SimNames;
    type Database = NoStack;
    type Slots = SimSlots;

    fn workflows(&self) -> &Self::Workflows {
        &self.workflows
    }
    fn host(&self) -> &Self::Host {
        &self.host
    }
    fn files(&self) -> &Self::Files {
        &self.outside.files
    }
    fn hub(&self) -> &Self::Hub {
        &self.link
    }
    fn clock(&self) -> &Self::Clock {
        &self.outside.clock
    }
    fn entropy(&self) -> &Self::Entropy {
        &self.outside.entropy
    }
    fn containers(&self) -> &NoStack {
        &NoStack
    }
    fn proxy(&self) -> &SimProxy {
        &self.outside.proxy
    }
    fn names(&self) -> &SimNames {
        &self.outside.names
    }
    fn slots(&self) -> &SimSlots {
        &self.outside.slots
    }
    fn database(&self) -> &NoStack {
        &NoStack
    }
}
