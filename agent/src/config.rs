//! The agent's configuration: a TOML file -> [`Raw`] -> [`Settings`], validated. Defaults live here and nowhere else.

mod stack;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use genesis_shared::id::{Digest, DropletId, WorkspaceId};
use genesis_shared::limits::{HEARTBEAT_INTERVAL_S, METRICS_INTERVAL_S, POLL_WAIT_S_MAX, RECONCILE_INTERVAL_S};
use genesis_shared::wire::AgentConfig;
use serde::Deserialize;

use crate::core::stack::{N8N_PORT, StackSettings};
use crate::real::metadata::{MetadataError, public_ip};

/// Activating a workflow registers its webhooks with other services, which takes them seconds.
const N8N_ANSWER_TIMEOUT_S: u64 = 60;
/// The owner account that the agent makes in n8n; nobody receives mail there.
const OWNER_EMAIL: &str = "owner@genesis.internal";

/// In place of an address: the provider's metadata service knows it.
const ASK_METADATA: &str = "metadata";

/// The file as written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    hub_url: String,
    hub_ca_file: Option<PathBuf>,
    workspace_id: WorkspaceId,
    droplet_id: DropletId,
    droplet_id_file: Option<PathBuf>,
    droplet_ip: Option<String>,
    data_dir: PathBuf,
    trust_root_digest: Digest,
    provisioning_token_file: Option<PathBuf>,
    #[serde(default)]
    ignore_quarantine: bool,
    #[serde(default)]
    block_metadata: bool,
    forget: Option<Forget>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    n8n: RawN8n,
    stack: Option<stack::RawStack>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawN8n {
    url: Option<String>,
    owner_email: Option<String>,
    public_url: Option<String>,
    answer_timeout_s: Option<u64>,
}

/// Copies of the first boot's data that are not to stay.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Forget {
    /// This file says that nobody needs them any more.
    pub once: PathBuf,
    /// What is removed then, by an agent that is enrolled.
    pub files: Vec<PathBuf>,
}

/// What the agent runs with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `https://…`
    pub hub_url: String,
    /// The only authority believed for the hub; absent means the system's.
    pub hub_ca_file: Option<PathBuf>,
    /// This tenant.
    pub workspace_id: WorkspaceId,
    /// This droplet.
    pub droplet_id: DropletId,
    /// Where the machine says which droplet it is, so that a copy of this folder elsewhere is noticed: cloud-init writes
    /// the provider's id to `/var/lib/cloud/data/instance-id`. Absent means that nothing tells.
    pub droplet_id_file: Option<PathBuf>,
    /// Its public address; where the file says `metadata`, what the provider's service told.
    pub droplet_ip: Option<String>,
    /// Journal and secrets.
    pub data_dir: PathBuf,
    /// Digest of the first trust root.
    pub trust_root_digest: Digest,
    /// Where cloud-init left the one-time token; removed after the handshake.
    pub provisioning_token_file: Option<PathBuf>,
    /// Changes go on although the hub has quarantined this droplet: for one whose hub is in the wrong hands.
    pub ignore_quarantine: bool,
    /// Containers are kept away from the provider's metadata service.
    pub block_metadata: bool,
    /// What cloud-init kept of the first boot, and with it the provisioning token.
    pub forget: Option<Forget>,
    /// This droplet's labels, which a bundle's targets may name.
    pub labels: BTreeMap<String, String>,
    /// n8n.
    pub n8n: N8nSettings,
    /// The stack that the agent looks after; `None` where somebody else does.
    pub stack: Option<StackSettings>,
}

/// How to reach n8n.
#[derive(Clone, Debug)]
pub struct N8nSettings {
    /// Base URL of its API.
    pub url: String,
    /// E-mail of the owner account that the agent makes.
    pub owner_email: String,
    /// Base URL of webhooks as the world sees it; absent means n8n's own word.
    pub public_url: Option<String>,
    /// Seconds that n8n may take to answer.
    pub answer_timeout_s: u64,
}

/// The pace until the hub says otherwise.
pub const PACE: AgentConfig = AgentConfig {
    heartbeat_interval_s: HEARTBEAT_INTERVAL_S,
    poll_wait_s: POLL_WAIT_S_MAX,
    metrics_interval_s: METRICS_INTERVAL_S,
    reconcile_interval_s: RECONCILE_INTERVAL_S,
};

/// Why there are no settings.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is not what it should be; the source names line and key.
    #[error("{path} is not a configuration of the agent")]
    Parse {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// `droplet_ip = "metadata"`, and the metadata service does not tell it.
    #[error("{path}: droplet_ip is to be asked for")]
    Metadata {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: MetadataError,
    },
    /// A value that cannot be used.
    #[error("{path}: {key} is {value:?}; {expected}")]
    Value {
        /// Which file.
        path: PathBuf,
        /// Which key.
        key: &'static str,
        /// Its value.
        value: String,
        /// What would do.
        expected: &'static str,
    },
}

