//! A whole stack on a real engine: hub and agent as processes, PostgreSQL, n8n and Caddy as the agent's own containers,
//! and a caller of webhooks in front of it, as the world is.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use genesis_agent::core::stack::StackSettings;
use genesis_shared::command::CommandWire;
use genesis_shared::id::PublicKey;
use genesis_shared::secret::Secret;
use genesis_shared::stack::{ImageRef, Service};
use genesis_shared::wire::{JobState, JobView};
use genesisctl::sealing::{self, Recipient};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::engine::{Lab, Stage};
use crate::n8n::{Kind, N8n};
use crate::operator::random;
use crate::process::binary;
use crate::rig::Rig;

/// How long anything may take on a busy machine; a swap alone may wait five minutes for a quiet moment.
const PATIENCE: Duration = Duration::from_secs(480);

/// The webhook whose workflow writes each request's id into the database.
pub const LEDGER_PATH: &str = "ledger";

/// The whole scene; dropped, everything ends and nothing is left on the engine.
pub struct StackRig {
    /// Hub, agent, operator.
    pub rig: Rig,
    /// The stack on the engine; removed when dropped, after the agent that looks after it.
    pub lab: Lab,
    /// A caller from outside.
    pub caller: reqwest::Client,
}

impl StackRig {
    /// Sets the scene and waits until n8n answers through the proxy.
    pub async fn new() -> Self {
        Self::with_agent(binary("genesis-agent")).await
    }

    /// The same with a given agent.
    pub async fn with_agent(agent: PathBuf) -> Self {
        let lab = Lab::from_env();
        let settings = lab.settings().clone();
        let folder = TempDir::with_prefix("genesis-stack-").unwrap();
        let n8n = N8n::running(&format!("http://127.0.0.1:{}", settings.n8n_port), Kind::Real);
        let more = format!("answer_timeout_s = 30\n{}", toml(&settings));
        let rig = Rig::configured(n8n, folder, agent, &more).await;
        let caller = caller(&settings);
        let stack = Self { rig, lab, caller };
        stack.serves().await;
        stack
    }

    /// Address of a path as the world sees it.
    pub fn url(&self, path: &str) -> String {
        format!("https://{}:{}{path}", self.lab.settings().host, self.lab.settings().https_port)
    }

    /// Waits until n8n answers through the proxy.
    pub async fn serves(&self) {
        patiently("n8n to answer through the proxy", || async {
            let answer = self.caller.get(self.url("/rest/settings")).send().await.ok()?;
            answer.text().await.ok()?.contains("userManagement").then_some(())
        })
        .await;
    }

    /// Signs, pushes and waits, however long a swap takes; two sign what destroys.
    pub async fn run(&self, commands: Vec<CommandWire>) -> JobView {
        let job = self.start(commands).await;
        patiently("the job to end", || async {
            let view = self.rig.client.job(job).await.ok()?;
            view.state.is_final().then_some(view)
        })
        .await
    }

    /// Signs and pushes.
    pub async fn start(&self, commands: Vec<CommandWire>) -> genesis_shared::id::JobId {
        let now = crate::operator::now();
        self.rig.push(&self.rig.operator.ask(self.rig.workspace, commands, now)).await
    }

    /// Deploys the workflow behind [`LEDGER_PATH`] and one that a schedule starts on each full minute.
    pub async fn deploy_ledger(&self) {
        let key = self.rig.enrolled().await.sealing_key.unwrap();
        self.lab
            .sql(
                "n8n",
                "CREATE TABLE ledger (id text NOT NULL); CREATE TABLE tick (at timestamptz NOT NULL DEFAULT now())",
            )
            .await;
        let secrets = self.rig.agent_dir().join("secrets/postgres-password");
        let password = std::fs::read_to_string(secrets).unwrap();
        let job = self.run(ledger(self.rig.workspace, key, password.trim())).await;
        assert_eq!(job.state, JobState::Succeeded, "{job:?}");
    }

    /// Lines of the ledger, and how many different ones.
    pub async fn ledger_counts(&self) -> (u64, u64) {
        let text = self.lab.sql("n8n", "SELECT count(*), count(DISTINCT id) FROM ledger").await;
        let (all, different) = text.split_once('|').unwrap();
        (all.parse().unwrap(), different.parse().unwrap())
    }

    /// Ids of the ledger.
    pub async fn ledger_ids(&self) -> Vec<String> {
        self.lab.sql("n8n", "SELECT id FROM ledger").await.lines().map(str::to_owned).collect()
    }

    /// The other of the two images of n8n.
    pub fn swap_command(&self, service: Service, image: &ImageRef) -> Vec<CommandWire> {
        vec![command("SWAP_CONTAINER", json!({"service": service, "image": image}))]
    }
}

