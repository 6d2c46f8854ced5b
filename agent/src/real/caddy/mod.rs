//! The proxy for real: Caddy over its admin socket, and the folder that it shares with the agent.
//!
//! The folder is mounted into Caddy's container alone, so nobody else reaches the socket or the gate. What is written
//! there survives power loss: files are replaced as a whole, and the folder is synced.

mod certificate;

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use genesis_shared::chain::Chain;
use genesis_shared::timestamp::Timestamp;
use reqwest::Client;
use serde_json::Value;

use crate::core::routes::{ACME_CA_FILE, ADMIN_SOCKET, CONFIG_FILE, GATE, GATE_TARGET, N8N_UPSTREAM};
use crate::core::stack::StackSettings;
use crate::ports::stack::Proxy;
use crate::ports::{EffectError, ErrorKind};

/// Caddy answers from memory, and loads a configuration without waiting for anybody.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
/// Bytes of an answer that are read: the configuration of 41 hosts has some 8 KiB.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// Characters of Caddy's words in an error.
const WORDS_MAX: usize = 500;
/// What passed the gate in the moment before it closed is counted by the proxy after this time.
const SETTLE: Duration = Duration::from_millis(50);

/// One droplet's Caddy.
pub struct Caddy {
    folder: PathBuf,
    acme_ca_file: Option<PathBuf>,
    /// Where its HTTPS port is published.
    https: (String, u16),
    client: Client,
}

impl Caddy {
    /// The Caddy of these settings; it need not run yet.
    ///
    /// # Errors
    /// The HTTP client cannot be made.
    pub fn new(settings: &StackSettings) -> reqwest::Result<Self> {
        let folder = Path::new(&settings.folder).join("proxy");
        let client = Client::builder()
            .unix_socket(folder.join(ADMIN_SOCKET))
            .timeout(ANSWER_TIMEOUT)
            // Caddy makes its admin socket anew with each configuration.
            .pool_max_idle_per_host(0)
            .no_proxy()
            .build()?;
        let address = match settings.publish_ip.as_str() {
            "0.0.0.0" | "::" | "" => "127.0.0.1",
            own => own,
        };
        let acme_ca_file = settings.acme_ca_file.as_ref().map(PathBuf::from);
        Ok(Self { folder, acme_ca_file, https: (address.to_owned(), settings.https_port), client })
    }

    async fn ask(&self, request: reqwest::RequestBuilder) -> Result<(u16, Vec<u8>), EffectError> {
        let mut answer = request.send().await.map_err(|e| unreachable(&e))?;
        let status = answer.status().as_u16();
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|e| unreachable(&e))? {
            if body.len() + chunk.len() > ANSWER_BYTES_MAX {
                let message = format!("the proxy's answer is longer than {ANSWER_BYTES_MAX} bytes");
                return Err(EffectError::new(ErrorKind::Transient, "proxy_unreachable", message));
            }
            body.extend_from_slice(&chunk);
        }
        Ok((status, body))
    }

    fn get(&self, path: &str) -> reqwest::RequestBuilder {
        self.client.get(format!("http://caddy{path}"))
    }

    /// Replaces a file of the shared folder if it differs.
    fn keep(&self, name: &str, content: &[u8]) -> Result<(), EffectError> {
        let path = self.folder.join(name);
        let new = self.folder.join(format!("{name}.new"));
        let write = || {
            if fs::read(&path).is_ok_and(|held| held == content) {
                return Ok(());
            }
            DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
            file.write_all(content)?;
            file.sync_all()?;
            fs::rename(&new, &path)?;
            File::open(&self.folder)?.sync_all()
        };
        write().map_err(|e| unusable(&path, &e))
    }

    fn gate(&self) -> PathBuf {
        self.folder.join(GATE)
    }
}

impl Proxy for Caddy {
    fn shared_folder(&self) -> String {
        self.folder.display().to_string()
    }

