//! A hub, an operator and one droplet's agent as real processes, over an n8n.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use genesis_shared::id::{DropletId, JobId, WorkspaceId};
use genesis_shared::secret::Secret;
use genesis_shared::trust::NamedKey;
use genesis_shared::wire::{DropletCreate, DropletView, JobView};
use genesisctl::client::HubClient;
use serde::Deserialize;
use tempfile::TempDir;

use crate::n8n::{Kind, Listening, N8n};
use crate::operator::{Operator, random};
use crate::process::{Process, binary};
use crate::until;

/// The whole scene; dropped, everything ends and the folder is gone.
pub struct Rig {
    /// The hub's process.
    pub hub: Process,
    /// The agent's process.
    pub agent: Process,
    /// The n8n.
    pub n8n: N8n,
    /// Keys.
    pub operator: Operator,
    /// The operator's way to the hub.
    pub client: HubClient,
    /// The tenant.
    pub workspace: WorkspaceId,
    /// The droplet.
    pub droplet: DropletId,
    hub_address: SocketAddr,
    ca_file: PathBuf,
    admin_token: String,
    config: PathBuf,
    agent_binary: PathBuf,
    mounted: Option<Mounted>,
    folder: TempDir,
}

/// A file system that is unmounted when dropped, after the agent that uses it and before its folder is removed.
struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        // Lazily: a process that is only just ending may still hold it. The folder's removal would fail otherwise.
        drop(Command::new("umount").args(["-l", path(&self.0)]).status());
    }
}

#[derive(Deserialize)]
pub(crate) struct Init {
    pub(crate) ca_file: PathBuf,
    pub(crate) delivery_public_key: genesis_shared::id::PublicKey,
    pub(crate) delivery_kid: genesis_shared::id::KeyId,
}

#[derive(Deserialize)]
pub(crate) struct Token {
    pub(crate) token: String,
}

impl Rig {
    /// Sets the scene with the agent of this build and waits until the droplet has enrolled.
    pub async fn new(kind: Kind) -> Self {
        let folder = TempDir::with_prefix("genesis-test-").unwrap();
        let n8n = N8n::start(kind, folder.path()).await;
        Self::over(n8n, folder, binary("genesis-agent")).await
    }

    /// Sets the scene with the agent's data folder on a file system of its own, of this many KiB (needs root).
    pub async fn with_small_disk(kib: u32) -> Self {
        let folder = TempDir::with_prefix("genesis-test-").unwrap();
        Self::with_small_disk_and(folder, kib, binary("genesis-agent")).await
    }

    /// The same with any agent, or what stands for one.
    pub async fn with_small_disk_and(folder: TempDir, kib: u32, agent_binary: PathBuf) -> Self {
        let mounted = mount(&folder.path().join("agent"), kib);
        let n8n = N8n::start(Kind::StandIn, folder.path()).await;
        let mut rig = Self::over(n8n, folder, agent_binary).await;
        rig.mounted = Some(mounted);
        rig
    }

    /// Sets the scene over an n8n that runs already, with a given agent.
    pub async fn over(n8n: N8n, folder: TempDir, agent_binary: PathBuf) -> Self {
        Self::configured(n8n, folder, agent_binary, "answer_timeout_s = 2\n").await
    }

