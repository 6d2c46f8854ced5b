//! Whole droplets: a hub whose configuration renders user-data, the agent's package behind HTTP, and simulated droplets of
//! the lab (`GENESIS_LAB`) that boot with it, cloud-init, Docker, firewall and all.
//!
//! A droplet's engine cannot pull here, so its images are put where it looks: into the folder that becomes its
//! `/var/lib/docker`, made once from the images of the machine's own engine.

mod machine;
mod server;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use genesis_shared::command::CommandWire;
use genesis_shared::id::{Digest, DropletId, WorkspaceId};
use genesis_shared::secret::Secret;
use genesis_shared::trust::NamedKey;
use genesis_shared::wire::{DropletCreate, DropletView, JobView, ProvisioningToken};
use genesisctl::client::HubClient;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tempfile::TempDir;

use crate::engine::{CADDY_VARIABLE, N8N_VARIABLE, POSTGRES_VARIABLE};
use crate::n8n::Listening;
use crate::operator::{Operator, ignition, random};
use crate::process::{Process, binary};
use crate::until;

pub use machine::Machine;
pub use server::Files;

/// The host as every droplet reaches it.
const HOST: &str = "198.19.0.1";

/// The scene around the droplets.
pub struct Lab {
    /// The hub's process.
    pub hub: Process,
    /// Keys.
    pub operator: Operator,
    /// The operator's way to the hub.
    pub client: HubClient,
    /// What serves the package.
    pub files: Files,
    hub_address: SocketAddr,
    admin_token: String,
    folder: TempDir,
}

#[derive(Deserialize)]
struct Init {
    ca_file: PathBuf,
    delivery_public_key: genesis_shared::id::PublicKey,
    delivery_kid: genesis_shared::id::KeyId,
}

#[derive(Deserialize)]
struct Token {
    token: String,
}

/// A droplet that was registered.
pub struct Registered {
    /// The tenant.
    pub workspace: WorkspaceId,
    /// The droplet.
    pub id: DropletId,
    /// Token and user-data.
    pub answer: ProvisioningToken,
}

impl Lab {
    /// A hub with a trust root, and the agent's package as this build makes it.
    pub async fn new() -> Self {
        // The lab's scripts give the address to the host while a droplet is up; the hub is there before the first.
        run(Command::new("ip").args(["addr", "replace", &format!("{HOST}/32"), "dev", "lo"]));
        let folder = TempDir::with_prefix("genesis-lab-").unwrap();
        let hub_dir = folder.path().join("hub");
        let data = ["--data-dir", hub_dir.to_str().unwrap()];
        let init: Init = hub(&[&["init"], &data[..], &["--host", HOST]].concat());
        let token: Token = hub(&[&["token", "create"], &data[..], &["--name", "test", "--scope", "admin"]].concat());
        let delivery = NamedKey { kid: init.delivery_kid, public_key: init.delivery_public_key };
        let operator = Operator::new(delivery);
        let package = package(folder.path());
        let files = Files::serve(HOST, [("/genesis-agent.deb".to_owned(), package.clone())].into()).await;
        let config = config(&operator, &init.ca_file, &files, Digest::of(&package));
        std::fs::write(folder.path().join("hub.toml"), config("https://198.19.0.1:0")).unwrap();
        let (mut process, address) = start_hub(folder.path(), SocketAddr::from(([198, 19, 0, 1], 0))).await;
        // Now that the port is known, once more with it.
        process.kill();
        std::fs::write(folder.path().join("hub.toml"), config(&format!("https://{address}"))).unwrap();
        let (hub, hub_address) = start_hub(folder.path(), address).await;
        let ca = std::fs::read(&init.ca_file).unwrap();
        let url = format!("https://{hub_address}");
        let client = HubClient::new(&url, Some(&ca), Secret::new(token.token.clone())).unwrap();
        client.put_trust_root(operator.root_document.as_bytes()).await.unwrap();
        Self { hub, operator, client, files, hub_address, admin_token: token.token, folder }
    }

    /// Registers a droplet; its user-data is in the answer.
    pub async fn register(&self, id: &str) -> Registered {
        let (workspace, id): (_, DropletId) = (WorkspaceId::from_random(random()), id.parse().unwrap());
        let create = DropletCreate {
            workspace_id: workspace,
            droplet_id: id.clone(),
            name: Some("Müller & Söhne \"GmbH\"; reboot #".into()),
            region: None,
            labels: [("name".to_owned(), "Müller & Söhne \"GmbH\"\n$(reboot) `reboot` #".to_owned())].into(),
        };
        let answer = self.client.add_droplet(&create).await.unwrap();
        Registered { workspace, id, answer }
    }

    /// `genesisctl` with the right to ask this hub for everything.
    pub fn ctl(&self, args: &[&str]) -> Command {
        let mut command = Command::new(binary("genesisctl"));
        command.args(args).env("GENESIS_HUB", format!("https://{}", self.hub_address));
        command.env("GENESIS_CA", self.ca_file()).env("GENESIS_TOKEN", &self.admin_token);
        command
    }

