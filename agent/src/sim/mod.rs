//! A pretend droplet: the ports over plain memory, with faults on demand, in time that passes only while all wait.
//!
//! Run it in a tokio runtime whose time is paused: a wait for an hour then takes no time, and the order of things
//! depends on nothing but the seed.

pub mod crash;
pub mod database;
pub mod engine;
pub mod forge;
pub mod hub;
pub mod n8n;
pub mod parts;
pub mod proxy;
pub mod slots;
mod transport;

use std::cell::RefCell;
use std::rc::Rc;

pub use crash::Crash;
pub use database::SimDatabase;
pub use engine::SimEngine;
pub use hub::SimHub;
pub use parts::{SimClock, SimEntropy, SimFiles, SimHost};
pub use proxy::{ProxyFault, SimNames, SimProxy};
pub use slots::SimSlots;
pub use transport::SimTransport;

use genesis_shared::id::DropletId;

use crate::config::N8nSettings;
use crate::ports::World;
use crate::real::n8n::N8n;

/// The public address of every pretend droplet.
pub const ADDRESS: std::net::IpAddr = std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));

/// What survives a crash of the agent: the disk, n8n, the hub. Clones share it.
#[derive(Clone)]
pub struct Outside {
    /// n8n with its faults.
    pub n8n: Rc<RefCell<n8n::Standin>>,
    /// The agent's secret files.
    pub files: Rc<SimFiles>,
    /// The hub.
    pub hub: Rc<SimHub>,
    /// The proxy of its stack.
    pub proxy: Rc<SimProxy>,
    /// The domain name system.
    pub names: Rc<SimNames>,
    /// Randomness; goes on where it was, so that a restarted agent does not repeat its numbers.
    pub entropy: SimEntropy,
    /// Time.
    pub clock: SimClock,
    /// Where the present life of the agent ends.
    pub crash: Crash,
    /// The container engine, where the agent looks after a stack.
    pub engine: Option<Rc<SimEngine>>,
    /// n8n's database, likewise.
    pub database: Option<SimDatabase>,
    /// The agent's own binaries.
    pub slots: Rc<SimSlots>,
    /// Which droplet the machine says it is; clones of it share this.
    pub host_says: Rc<RefCell<Option<DropletId>>>,
}

impl Outside {
    /// A fresh droplet; everything in it follows from the seed.
    pub fn new(seed: u64) -> Self {
        let config = n8n::Config { webhook_base: "https://droplet.example/".into(), ..n8n::Config::default() };
        let (entropy, clock, crash) = (SimEntropy::new(seed), SimClock::new(), Crash::default());
        Self {
            n8n: Rc::new(RefCell::new(n8n::Standin::new(config, seed))),
            files: Rc::new(SimFiles::new(crash.clone())),
            hub: Rc::new(SimHub::new(entropy.clone(), clock.clone(), crash.clone())),
            proxy: Rc::new(SimProxy::new(crash.clone())),
            names: Rc::new(SimNames::new(ADDRESS, crash.clone())),
            slots: Rc::new(SimSlots::new(crash.clone())),
            entropy,
            clock,
            crash,
            engine: None,
            database: None,
            host_says: Rc::default(),
        }
    }

    /// The same with an engine: n8n runs once its container does.
    #[must_use]
    pub fn engined(self) -> Self {
        let engine = SimEngine::new(Rc::clone(&self.n8n), self.clock.clone(), self.crash.clone())
            .with_proxy(Rc::clone(&self.proxy));
        let database = SimDatabase::new(engine.clone());
        Self { engine: Some(Rc::new(engine)), database: Some(database), ..self }
    }
}

/// The ports of one life of an agent on such a droplet.
pub struct SimWorld {
    workflows: N8n<SimTransport, SimFiles, SimEntropy>,
    host: SimHost,
    outside: Outside,
}

impl SimWorld {
    /// A new life.
    pub fn new(outside: &Outside) -> Self {
        let settings = N8nSettings {
            url: "http://n8n.sim".into(),
            owner_email: "owner@genesis.internal".into(),
            public_url: None,
            answer_timeout_s: 60,
        };
        let transport = SimTransport::new(Rc::clone(&outside.n8n), outside.crash.clone());
        Self {
            workflows: N8n::new(transport, Rc::clone(&outside.files), outside.entropy.clone(), settings),
            host: SimHost { droplet_id: Rc::clone(&outside.host_says) },
            outside: outside.clone(),
        }
    }
}

impl World for SimWorld {
    type Workflows = N8n<SimTransport, SimFiles, SimEntropy>;
    type Host = SimHost;
    type Files = SimFiles;
    type Hub = SimHub;
    type Clock = SimClock;
    type Entropy = SimEntropy;
    type Containers = Option<Rc<SimEngine>>;
    type Proxy = SimProxy;
    type Names = SimNames;
    type Database = Option<SimDatabase>;
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
        &self.outside.hub
    }
    fn clock(&self) -> &Self::Clock {
        &self.outside.clock
    }
    fn entropy(&self) -> &Self::Entropy {
        &self.outside.entropy
    }
    fn containers(&self) -> &Self::Containers {
        &self.outside.engine
    }
    fn proxy(&self) -> &SimProxy {
        &self.outside.proxy
    }
    fn slots(&self) -> &SimSlots {
        &self.outside.slots
    }
    fn names(&self) -> &SimNames {
        &self.outside.names
    }
    fn database(&self) -> &Self::Database {
        &self.outside.database
    }
}