impl Settings {
    /// Reads and validates a file.
    ///
    /// # Errors
    /// Every [`ConfigError`].
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text =
            std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        Self::parse(&text, path, public_ip)
    }

    fn parse(
        text: &str,
        path: &Path,
        public_ip: impl Fn(&Path) -> Result<Ipv4Addr, MetadataError>,
    ) -> Result<Self, ConfigError> {
        let mut raw: Raw = toml::from_str(text)
            .map_err(|source| ConfigError::Parse { path: path.to_owned(), source: Box::new(source) })?;
        if raw.droplet_ip.as_deref() == Some(ASK_METADATA) {
            let ip =
                public_ip(&raw.data_dir).map_err(|e| ConfigError::Metadata { path: path.to_owned(), source: e })?;
            raw.droplet_ip = Some(ip.to_string());
        }
        let check = |key, value: &str, schemes: &[&str], expected| {
            let host = schemes.iter().find_map(|scheme| value.strip_prefix(scheme));
            match host.is_some_and(|host| !host.is_empty() && !host.starts_with('/')) {
                true => Ok(value.to_owned()),
                false => Err(ConfigError::Value { path: path.to_owned(), key, value: value.to_owned(), expected }),
            }
        };
        let stack = raw.stack.map(|stack| stack.settings(&raw.data_dir, raw.droplet_ip.as_deref())).transpose();
        let stack = stack.map_err(|(key, value, expected)| ConfigError::Value {
            path: path.to_owned(),
            key,
            value,
            expected,
        })?;
        let n8n_port = stack.as_ref().map_or(N8N_PORT, |stack| stack.n8n_port);
        let n8n_url = raw.n8n.url.unwrap_or_else(|| format!("http://127.0.0.1:{n8n_port}"));
        Ok(Self {
            // Without TLS anybody on the way could hold commands back unseen.
            hub_url: check("hub_url", &raw.hub_url, &["https://"], "it must begin with https://")?,
            hub_ca_file: raw.hub_ca_file,
            workspace_id: raw.workspace_id,
            droplet_id: raw.droplet_id,
            droplet_id_file: raw.droplet_id_file,
            droplet_ip: raw.droplet_ip,
            data_dir: raw.data_dir,
            trust_root_digest: raw.trust_root_digest,
            provisioning_token_file: raw.provisioning_token_file,
            ignore_quarantine: raw.ignore_quarantine,
            block_metadata: raw.block_metadata,
            forget: raw.forget,
            labels: raw.labels,
            stack,
            n8n: N8nSettings {
                url: check("n8n.url", &n8n_url, &["http://", "https://"], "it must begin with http:// or https://")?,
                owner_email: raw.n8n.owner_email.unwrap_or_else(|| OWNER_EMAIL.to_owned()),
                public_url: raw.n8n.public_url,
                answer_timeout_s: raw.n8n.answer_timeout_s.unwrap_or(N8N_ANSWER_TIMEOUT_S),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINIMAL: &str = r#"
        hub_url = "https://hub.example:8443"
        workspace_id = "0192f0a1-1111-7000-8000-000000000001"
        droplet_id = "412"
        data_dir = "/var/lib/genesis"
        trust_root_digest = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    "#;

    fn parse(text: &str) -> Result<Settings, ConfigError> {
        Settings::parse(text, Path::new("agent.toml"), |_| Ok(Ipv4Addr::new(192, 0, 2, 7)))
    }

    #[test]
    fn asks_for_its_address_where_it_is_told_to() {
        let ip = |text: String| parse(&text).unwrap().droplet_ip;
        assert_eq!(ip(format!("droplet_ip = \"metadata\"\n{MINIMAL}")).as_deref(), Some("192.0.2.7"));
        assert_eq!(ip(format!("droplet_ip = \"192.0.2.9\"\n{MINIMAL}")).as_deref(), Some("192.0.2.9"));
        assert_eq!(ip(MINIMAL.to_owned()), None);
        let silent = |_: &Path| Err(MetadataError::Answer("<html>".into()));
        let text = format!("droplet_ip = \"metadata\"\n{MINIMAL}");
        let error = Settings::parse(&text, Path::new("agent.toml"), silent).unwrap_err();
        let error = genesis_shared::chain::Chain(&error).to_string();
        assert!(error.contains("droplet_ip") && error.contains("<html>"), "{error}");
    }

    #[test]
    fn reads_what_the_first_boot_writes() {
        let text = format!("block_metadata = true\n{MINIMAL}\n[forget]\nonce = \"/run/x\"\nfiles = [\"/a\", \"/b\"]");
        let settings = parse(&text).unwrap();
        assert!(settings.block_metadata);
        assert_eq!(settings.forget.unwrap().files, [PathBuf::from("/a"), PathBuf::from("/b")]);
    }

    #[test]
    fn fills_in_defaults() {
        let settings = parse(MINIMAL).unwrap();
        assert_eq!(settings.n8n.url, "http://127.0.0.1:5678");
        assert!(settings.labels.is_empty());
    }

    #[test]
    fn reaches_the_n8n_of_its_own_stack() {
        assert!(parse(MINIMAL).unwrap().stack.is_none());
        let text = format!("{MINIMAL}\n[stack]\nhost = \"t1.example.com\"\nn8n_port = 15678");
        let settings = parse(&text).unwrap();
        assert_eq!(settings.n8n.url, "http://127.0.0.1:15678");
        assert_eq!(settings.stack.unwrap().folder, "/var/lib/genesis/stack");
        let error = genesis_shared::chain::Chain(&parse(&text.replace("t1.", "T1.")).unwrap_err()).to_string();
        assert!(error.contains("agent.toml") && error.contains("stack.host"), "{error}");
    }

    #[test]
    fn names_the_file_and_the_key_that_is_wrong() {
        let text = |error: ConfigError| genesis_shared::chain::Chain(&error).to_string();
        let plain = text(parse(&MINIMAL.replace("https", "http")).unwrap_err());
        assert!(plain.contains("hub_url") && plain.contains("https://"), "{plain}");
        let unknown = text(parse(&format!("{MINIMAL}\nhub_uri = 1")).unwrap_err());
        assert!(unknown.contains("agent.toml") && unknown.contains("hub_uri"), "{unknown}");
        let missing = text(parse("").unwrap_err());
        assert!(missing.contains("hub_url"), "{missing}");
        assert!(parse(&MINIMAL.replace("sha256:ba", "sha256:xx")).is_err());
    }
}