    /// The same with more text at the end of the agent's configuration; it begins within `[n8n]`.
    pub async fn configured(n8n: N8n, folder: TempDir, agent_binary: PathBuf, more: &str) -> Self {
        let hub_dir = folder.path().join("hub");
        let init: Init = one_shot(&["init", "--data-dir", path(&hub_dir)]);
        let scopes = ["token", "create", "--data-dir", path(&hub_dir), "--name", "test", "--scope", "admin"];
        let token: Token = one_shot(&scopes);
        let (hub, hub_address) = start_hub(folder.path(), "127.0.0.1:0".parse().unwrap()).await;

        let operator = Operator::new(NamedKey { kid: init.delivery_kid, public_key: init.delivery_public_key });
        let ca = std::fs::read(&init.ca_file).unwrap();
        let hub_url = format!("https://{hub_address}");
        let client = HubClient::new(&hub_url, Some(&ca), Secret::new(token.token.clone())).unwrap();
        client.put_trust_root(operator.root_document.as_bytes()).await.unwrap();

        let workspace = WorkspaceId::from_random(random());
        let droplet: DropletId = "412001".parse().unwrap();
        let create = DropletCreate {
            workspace_id: workspace,
            droplet_id: droplet.clone(),
            name: None,
            region: Some("fra1".into()),
            labels: [("ring".to_owned(), "canary".to_owned())].into(),
        };
        let issued = client.add_droplet(&create).await.unwrap();
        let token_file = folder.path().join("provisioning-token");
        std::fs::write(&token_file, &issued.provisioning_token).unwrap();
        let config = folder.path().join("agent.toml");
        std::fs::write(id_file(folder.path()), droplet.as_str()).unwrap();
        let text = format!(
            "hub_url = {hub_url:?}\nhub_ca_file = {:?}\nworkspace_id = \"{workspace}\"\ndroplet_id = \"{droplet}\"\n\
             data_dir = {:?}\ndroplet_id_file = {:?}\ntrust_root_digest = \"{}\"\nprovisioning_token_file = {:?}\n\
             [labels]\nring = \"canary\"\n[n8n]\nurl = {:?}\n{more}",
            init.ca_file,
            folder.path().join("agent"),
            id_file(folder.path()),
            operator.pin,
            token_file,
            n8n.url,
        );
        std::fs::write(&config, text).unwrap();
        let agent = start_agent(&agent_binary, &config, folder.path());
        let mounted = None;
        let rig = Self {
            hub,
            agent,
            n8n,
            operator,
            client,
            workspace,
            droplet,
            hub_address,
            ca_file: init.ca_file,
            admin_token: token.token,
            config,
            agent_binary,
            mounted,
            folder,
        };
        rig.enrolled().await;
        rig
    }

    /// Where the hub listens.
    pub fn hub_url(&self) -> String {
        format!("https://{}", self.hub_address)
    }

    /// The hub's own certificate authority.
    pub fn ca_file(&self) -> &Path {
        &self.ca_file
    }

    /// A token for everything.
    pub fn admin_token(&self) -> &str {
        &self.admin_token
    }

    /// The droplet, once it has enrolled.
    pub async fn enrolled(&self) -> DropletView {
        until("the droplet to enrol", || async {
            let view = self.client.droplet(&self.droplet).await.ok()?;
            view.sealing_key.is_some().then_some(view)
        })
        .await
    }

    /// Pushes a signed bundle and answers its one job.
    pub async fn push(&self, bundle: &str) -> JobId {
        let answer = self.client.push(bundle.as_bytes()).await.unwrap();
        assert_eq!(answer.job_ids.len(), 1);
        answer.job_ids[0]
    }

    /// The job, once nothing more will happen to it. Survives a hub that is away for a while.
    pub async fn finished(&self, job: JobId) -> JobView {
        until("the job to end", || async {
            let view = self.client.job(job).await.ok()?;
            view.state.is_final().then_some(view)
        })
        .await
    }

    /// Signs, pushes and waits: commands in, job out.
    pub async fn run(&self, commands: Vec<genesis_shared::command::CommandWire>) -> JobView {
        let bundle = self.operator.bundle(self.workspace, commands);
        let job = self.push(&self.operator.sign(&bundle)).await;
        self.finished(job).await
    }

    /// The commands of the Golden Template, sealed to this droplet.
    pub async fn ignition(&self) -> Vec<genesis_shared::command::CommandWire> {
        let key = self.enrolled().await.sealing_key.unwrap();
        crate::operator::ignition(self.workspace, key)
    }

    /// `genesis-agent apply` with these arguments, on this rig's configuration.
    pub fn apply_command(&self, args: &[&str]) -> Command {
        self.agent_command(&[&["apply"], args].concat())
    }