    fn keep_config(&self, config: &Value) -> Result<(), EffectError> {
        if let Some(path) = &self.acme_ca_file {
            let authority = fs::read(path).map_err(|e| unusable(path, &e))?;
            self.keep(ACME_CA_FILE, &authority)?;
        }
        // A folder without a configuration is a new one, in which nobody has closed the gate.
        if !self.folder.join(CONFIG_FILE).exists() {
            self.release()?;
        }
        self.keep(CONFIG_FILE, config.to_string().as_bytes())
    }

    async fn config(&self) -> Result<Value, EffectError> {
        let (status, body) = self.ask(self.get("/config/")).await?;
        let unclear = || {
            let message = format!("the proxy answers {status} when asked for its configuration: {}", words(&body));
            EffectError::new(ErrorKind::Transient, "proxy_unreachable", message)
        };
        if status != 200 {
            return Err(unclear());
        }
        serde_json::from_slice(&body).map_err(|_| unclear())
    }

    async fn load(&self, config: &Value) -> Result<(), EffectError> {
        let request = self.client.post("http://caddy/load").header("content-type", "application/json");
        let (status, body) = self.ask(request.body(config.to_string())).await?;
        match status {
            200 => self.keep_config(config),
            400..=499 => {
                let message = format!("the proxy refuses its configuration and keeps the former one: {}", words(&body));
                Err(EffectError::new(ErrorKind::Permanent, "proxy_refused_config", message))
            }
            // It could not do something that the configuration asks for, such as taking a port.
            _ => {
                let message = format!("the proxy cannot load its configuration ({status}): {}", words(&body));
                Err(EffectError::new(ErrorKind::Transient, "proxy_unreachable", message))
            }
        }
    }

    async fn hold(&self) -> Result<(), EffectError> {
        let gate = self.gate();
        match fs::remove_file(&gate) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(unusable(&gate, &error)),
        }
        self.synced()?;
        tokio::time::sleep(SETTLE).await;
        Ok(())
    }

    fn release(&self) -> Result<(), EffectError> {
        let gate = self.gate();
        let open = || {
            if !self.is_held_now()? {
                return Ok(());
            }
            DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
            symlink(GATE_TARGET, &gate)
        };
        open().map_err(|e| unusable(&gate, &e))?;
        self.synced()
    }

    fn is_held(&self) -> Result<bool, EffectError> {
        self.is_held_now().map_err(|e| unusable(&self.gate(), &e))
    }

    async fn in_flight(&self) -> Option<u64> {
        let (status, body) = self.ask(self.get("/reverse_proxy/upstreams")).await.ok()?;
        let upstreams: Value = serde_json::from_slice(&body).ok().filter(|_| status == 200)?;
        let of = |address: &str| {
            let found = upstreams.as_array()?.iter().find(|upstream| upstream["address"] == address)?;
            found["num_requests"].as_u64()
        };
        // An upstream that was never used is not listed.
        Some(of(N8N_UPSTREAM).unwrap_or(0))
    }

    async fn certificate_expires_at(&self, host: &str) -> Option<Timestamp> {
        certificate::expires_at(&self.https.0, self.https.1, host).await
    }
}

impl Caddy {
    fn is_held_now(&self) -> io::Result<bool> {
        match fs::symlink_metadata(self.gate()) {
            Ok(_) => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
            Err(error) => Err(error),
        }
    }

    fn synced(&self) -> Result<(), EffectError> {
        match File::open(&self.folder).and_then(|folder| folder.sync_all()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(unusable(&self.folder, &error)),
            _ => Ok(()),
        }
    }
}

fn words(body: &[u8]) -> String {
    String::from_utf8_lossy(body).trim().chars().take(WORDS_MAX).collect()
}

fn unreachable(error: &reqwest::Error) -> EffectError {
    let message = format!("the proxy cannot be reached: {}; is its container running?", Chain(error));
    EffectError::new(ErrorKind::Transient, "proxy_unreachable", message)
}

fn unusable(path: &Path, error: &io::Error) -> EffectError {
    let message = format!("cannot use {}: {error}; look at space and permissions there", path.display());
    EffectError::new(ErrorKind::Transient, "proxy_folder", message)
}
