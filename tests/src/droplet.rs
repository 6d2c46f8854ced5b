//! A pretend droplet with an operator: the real agent over the ports of `genesis_agent::sim`, in paused time.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use genesis_agent::agent::{Agent, Fatal};
use genesis_agent::config::{N8nSettings, Settings};
use genesis_agent::core::routes;
use genesis_agent::core::stack::{StackRow, StackSettings};
use genesis_agent::journal::{Journal, JournalError};
use genesis_agent::ports::Clock;
use genesis_agent::ports::stack::Proxy;
use genesis_agent::sim::hub::DELIVERY_KID;
use genesis_agent::sim::{ADDRESS, Outside, SimWorld};
use genesis_power::{Disk, VFS};
use genesis_shared::audit::{Entry, droplet_chain};
use genesis_shared::command::CommandWire;
use genesis_shared::id::{JobId, PublicKey, WorkspaceId};
use genesis_shared::report::CommandResult;
use genesis_shared::stack::{ImageRef, Service};
use genesis_shared::timestamp::Timestamp;
use genesis_shared::trust::NamedKey;
use tempfile::TempDir;

use crate::operator::Operator;

/// Where the pretend cloud-init left the token.
const TOKEN_FILE: &str = "/run/token";

/// Virtual time in which every simulated command must end: longer than all retries together.
const LONG: Duration = Duration::from_secs(4 * 3600);

/// The droplet and everything around it.
pub struct Droplet {
    /// What survives a crash.
    pub outside: Outside,
    /// Keys.
    pub operator: Operator,
    /// The tenant.
    pub workspace: WorkspaceId,
    settings: Settings,
    folder: TempDir,
    /// Where the journal is, if not in the folder.
    disk: Option<Disk>,
}

impl Droplet {
    /// A fresh droplet; call it within a runtime whose time is paused.
    pub fn new(seed: u64) -> Self {
        Self::under(seed, Operator::at)
    }

    /// The same under a trust root of the caller's making, from the hub's delivery key and the time.
    pub fn under(seed: u64, root: impl FnOnce(NamedKey, Timestamp) -> Operator) -> Self {
        let outside = Outside::new(seed);
        let delivery = NamedKey { kid: DELIVERY_KID.parse().unwrap(), public_key: outside.hub.delivery_key() };
        let operator = root(delivery, outside.clock.now());
        outside.hub.put_root(1, &operator.root_document);
        outside.files.put_outside(TOKEN_FILE, b"0123456789abcdef");
        let workspace = WorkspaceId::from_random([3; 16]);
        // Memory, where there is such a folder: a simulation syncs thousands of times.
        let base = std::path::Path::new("/dev/shm");
        let folder = if base.is_dir() { TempDir::new_in(base) } else { TempDir::new() }.unwrap();
        let settings = Settings {
            stack: None,
            hub_url: "https://hub.sim".into(),
            hub_ca_file: None,
            workspace_id: workspace,
            droplet_id: "412".parse().unwrap(),
            droplet_id_file: None,
            droplet_ip: None,
            data_dir: folder.path().to_owned(),
            trust_root_digest: operator.pin,
            provisioning_token_file: Some(TOKEN_FILE.into()),
            ignore_quarantine: false,
            block_metadata: false,
            forget: None,
            labels: BTreeMap::new(),
            n8n: N8nSettings {
                url: "http://n8n.sim".into(),
                owner_email: "owner@genesis.internal".into(),
                public_url: None,
                answer_timeout_s: 60,
            },
        };
        Self { outside, operator, workspace, settings, folder, disk: None }
    }

    /// The same with a stack that its agent looks after, whose proxy runs with what it should.
    pub fn with_stack(seed: u64) -> Self {
        let mut droplet = Self::new(seed);
        let settings = stack_settings();
        let config = routes::config(&settings, &StackRow::default());
        droplet.outside.proxy.edit(config.clone());
        droplet.outside.proxy.keep_config(&config).unwrap();
        droplet.settings.stack = Some(settings);
        droplet
    }

    /// The same with a container engine that has both versions of every image here; its agent makes the containers.
    pub fn with_engine(seed: u64) -> Self {
        let mut droplet = Self::new(seed);
        droplet.outside = droplet.outside.engined();
        droplet.settings.stack = Some(StackSettings {
            images: Service::ALL.map(|service| (service, image(service, 1))).into(),
            ..stack_settings()
        });
        droplet
    }