    /// The hub's configuration.
    pub fn hub_config(&self) -> PathBuf {
        self.folder.path().join("hub.toml")
    }

    /// The hub's own authority.
    pub fn ca_file(&self) -> PathBuf {
        self.folder.path().join("hub/ca.pem")
    }

    /// The droplet as the hub knows it, once `is` holds.
    pub async fn droplet(&self, id: &DropletId, what: &str, is: impl Fn(&DropletView) -> bool) -> DropletView {
        until(what, || async { self.client.droplet(id).await.ok().filter(|view| is(view)) }).await
    }

    /// The commands of the Golden Template for a droplet that has enrolled.
    pub async fn ignition(&self, workspace: WorkspaceId, id: &DropletId) -> Vec<CommandWire> {
        let view = self.droplet(id, "the droplet to enrol", |view| view.sealing_key.is_some()).await;
        ignition(workspace, view.sealing_key.unwrap())
    }

    /// Signs, pushes and waits.
    pub async fn run(&self, workspace: WorkspaceId, commands: Vec<CommandWire>) -> JobView {
        let bundle = self.operator.sign(&self.operator.bundle(workspace, commands));
        let job = self.client.push(bundle.as_bytes()).await.unwrap().job_ids[0];
        until("the job to end", || async { self.client.job(job).await.ok().filter(|view| view.state.is_final()) }).await
    }

    /// Ends the hub.
    pub fn stop_hub(&mut self) {
        self.hub.kill();
    }

    /// Starts it again on its address.
    pub async fn start_hub(&mut self) {
        self.hub = start_hub(self.folder.path(), self.hub_address).await.0;
    }
}

/// The hub's configuration, but for its own address.
fn config(operator: &Operator, ca_file: &Path, files: &Files, package: Digest) -> impl Fn(&str) -> String + use<> {
    let image = |variable: &str| std::env::var(variable).unwrap_or_else(|_| panic!("{variable} names an image"));
    let images = [("n8n", N8N_VARIABLE), ("postgres", POSTGRES_VARIABLE), ("caddy", CADDY_VARIABLE)];
    let images: String = images.iter().map(|(name, variable)| format!("{name} = {:?}\n", image(variable))).collect();
    let (pin, url) = (operator.pin, files.url("/genesis-agent.deb"));
    let ca_file = ca_file.to_owned();
    move |hub_url: &str| {
        format!(
            "heartbeat_interval_s = 1\n[first_boot]\nhub_url = {hub_url:?}\nhub_ca_file = {ca_file:?}\n\
             trust_root_digest = \"{pin}\"\npackage = {{ url = {url:?}, sha256 = \"{package}\" }}\n\
             [first_boot.stack]\nacme_directory = \"internal\"\n[first_boot.stack.images]\n{images}"
        )
    }
}

/// The agent's package from this build's binaries, without what only a debugger reads.
fn package(folder: &Path) -> Vec<u8> {
    let binaries = folder.join("bin");
    std::fs::create_dir(&binaries).unwrap();
    for name in ["genesis-agent", "genesis-launcher", "genesis-hub", "genesisctl"] {
        let given = std::env::var_os("GENESIS_BINARIES").map(|folder| PathBuf::from(folder).join(name));
        let from = given.filter(|path| path.is_file()).unwrap_or_else(|| binary(name));
        run(Command::new("strip").arg("-o").arg(binaries.join(name)).arg(from));
    }
    let (manual, out) = (folder.join("manual"), folder.join("release"));
    run(Command::new(binary("genesis-manual")).arg(&manual));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/package.sh");
    run(Command::new(script).args([&binaries, &manual, &out]).env("GENESIS_DEB_COMPRESSION", "gzip"));
    let package = std::fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().path());
    let is_agents = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().starts_with("genesis-agent_");
    std::fs::read(package.into_iter().find(is_agents).unwrap()).unwrap()
}

fn hub<T: DeserializeOwned>(args: &[&str]) -> T {
    serde_json::from_str(&run(Command::new(binary("genesis-hub")).args(args))).unwrap()
}

async fn start_hub(folder: &Path, listen: SocketAddr) -> (Process, SocketAddr) {
    let mut command = Command::new(binary("genesis-hub"));
    command.args(["serve", "--data-dir", folder.join("hub").to_str().unwrap(), "--listen", &listen.to_string()]);
    let mut process = Process::start("hub", command.arg("--config").arg(folder.join("hub.toml")), folder);
    let ready: Listening = process.first_line().await;
    (process, ready.listening.parse().unwrap())
}

/// Runs a program that must succeed; what it printed.
pub fn run(command: &mut Command) -> String {
    let ran = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let (out, err) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success(), "{command:?}: {out}{err}");
    out.into_owned()
}
