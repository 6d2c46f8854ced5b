//! The ports for real: one file or folder per outside system.

pub mod caddy;
pub mod clock;
pub mod database;
pub mod docker;
pub mod files;
pub mod host;
pub mod hub;
pub mod metadata;
pub mod n8n;
pub mod names;
pub mod slots;
pub mod systemd;

use std::rc::Rc;
use std::time::Duration;

use crate::config::Settings;
use crate::ports::World;

/// A droplet.
pub struct RealWorld {
    workflows: n8n::N8n<n8n::HttpTransport, files::RealFiles, clock::RealEntropy>,
    host: host::RealHost,
    files: Rc<files::RealFiles>,
    hub: hub::RealHub,
    clock: clock::RealClock,
    entropy: clock::RealEntropy,
    proxy: Option<caddy::Caddy>,
    containers: Option<Rc<docker::Docker>>,
    database: Option<database::Postgres<docker::Docker>>,
    slots: slots::RealSlots,
}

/// Why the ports cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The data folder cannot be made or used.
    #[error("cannot use the data folder")]
    Files(#[from] crate::ports::FileError),
    /// The HTTP client cannot be made; usually the hub's CA file.
    #[error("cannot set up the connection to the hub")]
    Hub(#[from] hub::HubSetupError),
    /// The HTTP client for the proxy cannot be made.
    #[error("cannot set up the connection to the proxy")]
    Proxy(#[source] reqwest::Error),
    /// The HTTP client for updates cannot be made.
    #[error("cannot set up the client for updates")]
    Slots(#[source] reqwest::Error),
    /// The HTTP client for n8n cannot be made.
    #[error("cannot set up the connection to n8n")]
    N8n(#[source] reqwest::Error),
}

/// Makes ring the process' one crypto provider. Calling it again does nothing.
pub fn install_crypto() {
    // An error only says that a provider is installed already, and there is no other one in this binary.
    drop(rustls::crypto::ring::default_provider().install_default());
}

impl RealWorld {
    /// Sets the ports up; nothing is connected yet.
    ///
    /// # Errors
    /// Every [`SetupError`].
    pub fn new(settings: &Settings) -> Result<Self, SetupError> {
        install_crypto();
        let files = Rc::new(files::RealFiles::new(&settings.data_dir)?);
        let timeout = Duration::from_secs(settings.n8n.answer_timeout_s);
        let transport = n8n::HttpTransport::new(&settings.n8n.url, timeout).map_err(SetupError::N8n)?;
        let containers = settings.stack.as_ref().map(|stack| Rc::new(docker::Docker::new(stack)));
        let database = settings.stack.as_ref().zip(containers.clone());
        Ok(Self {
            containers,
            database: database.map(|(stack, containers)| database::Postgres::new(containers, stack)),
            workflows: n8n::N8n::new(transport, Rc::clone(&files), clock::RealEntropy, settings.n8n.clone()),
            host: host::RealHost::new(&settings.data_dir, settings.droplet_id_file.as_deref()),
            files,
            hub: hub::RealHub::new(&settings.hub_url, settings.hub_ca_file.as_deref())?,
            clock: clock::RealClock::default(),
            slots: slots::RealSlots::new(&settings.data_dir).map_err(SetupError::Slots)?,
            entropy: clock::RealEntropy,
            proxy: settings.stack.as_ref().map(caddy::Caddy::new).transpose().map_err(SetupError::Proxy)?,
        })
    }
}

impl World for RealWorld {
    type Workflows = n8n::N8n<n8n::HttpTransport, files::RealFiles, clock::RealEntropy>;
    type Host = host::RealHost;
    type Files = files::RealFiles;
    type Hub = hub::RealHub;
    type Clock = clock::RealClock;
    type Entropy = clock::RealEntropy;
    type Containers = Option<Rc<docker::Docker>>;
    type Proxy = Option<caddy::Caddy>;
    type Names = names::RealNames;
    type Database = Option<database::Postgres<docker::Docker>>;
    type Slots = slots::RealSlots;

    fn workflows(&self) -> &Self::Workflows {
        &self.workflows
    }
    fn host(&self) -> &Self::Host {
        &self.host
    }
    fn files(&self) -> &Self::Files {
        &self.files
    }
    fn hub(&self) -> &Self::Hub {
        &self.hub
    }
    fn clock(&self) -> &Self::Clock {
        &self.clock
    }
    fn entropy(&self) -> &Self::Entropy {
        &self.entropy
    }
    fn containers(&self) -> &Self::Containers {
        &self.containers
    }
    fn proxy(&self) -> &Self::Proxy {
        &self.proxy
    }
    fn names(&self) -> &names::RealNames {
        &names::RealNames
    }
    fn slots(&self) -> &slots::RealSlots {
        &self.slots
    }
    fn database(&self) -> &Self::Database {
        &self.database
    }
}
