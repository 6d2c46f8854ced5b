//! The configuration file and its defaults; the only place where defaults live.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use genesis_shared::first_boot::FirstBoot;
use genesis_shared::id::{KeyId, WorkspaceId};
use genesis_shared::limits::{
    HEARTBEAT_INTERVAL_S, LEASE_TTL_MS, METRICS_INTERVAL_S, POLL_WAIT_S_MAX, RECONCILE_INTERVAL_S,
};
use genesis_shared::wire::AgentConfig;
use serde::Deserialize;

/// Name that the delivery key gets where nothing else is said; the trust root must list it under the same name.
pub const DELIVERY_KID: &str = "hub-1";

/// Open connections at most. Each droplet of a fleet of 15,000 holds one; the rest is for operators and reconnects.
const CONNECTIONS_MAX: usize = 20_000;
/// Seconds between two looks for expired leases and bundles; a lease lasts twelve times as long.
const SWEEP_INTERVAL_S: u64 = 5;
/// Seconds for a TLS handshake, for request headers, and for the body of a request.
const SLOW_CLIENT_S: u64 = 30;
/// Seconds that running requests get when the hub stops.
const STOP_GRACE_S: u64 = 10;

/// The file as written; every member may be left out.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Raw {
    /// Seconds between heartbeats.
    pub heartbeat_interval_s: Option<u64>,
    /// Longest wait of a poll in seconds.
    pub poll_wait_s: Option<u64>,
    /// Seconds between metrics reports.
    pub metrics_interval_s: Option<u64>,
    /// Seconds between reconciliations.
    pub reconcile_interval_s: Option<u64>,
    /// Milliseconds that a lease lasts.
    pub lease_ttl_ms: Option<i64>,
    /// Open connections at most.
    pub connections_max: Option<usize>,
    /// Seconds between two sweeps.
    pub sweep_interval_s: Option<u64>,
    /// Seconds that running requests get when the hub stops.
    pub stop_grace_s: Option<u64>,
    /// Name of the delivery key in the trust root.
    pub delivery_kid: Option<String>,
    /// Tenants that must never receive commands.
    #[serde(default)]
    pub excluded_workspaces: Vec<WorkspaceId>,
    /// TLS certificate chain, PEM; default is the one that `init` made.
    pub tls_cert: Option<PathBuf>,
    /// TLS key, PEM; default is the one that `init` made.
    pub tls_key: Option<PathBuf>,
    /// What new droplets are given as user-data.
    pub first_boot: Option<FirstBoot>,
}

/// What the hub runs with; every value is usable.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where the database and the keys are.
    pub data_dir: PathBuf,
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// TLS certificate chain, PEM.
    pub tls_cert: PathBuf,
    /// TLS key, PEM.
    pub tls_key: PathBuf,
    /// Name of the delivery key in the trust root.
    pub delivery_kid: KeyId,
    /// Tenants that must never receive commands: those who stay on what was there before.
    pub excluded_workspaces: Arc<BTreeSet<WorkspaceId>>,
    /// The pace that agents are asked for.
    pub agent: AgentConfig,
    /// Milliseconds that a lease lasts.
    pub lease_ttl_ms: i64,
    /// Open connections at most.
    pub connections_max: usize,
    /// Time between two sweeps.
    pub sweep_interval: Duration,
    /// Time for a TLS handshake, for request headers, and for a body.
    pub slow_client: Duration,
    /// Time that running requests get when the hub stops.
    pub stop_grace: Duration,
    /// What new droplets are given as user-data, and the hub's own authority (PEM) in it.
    pub first_boot: Option<(FirstBoot, Option<String>)>,
}

/// Why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {0}")]
    Read(PathBuf, #[source] std::io::Error),
    /// The file is not TOML of the expected shape.
    #[error("the configuration file {0} is not acceptable")]
    Parse(PathBuf, #[source] Box<toml::de::Error>),
    /// A value that cannot work.
    #[error("configuration: {0}")]
    Value(String),
    /// The authority of `[first_boot]` cannot be read.
    #[error("configuration: first_boot.hub_ca_file {0} cannot be read")]
    Authority(PathBuf, #[source] std::io::Error),
}

impl Raw {
    /// Reads a file.
    ///
    /// # Errors
    /// [`ConfigError::Read`] and [`ConfigError::Parse`].
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|e| ConfigError::Read(path.to_owned(), e))?;
        toml::from_str(&text).map_err(|e| ConfigError::Parse(path.to_owned(), Box::new(e)))
    }
}