    /// What the journal knows of the stack between two lives.
    pub fn stack_row(&self) -> StackRow {
        self.journal().unwrap().stack().unwrap()
    }

    /// How the agent is to look after its stack.
    pub fn stack_settings(&self) -> &StackSettings {
        self.settings.stack.as_ref().expect("a droplet with a stack")
    }

    /// The name by which a droplet with a stack is always reached.
    pub fn host(&self) -> &str {
        self.settings.stack.as_ref().map_or("", |stack| &stack.host)
    }

    /// The same with its journal on this disk.
    #[must_use]
    pub fn over(self, disk: &Disk) -> Self {
        Self { disk: Some(disk.clone()), ..self }
    }

    /// A new life of the agent on the same disk.
    pub fn agent(&self) -> Agent<SimWorld> {
        self.try_agent().unwrap()
    }

    /// The same on a disk that may be full.
    ///
    /// # Errors
    /// Every [`Fatal`].
    pub fn try_agent(&self) -> Result<Agent<SimWorld>, Fatal> {
        let mut journal = self.journal()?;
        let crash = self.outside.crash.clone();
        journal.set_hook(Rc::new(move || crash.is_over()));
        Agent::new(SimWorld::new(&self.outside), self.settings.clone(), journal)
    }

    fn journal(&self) -> Result<Journal, JournalError> {
        match &self.disk {
            Some(disk) => Journal::open_over(&disk.path("journal.db"), Some(VFS)),
            None => Journal::open(&self.folder.path().join("journal.db")),
        }
    }

    /// The droplet's configuration says that the hub's word on a quarantine is not to be heeded.
    pub fn ignore_quarantine(&mut self) {
        self.settings.ignore_quarantine = true;
    }

    /// Loses the journal, as a bad disk would; n8n, the keys and the hub stay. The hub needs a new handshake then.
    pub fn lose_journal(&self) {
        self.lose_journal_for_good();
        self.new_token();
    }

    /// The same, and nobody has issued a new provisioning token yet.
    pub fn lose_journal_for_good(&self) {
        for file in ["journal.db", "journal.db-wal"] {
            // The log is gone after a clean close; that is as good.
            drop(std::fs::remove_file(self.folder.path().join(file)));
        }
    }

    /// Puts a fresh provisioning token where the agent looks for one.
    pub fn new_token(&self) {
        self.outside.files.put_outside(TOKEN_FILE, b"fedcba9876543210");
    }

    /// Changes the journal between two lives, as a bad disk would.
    pub fn execute(&self, sql: &str) {
        let changed = self.database().execute(sql, []).unwrap();
        assert!(changed > 0, "nothing to change: {sql}");
    }

    /// A number out of the journal between two lives.
    pub fn query(&self, sql: &str) -> i64 {
        self.database().query_row(sql, [], |row| row.get(0)).unwrap()
    }

