//! The n8n under test: the stand-in over HTTP, or the real one as a process.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::process::{Process, binary};
use crate::until;

/// Names the folder that holds `node_modules/n8n`.
pub const TREE_VARIABLE: &str = "GENESIS_N8N_TREE";

/// Names the folder with the last n8n 1.x.
pub const OLD_TREE_VARIABLE: &str = "GENESIS_N8N_OLD_TREE";

/// Which n8n a test runs against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The stand-in.
    StandIn,
    /// The real one, from [`TREE_VARIABLE`].
    Real,
    /// The last n8n 1.x, from [`OLD_TREE_VARIABLE`]: it can neither list nor update credentials.
    RealOld,
}

/// A running n8n.
pub struct N8n {
    /// Base URL.
    pub url: String,
    /// Which it is.
    pub kind: Kind,
    process: Option<Process>,
    client: reqwest::Client,
}

/// A server's word that it listens.
#[derive(Deserialize)]
pub(crate) struct Listening {
    pub(crate) listening: String,
}

impl N8n {
    /// Starts one, with its data in `folder`.
    pub async fn start(kind: Kind, folder: &Path) -> Self {
        match kind {
            Kind::StandIn => {
                let mut command = Command::new(binary("genesis-standin"));
                let mut process = Process::start("n8n", command.args(["--listen", "127.0.0.1:0"]), folder);
                let ready: Listening = process.first_line().await;
                Self::at(&format!("http://{}", ready.listening), kind, Some(process))
            }
            Kind::Real | Kind::RealOld => {
                let port = free_port();
                let tree = tree(if kind == Kind::Real { TREE_VARIABLE } else { OLD_TREE_VARIABLE });
                let process = Process::start("n8n", &mut real_command(&tree, folder, port), folder);
                let n8n = Self::at(&format!("http://127.0.0.1:{port}"), kind, Some(process));
                n8n.ready().await;
                n8n
            }
        }
    }

    /// One that runs already.
    pub fn running(url: &str, kind: Kind) -> Self {
        Self::at(url.trim_end_matches('/'), kind, None)
    }

    fn at(url: &str, kind: Kind, process: Option<Process>) -> Self {
        genesisctl::client::install_crypto_provider();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { url: url.to_owned(), kind, process, client }
    }

    async fn ready(&self) {
        until("n8n to be ready", || async {
            let answer = self.client.get(format!("{}/rest/settings", self.url)).send().await.ok()?;
            answer.text().await.ok()?.contains("userManagement").then_some(())
        })
        .await;
    }

    /// Kills it at once.
    pub fn kill(&mut self) {
        self.process.as_mut().unwrap().kill();
    }

    /// Stops it in its tracks (SIGSTOP), or lets it go on: what it has taken is carried out then.
    pub fn freeze(&self, frozen: bool) {
        use rustix::process::{Pid, Signal, kill_process};
        let process = self.process.as_ref().unwrap();
        let id = Pid::from_raw(i32::try_from(process.id()).unwrap()).unwrap();
        kill_process(id, if frozen { Signal::STOP } else { Signal::CONT }).unwrap();
    }

    /// A request as a caller of a webhook sends it: status and body.
    pub async fn call(&self, method: &str, path: &str) -> (u16, String) {
        let request = self.client.request(method.parse().unwrap(), format!("{}{path}", self.url));
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    /// A webhook call with a key in its header `X-Key`: the status.
    pub async fn call_with_key(&self, path: &str, key: &str) -> u16 {
        let request = self.client.post(format!("{}{path}", self.url)).header("X-Key", key);
        request.send().await.unwrap().status().as_u16()
    }

    /// Scripts a fault of the stand-in.
    pub async fn fault(&self, fault: Value) {
        let request = self.client.post(format!("{}/__standin/faults", self.url));
        let answer = request.header("content-type", "application/json").body(fault.to_string()).send().await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
    }

    /// Everything in it, through the public API with the agent's own key.
    pub async fn content(&self, key: &str) -> Content {
        Content {
            credentials: self.list("/api/v1/credentials", key).await,
            workflows: self.list("/api/v1/workflows", key).await,
        }
    }

    async fn list(&self, path: &str, key: &str) -> Vec<Value> {
        let request = self.client.get(format!("{}{path}?limit=250", self.url)).header("X-N8N-API-KEY", key);
        let text = request.send().await.unwrap().text().await.unwrap();
        let page: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
        assert_eq!(page["nextCursor"], Value::Null, "one page holds all of a test");
        page["data"].as_array().unwrap().clone()
    }

    /// A change behind the agent's back, through the public API.
    pub async fn meddle(&self, key: &str, method: &str, path: &str, body: Option<Value>) -> Value {
        let mut request = self.client.request(method.parse().unwrap(), format!("{}{path}", self.url));
        request = request.header("X-N8N-API-KEY", key);
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let answer = request.send().await.unwrap();
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        assert!(status.is_success(), "{status} {text}");
        serde_json::from_str(&text).unwrap_or(json!(null))
    }
}

/// What an n8n holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Content {
    /// As listed.
    pub credentials: Vec<Value>,
    /// As listed, with nodes.
    pub workflows: Vec<Value>,
}

impl Content {
    /// The content without what changes by itself or says nothing (`updatedAt`, `versionCounter`, order).
    pub fn comparable(&self) -> Value {
        let strip = |items: &[Value], keys: &[&str]| {
            let mut items: Vec<Value> = items.to_vec();
            for item in &mut items {
                let object = item.as_object_mut().unwrap();
                object.retain(|key, _| keys.contains(&key.as_str()));
            }
            items.sort_by_key(|item| item["id"].to_string());
            items
        };
        let workflow = ["id", "name", "active", "nodes", "connections", "settings", "versionId", "activeVersionId"];
        json!({
            "credentials": strip(&self.credentials, &["id", "name", "type"]),
            "workflows": strip(&self.workflows, &workflow),
        })
    }
}

/// The folder named by an environment variable.
///
/// # Panics
/// It is not set: tests of the real n8n are left out by name where there is none, so that none passes unseen.
pub fn tree(variable: &str) -> PathBuf {
    PathBuf::from(std::env::var_os(variable).unwrap_or_else(|| panic!("{variable} is not set; tests/run.sh sets it")))
}

fn real_command(tree: &Path, folder: &Path, port: u16) -> Command {
    let mut command = Command::new("node");
    command
        .arg(tree.join("node_modules/n8n/bin/n8n"))
        .arg("start")
        .env("N8N_USER_FOLDER", folder.join("n8n"))
        .env("N8N_PORT", port.to_string())
        .env("N8N_RUNNERS_BROKER_PORT", free_port().to_string())
        .env("N8N_LISTEN_ADDRESS", "127.0.0.1")
        .env("N8N_DIAGNOSTICS_ENABLED", "false")
        .env("N8N_VERSION_NOTIFICATIONS_ENABLED", "false")
        .env("N8N_TEMPLATES_ENABLED", "false")
        // The other engine of n8n 1.x wants a newer Node.js.
        .env("N8N_EXPRESSION_ENGINE", "legacy")
        .env("NODE_ENV", "production");
    command
}

/// A port that is free now. n8n wants a number; it is taken so soon afterwards that another process hardly can.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
