//! The real Caddy in a container of its own, with a tiny n8n behind it; all of it is removed when dropped.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use genesis_agent::core::routes;
use genesis_agent::core::stack::{StackRow, StackSettings};
use genesis_agent::ports::stack::Proxy;
use genesis_agent::real::caddy::Caddy;
use genesis_shared::stack::ImageRef;
use serde_json::Value;
use tempfile::TempDir;

use crate::until;

/// Names the image of the proxy; the engine is the one of `DOCKER_HOST`.
pub const CADDY_VARIABLE: &str = "GENESIS_IMAGE_CADDY";
/// Names the image of n8n, whose Node.js runs the tiny one.
pub const N8N_VARIABLE: &str = "GENESIS_IMAGE_N8N";

/// The host name that is always served.
pub const HOST: &str = "droplet.test";

/// The tiny n8n.
const UPSTREAM: &str = include_str!("upstream.js");

/// Caddy, what is behind it, and the agent's way to it.
pub struct CaddyLab {
    /// The port under test.
    pub proxy: Caddy,
    /// What it is set up from.
    pub settings: StackSettings,
    upstream_port: u16,
    folder: TempDir,
}

impl CaddyLab {
    /// Starts both with the desired configuration and waits until a request passes.
    pub async fn start() -> Self {
        genesis_agent::real::install_crypto();
        let folder = TempDir::with_prefix("gp-").unwrap();
        let unique = folder.path().file_name().unwrap().to_string_lossy().to_lowercase();
        let settings = StackSettings {
            // A temporary folder may end in a mark that the engine does not like at a name's end.
            name: format!("genesis-{}-x", unique.replace('.', "")),
            folder: folder.path().to_str().unwrap().to_owned(),
            engine_socket: String::new(),
            images: BTreeMap::new(),
            host: HOST.into(),
            public_ip: None,
            publish_ip: "127.0.0.1".into(),
            http_port: free_port(),
            https_port: free_port(),
            n8n_port: 5678,
            postgres_port: 5432,
            memory_mb: None,
            acme_directory: Some("internal".into()),
            acme_ca_file: None,
            timezone: "UTC".into(),
        };
        let lab = Self { proxy: Caddy::new(&settings).unwrap(), settings, upstream_port: free_port(), folder };
        lab.proxy.keep_config(&lab.desired()).unwrap();
        lab.run_containers();
        until("a request to pass", || async {
            lab.client().get(lab.url("/first")).send().await.ok().filter(|answer| answer.status() == 200)
        })
        .await;
        lab
    }

    fn run_containers(&self) {
        let (name, folder) = (&self.settings.name, self.folder.path().display());
        let (upstream_port, https_port) = (self.upstream_port, self.settings.https_port);
        let (n8n, caddy) = (image(N8N_VARIABLE), image(CADDY_VARIABLE));
        docker(&format!("network create {name}"), &[]);
        let upstream = format!(
            "run -d --name {name}-n8n --network {name} --network-alias n8n -p 127.0.0.1:{upstream_port}:5678 \
             --entrypoint node {n8n} -e"
        );
        docker(&upstream, &[UPSTREAM]);
        let proxy = format!(
            "run -d --name {name}-caddy --network {name} -m 96m -e GOMEMLIMIT=57MiB -p 127.0.0.1:{https_port}:443 \
             -v {folder}/proxy:/run/genesis -v {folder}/caddy-data:/data {caddy} \
             caddy run --config /run/genesis/caddy.json"
        );
        docker(&proxy, &[]);
    }

    /// The configuration without further host names.
    pub fn desired(&self) -> Value {
        self.desired_with(&[])
    }

    /// The configuration with these host names, too.
    pub fn desired_with(&self, hosts: &[&str]) -> Value {
        let domains = hosts.iter().map(|host| ((*host).to_owned(), false)).collect();
        routes::config(&self.settings, &StackRow { domains, ..StackRow::default() })
    }

    /// A client that believes every certificate and finds the host names here.
    pub fn client(&self) -> reqwest::Client {
        let here = ([127, 0, 0, 1], 0).into();
        let builder = reqwest::Client::builder().no_proxy().http1_only().tls_danger_accept_invalid_certs(true);
        builder.resolve(HOST, here).build().unwrap()
    }

    /// An address of the host that is always served.
    pub fn url(&self, path: &str) -> String {
        format!("https://{HOST}:{}{path}", self.settings.https_port)
    }

    /// Asks the tiny n8n itself.
    pub async fn upstream(&self, path: &str) -> Value {
        let url = format!("http://127.0.0.1:{}/test/{path}", self.upstream_port);
        serde_json::from_slice(&self.client().get(url).send().await.unwrap().bytes().await.unwrap()).unwrap()
    }

    /// Something done to the proxy's container: `restart`, `kill`, `start`, …
    pub fn engine(&self, verb: &str) {
        docker(&format!("{verb} {}-caddy", self.settings.name), &[]);
    }

    /// Waits until the proxy answers its admin.
    pub async fn answers(&self) {
        until("the proxy to answer", || async { self.proxy.config().await.ok() }).await;
    }

    /// The folder that it shares with the agent.
    pub fn shared(&self) -> std::path::PathBuf {
        Path::new(&self.proxy.shared_folder()).to_owned()
    }
}

impl Drop for CaddyLab {
    fn drop(&mut self) {
        let name = &self.settings.name;
        for removal in [format!("rm -f {name}-caddy {name}-n8n"), format!("network rm {name}")] {
            // A panic here would hide the one that a test ended with.
            drop(Command::new("docker").args(removal.split(' ')).output());
        }
    }
}

/// The image by what the engine knows it under: an engine filled without a registry knows its id alone.
fn image(variable: &str) -> String {
    let text = std::env::var(variable).unwrap_or_else(|_| panic!("{variable} names no image; tests/run.sh sets it"));
    let image: ImageRef = text.parse().unwrap();
    let id = image.digest().to_string();
    let is_id = Command::new("docker").args(["image", "inspect", &id]).output().unwrap().status.success();
    if is_id { id } else { image.pinned() }
}

/// Runs the engine's client with these words, and with more that may hold blanks.
fn docker(words: &str, more: &[&str]) {
    let output = Command::new("docker").args(words.split_whitespace()).args(more).output().unwrap();
    assert!(output.status.success(), "docker {words}: {}", String::from_utf8_lossy(&output.stderr));
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