impl Settings {
    /// Fills in the defaults and checks what was given.
    ///
    /// # Errors
    /// [`ConfigError::Value`], [`ConfigError::Authority`].
    pub fn new(data_dir: &Path, listen: SocketAddr, raw: Raw) -> Result<Self, ConfigError> {
        let seconds = |name: &str, value: Option<u64>, default: u64, max: u64| match value.unwrap_or(default) {
            value if (1..=max).contains(&value) => Ok(value),
            value => Err(ConfigError::Value(format!("{name} = {value}; from 1 to {max} is possible"))),
        };
        const DAY_S: u64 = 24 * 3600;
        let agent = AgentConfig {
            heartbeat_interval_s: seconds(
                "heartbeat_interval_s",
                raw.heartbeat_interval_s,
                HEARTBEAT_INTERVAL_S,
                DAY_S,
            )?,
            poll_wait_s: seconds("poll_wait_s", raw.poll_wait_s, POLL_WAIT_S_MAX, POLL_WAIT_S_MAX)?,
            metrics_interval_s: seconds("metrics_interval_s", raw.metrics_interval_s, METRICS_INTERVAL_S, DAY_S)?,
            reconcile_interval_s: seconds(
                "reconcile_interval_s",
                raw.reconcile_interval_s,
                RECONCILE_INTERVAL_S,
                DAY_S,
            )?,
        };
        let lease_ttl_ms = raw.lease_ttl_ms.unwrap_or(LEASE_TTL_MS);
        if !(100..=3_600_000).contains(&lease_ttl_ms) {
            return Err(ConfigError::Value(format!("lease_ttl_ms = {lease_ttl_ms}; from 100 to 3600000 is possible")));
        }
        let connections_max = raw.connections_max.unwrap_or(CONNECTIONS_MAX);
        if connections_max == 0 {
            return Err(ConfigError::Value("connections_max = 0; at least 1 is needed".into()));
        }
        let first_boot = raw.first_boot.map(with_authority).transpose()?;
        let kid = raw.delivery_kid.as_deref().unwrap_or(DELIVERY_KID);
        let sweep = seconds("sweep_interval_s", raw.sweep_interval_s, SWEEP_INTERVAL_S, 3600)?;
        let grace = seconds("stop_grace_s", raw.stop_grace_s, STOP_GRACE_S, 600)?;
        Ok(Self {
            data_dir: data_dir.to_owned(),
            listen,
            tls_cert: raw.tls_cert.unwrap_or_else(|| data_dir.join("tls-cert.pem")),
            tls_key: raw.tls_key.unwrap_or_else(|| data_dir.join("tls-key.pem")),
            delivery_kid: kid.parse().map_err(|e| ConfigError::Value(format!("delivery_kid: {e}")))?,
            excluded_workspaces: Arc::new(raw.excluded_workspaces.into_iter().collect()),
            agent,
            lease_ttl_ms,
            connections_max,
            sweep_interval: Duration::from_secs(sweep),
            slow_client: Duration::from_secs(SLOW_CLIENT_S),
            stop_grace: Duration::from_secs(grace),
            first_boot,
        })
    }
}

/// Reads the authority once, so that a droplet is not registered and then left without its user-data.
fn with_authority(first_boot: FirstBoot) -> Result<(FirstBoot, Option<String>), ConfigError> {
    let read = |path: &PathBuf| std::fs::read_to_string(path).map_err(|e| ConfigError::Authority(path.clone(), e));
    let pem = first_boot.hub_ca_file.as_ref().map(read).transpose()?;
    Ok((first_boot, pem))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str) -> Result<Settings, ConfigError> {
        let raw: Raw = toml::from_str(text).expect("TOML");
        Settings::new(Path::new("/data"), "127.0.0.1:0".parse().expect("address"), raw)
    }

    #[test]
    fn an_empty_file_means_the_defaults() {
        let settings = settings("").unwrap();
        assert_eq!(settings.agent.heartbeat_interval_s, HEARTBEAT_INTERVAL_S);
        assert_eq!(settings.delivery_kid.as_str(), DELIVERY_KID);
    }

    #[test]
    fn names_the_value_that_cannot_work() {
        for (text, word) in [
            ("heartbeat_interval_s = 0", "heartbeat_interval_s"),
            ("poll_wait_s = 26", "poll_wait_s"),
            ("lease_ttl_ms = 1", "lease_ttl_ms"),
            ("delivery_kid = \"Ü\"", "delivery_kid"),
        ] {
            assert!(settings(text).unwrap_err().to_string().contains(word), "{text}");
        }
        let absent = "[first_boot]\nhub_url = 'https://hub'\nhub_ca_file = '/nowhere/ca.pem'\n\
                      trust_root_digest = 'sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad'";
        assert!(settings(absent).unwrap_err().to_string().contains("/nowhere/ca.pem"));
        assert!(toml::from_str::<Raw>("poll_wait = 1").is_err());
        assert!(toml::from_str::<Raw>("excluded_workspaces = ['ohio']").is_err());
    }
}