/// A command of a bundle.
pub fn command(action: &str, payload: Value) -> CommandWire {
    CommandWire { action: action.into(), payload: (!payload.is_null()).then_some(payload) }
}

/// Looks until there is something, with the patience that containers need.
///
/// # Panics
/// There is nothing for minutes.
pub async fn patiently<T, F: Future<Output = Option<T>>>(what: &str, mut look: impl FnMut() -> F) -> T {
    #[allow(clippy::disallowed_methods, reason = "patience is measured, not simulated")]
    let started = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(started.elapsed() < PATIENCE, "waited {} s for {what}", PATIENCE.as_secs());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// One who calls webhooks by the droplet's name, and asks no authority whether the certificate is good.
fn caller(settings: &StackSettings) -> reqwest::Client {
    genesisctl::client::install_crypto_provider();
    let address: SocketAddr = format!("127.0.0.1:{}", settings.https_port).parse().unwrap();
    reqwest::Client::builder()
        .no_proxy()
        .danger_accept_invalid_certs(true)
        .resolve(&settings.host, address)
        .timeout(Duration::from_secs(300))
        .build()
        .unwrap()
}

fn toml(settings: &StackSettings) -> String {
    let images = Service::ALL.map(|service| format!("{service} = \"{}\"\n", settings.images[&service])).concat();
    format!(
        "[stack]\nname = {:?}\nfolder = {:?}\nengine_socket = {:?}\nhost = {:?}\npublish_ip = {:?}\n\
         http_port = {}\nhttps_port = {}\nn8n_port = {}\npostgres_port = {}\nmemory_mb = 972\n\
         acme_directory = \"internal\"\n[stack.images]\n{images}",
        settings.name,
        settings.folder,
        settings.engine_socket,
        settings.host,
        settings.publish_ip,
        settings.http_port,
        settings.https_port,
        settings.n8n_port,
        settings.postgres_port,
    )
}

/// A credential for n8n's own database, the two workflows, and their activation.
fn ledger(workspace: genesis_shared::id::WorkspaceId, key: PublicKey, password: &str) -> Vec<CommandWire> {
    let data = json!({
        "host": "postgres", "database": "n8n", "user": "n8n", "password": password, "port": 5432,
        "ssl": "disable", "sshTunnel": false,
    });
    let recipient = Recipient { workspace, key };
    let (name, credential_type) = ("ledger-db".parse().unwrap(), "postgres".parse().unwrap());
    let data = Secret::new(data.to_string().into_bytes());
    let inject = sealing::credential(recipient, &name, &credential_type, &data, random()).unwrap();
    let insert = |query: &str, replacement: Option<&str>| {
        let options = replacement.map_or(json!({}), |text| json!({"queryReplacement": text}));
        json!({
            "id": "b", "name": "Insert", "type": "n8n-nodes-base.postgres", "typeVersion": 2.5, "position": [200, 0],
            "parameters": {"operation": "executeQuery", "query": query, "options": options},
            "credentials": {"postgres": {"id": "TEMPLATE_DB", "name": "TEMPLATE_DB"}},
        })
    };
    let workflow = |name: &str, trigger: Value, insert: Value| {
        let to = json!({"main": [[{"node": "Insert", "type": "main", "index": 0}]]});
        json!({"name": name, "nodes": [trigger, insert], "connections": {"Start": to}, "settings": {}})
    };
    let webhook = json!({
        "id": "a", "name": "Start", "type": "n8n-nodes-base.webhook", "typeVersion": 2, "position": [0, 0],
        "webhookId": "0e6a0b54-2f0c-4b0e-9a54-6a0f5a0d9b11",
        "parameters": {"httpMethod": "POST", "path": LEDGER_PATH, "responseMode": "lastNode", "options": {}},
    });
    let schedule = json!({
        "id": "a", "name": "Start", "type": "n8n-nodes-base.scheduleTrigger", "typeVersion": 1.2, "position": [0, 0],
        "parameters": {"rule": {"interval": [{"field": "cronExpression", "expression": "0 * * * * *"}]}},
    });
    let deploy = |key: &str, workflow: Value| {
        let map = json!({"TEMPLATE_DB": "ledger-db"});
        command("DEPLOY_WORKFLOW", json!({"key": key, "workflow_json": workflow, "credential_map": map}))
    };
    let write = insert("INSERT INTO ledger (id) VALUES ($1) RETURNING id", Some("={{ $json.body.id }}"));
    vec![
        inject,
        deploy("ledger", workflow("Ledger", webhook, write)),
        deploy("tick", workflow("Tick", schedule, insert("INSERT INTO tick DEFAULT VALUES", None))),
        command("ACTIVATE_WORKFLOW", json!({"key": "ledger"})),
        command("ACTIVATE_WORKFLOW", json!({"key": "tick"})),
    ]
}