    fn database(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.folder.path().join("journal.db")).unwrap()
    }

    /// The audit chain's name.
    pub fn chain(&self) -> String {
        droplet_chain(self.workspace, &self.settings.droplet_id)
    }

    /// The audit chain as the journal holds it between two lives.
    pub fn audit(&self) -> Vec<Entry> {
        let journal = self.journal().unwrap();
        journal.audit_entries(0, usize::MAX).unwrap().into_iter().map(|(_, entry)| entry).collect()
    }

    /// Everything that the journal has on disk.
    pub fn journal_bytes(&self) -> Vec<u8> {
        let read = |file| std::fs::read(self.folder.path().join(file)).unwrap_or_default();
        [read("journal.db"), read("journal.db-wal")].concat()
    }

    /// Runs an agent while `scene` plays.
    ///
    /// # Panics
    /// The agent met something fatal, or the scene did not end within a long (virtual) time.
    pub async fn while_running<T>(&self, scene: impl Future<Output = T>) -> T {
        let agent = self.agent();
        tokio::select! {
            ended = agent.run() => panic!("the agent ended: {ended:?}"),
            played = tokio::time::timeout(LONG, scene) => played.expect("the scene has not ended"),
        }
    }

    /// One life of the agent while `scene` plays; `None` if the agent met something fatal first, as in a planned crash,
    /// or if the scene did not end within a long (virtual) time.
    pub async fn one_life<T>(&self, scene: impl Future<Output = T>) -> Option<T> {
        let agent = self.try_agent().ok()?;
        tokio::select! {
            biased;
            played = tokio::time::timeout(LONG, scene) => played.ok(),
            _ = agent.run() => None,
        }
    }

    /// Runs an agent until it meets something fatal.
    pub async fn until_fatal(&self) -> Fatal {
        tokio::time::timeout(LONG, self.agent().run()).await.expect("the agent goes on").unwrap_err()
    }

    /// The droplet's public sealing key; enrols first if need be.
    pub async fn sealing_key(&self) -> PublicKey {
        let enrolled = || async { self.outside.hub.enrolled() };
        match self.outside.hub.enrolled() {
            Some(request) => request.sealing_key,
            None => self.while_running(wait_for(enrolled)).await.sealing_key,
        }
    }

    /// Signs and queues commands.
    pub fn push(&self, commands: Vec<CommandWire>) -> JobId {
        self.outside.hub.push(&self.signed(commands))
    }

    /// Signs commands: the text of a bundle.
    pub fn signed(&self, commands: Vec<CommandWire>) -> String {
        self.operator.ask(self.workspace, commands, self.outside.clock.now())
    }

    /// Waits for the result of a job; there must be exactly one.
    pub async fn result(&self, job: JobId) -> CommandResult {
        let result = wait_for(|| async { self.outside.hub.results(job).into_iter().next() }).await;
        assert_eq!(self.outside.hub.results(job).len(), 1, "a job has one result");
        result
    }

    /// Commands in, result out, with an agent that lives just for this.
    pub async fn run(&self, commands: Vec<CommandWire>) -> CommandResult {
        self.while_running(async { self.result(self.push(commands)).await }).await
    }

    /// The commands of the Golden Template.
    pub async fn ignition(&self) -> Vec<CommandWire> {
        crate::operator::ignition(self.workspace, self.sealing_key().await)
    }

    /// Names of the credentials and of the active workflows in n8n, sorted, doubles kept.
    pub fn held(&self) -> (Vec<String>, Vec<String>) {
        let standin = self.outside.n8n.borrow();
        let mut credentials: Vec<String> = standin.n8n.credentials.iter().map(|c| c.name.clone()).collect();
        let active = standin.n8n.workflows.iter().filter(|w| w.active_version_id.is_some());
        let mut workflows: Vec<String> = active.map(|w| w.name.clone()).collect();
        credentials.sort();
        workflows.sort();
        (credentials, workflows)
    }

    /// Everything in n8n that this droplet could have left behind.
    pub fn is_empty(&self) -> bool {
        let standin = self.outside.n8n.borrow();
        standin.n8n.credentials.is_empty() && standin.n8n.workflows.is_empty()
    }
}

/// An image of a service; versions differ in their digest alone.
pub fn image(service: Service, version: u8) -> ImageRef {
    format!("{service}:{version}@sha256:{}", format!("{version:02x}").repeat(32)).parse().unwrap()
}

/// A stack of the pretend droplet.
pub fn stack_settings() -> StackSettings {
    StackSettings {
        name: "genesis".into(),
        folder: "/sim/stack".into(),
        engine_socket: "/sim/engine.sock".into(),
        images: BTreeMap::new(),
        host: "droplet.example".into(),
        public_ip: Some(ADDRESS),
        publish_ip: "0.0.0.0".into(),
        http_port: 80,
        https_port: 443,
        n8n_port: 5678,
        postgres_port: 5432,
        memory_mb: None,
        acme_directory: Some("internal".into()),
        acme_ca_file: None,
        timezone: "UTC".into(),
    }
}

/// Waits in virtual time until `look` finds something.
///
/// # Panics
/// Nothing was found in a longer time than any scene may take.
pub async fn wait_for<T, F: Future<Output = Option<T>>>(mut look: impl FnMut() -> F) -> T {
    let look = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let found = tokio::time::timeout(2 * LONG, look).await;
    found.unwrap_or_else(|_| panic!("what is waited for has not come in {} virtual hours", 2 * LONG.as_secs() / 3600))
}
