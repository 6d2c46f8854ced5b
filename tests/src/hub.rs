//! A hub as a real process without any agent: for what is asked of the hub itself.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use data_encoding::BASE64URL_NOPAD;
use genesis_shared::id::{DropletId, PublicKey, WorkspaceId};
use genesis_shared::secret::Secret;
use genesis_shared::trust::NamedKey;
use genesis_shared::wire::{DropletCreate, HandshakeAnswer, HandshakeRequest, Preflight, handshake_proof};
use genesisctl::client::HubClient;
use ring::signature::{Ed25519KeyPair, KeyPair};
use tempfile::TempDir;

use crate::operator::{Operator, random};
use crate::process::{Process, binary};
use crate::rig::{Init, Token, one_shot};

/// The hub and its folder; dropped, both are gone.
pub struct BareHub {
    /// The process.
    pub process: Process,
    /// Where it listens.
    pub address: SocketAddr,
    /// A token for everything.
    pub admin: String,
    /// Keys, and the trust root that the hub has.
    pub operator: Operator,
    /// The same as `admin` in a client.
    pub client: HubClient,
    ca: Vec<u8>,
    environment: Vec<(String, String)>,
    folder: TempDir,
}

/// An enrolled droplet without a machine.
pub struct PaperDroplet {
    /// Its id.
    pub id: DropletId,
    /// Its tenant.
    pub workspace: WorkspaceId,
    /// Its token.
    pub token: String,
}

impl BareHub {
    /// Starts one with this configuration file.
    pub async fn start(config: &str) -> Self {
        Self::start_with(config, &[]).await
    }

    /// The same with variables in its environment.
    pub async fn start_with(config: &str, environment: &[(&str, &str)]) -> Self {
        let folder = TempDir::with_prefix("genesis-test-").unwrap();
        let data_dir = folder.path().join("hub");
        let init: Init = one_shot(&["init", "--data-dir", path(&data_dir)]);
        let scopes = ["token", "create", "--data-dir", path(&data_dir), "--name", "test", "--scope", "admin"];
        let admin = one_shot::<Token>(&scopes).token;
        std::fs::write(folder.path().join("hub.toml"), config).unwrap();
        let environment: Vec<_> = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let (process, address) = serve(folder.path(), "127.0.0.1:0".parse().unwrap(), &environment).await;
        let ca = std::fs::read(&init.ca_file).unwrap();
        let client = HubClient::new(&format!("https://{address}"), Some(&ca), Secret::new(admin.clone())).unwrap();
        let operator = Operator::new(NamedKey { kid: init.delivery_kid, public_key: init.delivery_public_key });
        client.put_trust_root(operator.root_document.as_bytes()).await.unwrap();
        Self { process, address, admin, operator, client, ca, environment, folder }
    }

    /// Starts it again, after its end, on the same address.
    pub async fn restart(&mut self) {
        (self.process, self.address) = serve(self.folder.path(), self.address, &self.environment).await;
    }

    /// Its address as a URL with this path.
    pub fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.address)
    }

    /// A client that trusts its certificate.
    pub fn http(&self) -> reqwest::Client {
        self.http_from(None)
    }

    /// The same from this address of the machine.
    pub fn http_from(&self, address: Option<std::net::IpAddr>) -> reqwest::Client {
        genesisctl::client::install_crypto_provider();
        let ca = reqwest::Certificate::from_pem_bundle(&self.ca).unwrap();
        reqwest::Client::builder().tls_certs_only(ca).local_address(address).build().unwrap()
    }

    /// Asks as the administrator; the answer's text, which must be a success.
    pub async fn text(&self, path: &str) -> String {
        let answer = self.http().get(self.url(path)).bearer_auth(&self.admin).send().await.unwrap();
        assert!(answer.status().is_success(), "{path}: {}", answer.status());
        answer.text().await.unwrap()
    }

    /// Registers and enrols a droplet.
    pub async fn enrol(&self, id: &str) -> PaperDroplet {
        let (workspace, id) = (WorkspaceId::from_random(random()), id.parse::<DropletId>().unwrap());
        let create = DropletCreate {
            workspace_id: workspace,
            droplet_id: id.clone(),
            name: None,
            region: Some("fra1".into()),
            labels: [].into(),
        };
        let issued = self.client.add_droplet(&create).await.unwrap();
        let request = handshake(workspace, &id, issued.provisioning_token);
        let body = serde_json::to_vec(&request).unwrap();
        let ask = self.http().post(self.url("/api/v1/sidecar/handshake")).header("content-type", "application/json");
        let answer = ask.body(body).send().await.unwrap().bytes().await.unwrap();
        let answer: HandshakeAnswer = serde_json::from_slice(&answer).unwrap();
        PaperDroplet { id, workspace, token: answer.sidecar_token }
    }

    /// The folder that holds everything; the hub's own is `hub` in it.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Its certificate authority.
    pub fn ca_file(&self) -> PathBuf {
        self.folder.path().join("hub/ca.pem")
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let id = rustix::process::Pid::from_raw(i32::try_from(self.process.id()).unwrap()).unwrap();
        rustix::process::kill_process(id, signal).unwrap();
    }
}

/// A handshake by a fresh identity.
pub fn handshake(workspace: WorkspaceId, droplet: &DropletId, provisioning_token: String) -> HandshakeRequest {
    let pkcs8 = Ed25519KeyPair::generate_pkcs8(&ring::rand::SystemRandom::new()).unwrap();
    let identity = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap();
    let public = |bytes: &[u8]| PublicKey::from_bytes(bytes.try_into().unwrap());
    let mut request = HandshakeRequest {
        provisioning_token,
        workspace_id: workspace,
        droplet_id: droplet.clone(),
        droplet_ip: None,
        webhook_url: None,
        agent_version: "0.1.0".into(),
        n8n_version: None,
        identity_key: public(identity.public_key().as_ref()),
        sealing_key: public(&random::<32>()),
        boot_epoch: "b1".into(),
        journal_high_water: 0,
        outbox_next: 1,
        preflight: Preflight::default(),
        proof: String::new(),
    };
    request.proof = BASE64URL_NOPAD.encode(identity.sign(&handshake_proof(&request)).as_ref());
    request
}

async fn serve(folder: &Path, listen: SocketAddr, environment: &[(String, String)]) -> (Process, SocketAddr) {
    let mut command = Command::new(binary("genesis-hub"));
    command.envs(environment.iter().map(|(name, value)| (name, value)));
    command.args(["serve", "--data-dir", path(&folder.join("hub")), "--listen", &listen.to_string()]);
    command.args(["--log-format", "json", "--config", path(&folder.join("hub.toml"))]);
    let mut process = Process::start("hub", &mut command, folder);
    let ready: crate::n8n::Listening = process.first_line().await;
    (process, ready.listening.parse().unwrap())
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}