    /// The same on the second agent's configuration, see [`Rig::agent_over`].
    pub fn apply_command_over(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.agent_binary);
        command.args(["apply"]).args(args).args(["--config", path(&self.second_config())]).env_remove("RUST_LOG");
        command
    }

    /// A verb of `genesis-agent` on this rig's configuration.
    pub fn agent_command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.agent_binary);
        command.args(args).args(["--config", path(&self.config)]).env_remove("RUST_LOG");
        command
    }

    /// `genesisctl` with these arguments and the right to ask this rig's hub for everything.
    pub fn ctl_command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(binary("genesisctl"));
        command.args(args).env("GENESIS_HUB", format!("https://{}", self.hub_address));
        command.env("GENESIS_CA", &self.ca_file).env("GENESIS_TOKEN", &self.admin_token);
        command
    }

    /// The agent's own key to n8n, read from its data folder.
    pub fn n8n_key(&self) -> String {
        std::fs::read_to_string(self.agent_dir().join("secrets/n8n-api-key")).unwrap()
    }

    /// The agent's data folder.
    pub fn agent_dir(&self) -> PathBuf {
        self.folder.path().join("agent")
    }

    /// The hub's data folder.
    pub fn hub_dir(&self) -> PathBuf {
        self.folder.path().join("hub")
    }

    /// The folder that holds everything.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Starts the agent (again).
    pub fn start_agent(&mut self) {
        self.agent = start_agent(&self.agent_binary, &self.config, self.folder.path());
    }

    fn second_config(&self) -> PathBuf {
        self.folder.path().join("second.toml")
    }

    /// A second agent beside the first, of the same configuration over another data folder.
    pub fn agent_over(&self, data_dir: &Path) -> Process {
        let text = std::fs::read_to_string(&self.config).unwrap();
        let (mine, other) = (format!("{:?}", self.agent_dir()), format!("{data_dir:?}"));
        assert!(text.contains(&mine));
        let config = self.second_config();
        std::fs::write(&config, text.replace(&mine, &other)).unwrap();
        Process::start(
            "second-agent",
            Command::new(&self.agent_binary).args(["run", "--config", path(&config)]),
            self.folder.path(),
        )
    }

    /// From now on the machine says that it is this droplet.
    pub fn move_to(&self, droplet: &str) {
        std::fs::write(id_file(self.folder.path()), droplet).unwrap();
    }

    /// `kill -9` and a new start.
    pub fn crash_agent(&mut self) {
        self.agent.kill();
        self.start_agent();
    }

    /// `kill -9` of the hub and a new start on the same address.
    pub async fn crash_hub(&mut self) {
        self.hub.kill();
        self.start_hub().await;
    }

    /// Starts the hub again on the same address.
    pub async fn start_hub(&mut self) {
        self.hub = start_hub(self.folder.path(), self.hub_address).await.0;
    }
}

/// Where the machine says which droplet it is, as cloud-init does.
fn id_file(folder: &Path) -> PathBuf {
    folder.join("instance-id")
}

fn mount(disk: &Path, kib: u32) -> Mounted {
    std::fs::create_dir(disk).unwrap();
    let options = format!("size={kib}k");
    let mount = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs", path(disk)]).status().unwrap();
    assert!(mount.success(), "a small tmpfs can be mounted (as root)");
    Mounted(disk.to_owned())
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A verb of the hub that prints JSON and ends.
pub(crate) fn one_shot<T: serde::de::DeserializeOwned>(args: &[&str]) -> T {
    let output = Command::new(binary("genesis-hub")).args(args).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

async fn start_hub(folder: &Path, listen: SocketAddr) -> (Process, SocketAddr) {
    let config = folder.join("hub.toml");
    std::fs::write(&config, "heartbeat_interval_s = 1\n").unwrap();
    let mut command = Command::new(binary("genesis-hub"));
    command.args(["serve", "--data-dir", path(&folder.join("hub")), "--listen", &listen.to_string()]);
    let mut process = Process::start("hub", command.args(["--config", path(&config)]), folder);
    let ready: Listening = process.first_line().await;
    (process, ready.listening.parse().unwrap())
}

fn start_agent(agent_binary: &Path, config: &Path, folder: &Path) -> Process {
    Process::start("agent", Command::new(agent_binary).args(["run", "--config", path(config)]), folder)
}
