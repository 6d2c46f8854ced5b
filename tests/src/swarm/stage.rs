//! A real hub's process in a folder of its own, and an operator with keys, for a swarm.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use genesis_shared::bundle::{Bundle, Targets};
use genesis_shared::command::CommandWire;
use genesis_shared::id::{KeyId, PublicKey, WorkspaceId};
use genesis_shared::secret::Secret;
use genesis_shared::trust::NamedKey;
use genesisctl::client::HubClient;
use serde::Deserialize;
use tempfile::TempDir;

use super::link::Way;
use crate::n8n::Listening;
use crate::operator::{Operator, now};
use crate::process::{Process, binary};

/// A hub's process with what can be measured of it.
pub struct HubProcess(Process);

impl HubProcess {
    /// Processor time that it has used so far.
    pub fn cpu(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0.id())).unwrap();
        // After the name, which may hold spaces: fields 14 and 15 of all, in hundredths of a second on Linux.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        Duration::from_millis(ticks * 10)
    }

    /// Resident bytes.
    pub fn resident_bytes(&self) -> u64 {
        self.0.resident_bytes().0
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.0.kill();
    }

    /// SIGTERM, and waits for its end; whether it ended in order.
    pub async fn terminate(&mut self) -> bool {
        self.0.terminate().await.success()
    }
}

/// The scene.
pub struct Stage {
    /// The hub.
    pub hub: HubProcess,
    /// Keys.
    pub operator: Operator,
    /// The operator's way to the hub.
    pub client: HubClient,
    /// The agents' way.
    pub way: Arc<Way>,
    addr: SocketAddr,
    config: String,
    folder: TempDir,
}

#[derive(Deserialize)]
struct Init {
    ca_file: PathBuf,
    delivery_public_key: PublicKey,
    delivery_kid: KeyId,
}

#[derive(Deserialize)]
struct Token {
    token: String,
}

fn one_shot<T: serde::de::DeserializeOwned>(args: &[&str]) -> T {
    let output = Command::new(binary("genesis-hub")).args(args).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

impl Stage {
    /// Makes a hub with this configuration and starts it.
    pub async fn new(config: &str) -> Self {
        let folder = TempDir::with_prefix("genesis-swarm-").unwrap();
        let data_dir = folder.path().join("hub");
        let data_dir = data_dir.to_str().unwrap();
        let init: Init = one_shot(&["init", "--data-dir", data_dir]);
        let token: Token =
            one_shot(&["token", "create", "--data-dir", data_dir, "--name", "swarm", "--scope", "admin"]);
        // One token speaks for every operator of the fleet.
        let config = format!("api_rate_per_s = 1000000\napi_burst = 1000000\n{config}");
        let (hub, addr) = serve(folder.path(), &config, "127.0.0.1:0".parse().unwrap()).await;
        let operator = Operator::new(NamedKey { kid: init.delivery_kid, public_key: init.delivery_public_key });
        let ca = std::fs::read(&init.ca_file).unwrap();
        let client = HubClient::new(&format!("https://{addr}"), Some(&ca), Secret::new(token.token)).unwrap();
        client.put_trust_root(operator.root_document.as_bytes()).await.unwrap();
        let way = Arc::new(Way::new(addr, &ca).unwrap());
        Self { hub: HubProcess(hub), operator, client, way, addr, config, folder }
    }

    /// Starts the hub again on the same address.
    pub async fn start_hub(&mut self) {
        self.hub = HubProcess(serve(self.folder.path(), &self.config, self.addr).await.0);
    }

    /// `kill -9`.
    pub fn kill_hub(&mut self) {
        self.hub.kill();
    }

    /// The hub's data folder.
    pub fn hub_dir(&self) -> PathBuf {
        self.folder.path().join("hub")
    }

    /// A signed bundle that only looks, for these tenants or, with none, for everybody.
    pub fn look(&self, workspaces: Vec<WorkspaceId>) -> String {
        self.operator.sign(&self.look_bundle(workspaces))
    }

    /// The same before it is signed.
    pub fn look_bundle(&self, workspaces: Vec<WorkspaceId>) -> Bundle {
        let looks = vec![CommandWire { action: "HEALTH_CHECK".into(), payload: None }];
        let mut bundle = self.operator.bundle_at(WorkspaceId::from_random([0; 16]), looks, now());
        bundle.targets = if workspaces.is_empty() { Targets::All(true) } else { Targets::Workspaces(workspaces) };
        bundle
    }
}

async fn serve(folder: &Path, config: &str, listen: SocketAddr) -> (Process, SocketAddr) {
    let file = folder.join("hub.toml");
    std::fs::write(&file, config).unwrap();
    let mut command = Command::new(binary("genesis-hub"));
    command.arg("serve").arg("--data-dir").arg(folder.join("hub")).arg("--config").arg(&file);
    command.args(["--listen", &listen.to_string()]);
    let mut process = Process::start("hub", &mut command, folder);
    let ready: Listening = process.first_line().await;
    (process, ready.listening.parse().unwrap())
}
