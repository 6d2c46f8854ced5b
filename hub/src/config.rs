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

use crate::rate::Rate;
use crate::store::prune::Retention;

/// Name that the delivery key gets where nothing else is said; the trust root must list it under the same name.
pub const DELIVERY_KID: &str = "hub-1";

/// Open connections at most. Each droplet of a fleet of 15,000 holds one; the rest is for operators and reconnects.
const CONNECTIONS_MAX: usize = 20_000;
/// Seconds between two looks for expired leases and bundles; a lease lasts twelve times as long.
const SWEEP_INTERVAL_S: u64 = 5;
/// Seconds between two looks for a new certificate; its files are read, some KiB.
const TLS_WATCH_INTERVAL_S: u64 = 10;
/// Seconds for a TLS handshake, for request headers, for the body of a request, and for taking anything of an answer.
const SLOW_CLIENT_S: u64 = 30;
/// Seconds that running requests get when the hub stops.
const STOP_GRACE_S: u64 = 10;

/// Days that ended jobs are kept, and outbox records.
const JOBS_KEPT_DAYS: u64 = 90;
/// See [`JOBS_KEPT_DAYS`].
const RECORDS_KEPT_DAYS: u64 = 30;
/// A bundle is good for 30 days at most; as long as it is, it has to be known.
const DAYS_MAX: u64 = 3650;
/// MiB of the database beyond which the oldest go before their time: 15,000 droplets with ten jobs a day of 4 KB each
/// come to 50 GB in 90 days; a machine with less disk says less.
const DATABASE_MB_MAX: u64 = 50 * 1024;
/// One API token. A dashboard makes some ten requests for a page; a script that waits for a job asks 40 times a second.
const API_RATE: Rate = Rate { per_s: 100, burst: 300 };
/// One droplet. It asks about once a second at its busiest; after a long time away it delivers some forty batches.
const SIDECAR_RATE: Rate = Rate { per_s: 20, burst: 200 };
/// More is no limit.
const RATE_MAX: u32 = 1_000_000;
/// Events that a reader of the stream may fall behind: a mass failure of a fleet of 15,000 is one event each.
const EVENT_LAG_MAX: i64 = 20_000;
/// A comment in the event stream after so much silence: proxies cut what is silent for 30 s, and so a reader that is
/// gone is noticed.
const EVENT_KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Whether a text is what a browser sends as `Origin`: scheme, host, perhaps a port, and nothing else.
fn is_origin(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let host = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-:[]".contains(&byte);
    rest.is_some_and(|rest| !rest.is_empty() && rest.bytes().all(host))
}

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
    /// Connections from one address at most.
    pub connections_per_address_max: Option<usize>,
    /// Seconds for a TLS handshake, for request headers, for the body of a request, and for taking an answer.
    pub slow_client_s: Option<u64>,
    /// Seconds between two looks for a new certificate.
    pub tls_watch_interval_s: Option<u64>,
    /// An address to serve `/metrics` on in the clear and without a token, for a scraper on this machine or network.
    pub metrics_listen: Option<SocketAddr>,
    /// Requests per second of one API token in the long run.
    pub api_rate_per_s: Option<u32>,
    /// Requests of one API token at once after a pause.
    pub api_burst: Option<u32>,
    /// Requests per second of one droplet in the long run.
    pub sidecar_rate_per_s: Option<u32>,
    /// Requests of one droplet at once after a pause.
    pub sidecar_burst: Option<u32>,
    /// Origins whose pages may call the API from a browser, for example `https://dashboard.example.com`.
    #[serde(default)]
    pub cors_origins: Vec<String>,
    /// Seconds between two sweeps.
    pub sweep_interval_s: Option<u64>,
    /// Seconds that running requests get when the hub stops.
    pub stop_grace_s: Option<u64>,
    /// Days that ended jobs are kept.
    pub jobs_kept_days: Option<u64>,
    /// Days that outbox records are kept after they were applied.
    pub records_kept_days: Option<u64>,
    /// MiB of the database beyond which the oldest go before their time.
    pub database_mb_max: Option<u64>,
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
    /// What is kept for how long.
    pub retention: Retention,
    /// Connections from one address at most.
    pub connections_per_address_max: usize,
    /// Time between two looks for a new certificate.
    pub tls_watch: Duration,
    /// Where to serve `/metrics` in the clear.
    pub metrics_listen: Option<SocketAddr>,
    /// How often one API token may ask.
    pub api_rate: Rate,
    /// How often one droplet may ask.
    pub sidecar_rate: Rate,
    /// Origins whose pages may call the API from a browser.
    pub cors_origins: Arc<[String]>,
    /// Events that a reader of the stream may fall behind before it is cut off.
    pub event_lag_max: i64,
    /// Silence of the event stream after which a comment is sent and the reader's token looked at again.
    pub event_keep_alive: Duration,
    /// Time between two sweeps.
    pub sweep_interval: Duration,
    /// Time for a TLS handshake, for request headers, for a body, and for taking anything of an answer.
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
        let days = |days: u64| i64::try_from(days).unwrap_or(i64::MAX).saturating_mul(24 * 3600 * 1000);
        let retention = Retention {
            jobs_ms: days(seconds("jobs_kept_days", raw.jobs_kept_days, JOBS_KEPT_DAYS, DAYS_MAX)?),
            records_ms: days(seconds("records_kept_days", raw.records_kept_days, RECORDS_KEPT_DAYS, DAYS_MAX)?),
            bytes_max: seconds("database_mb_max", raw.database_mb_max, DATABASE_MB_MAX, u64::MAX >> 20)? << 20,
        };
        let rate = |name: &str, value: Option<u32>, default: u32| match value.unwrap_or(default) {
            value if (1..=RATE_MAX).contains(&value) => Ok(value),
            value => Err(ConfigError::Value(format!("{name} = {value}; from 1 to {RATE_MAX} is possible"))),
        };
        let api_rate = Rate {
            per_s: rate("api_rate_per_s", raw.api_rate_per_s, API_RATE.per_s)?,
            burst: rate("api_burst", raw.api_burst, API_RATE.burst)?,
        };
        let sidecar_rate = Rate {
            per_s: rate("sidecar_rate_per_s", raw.sidecar_rate_per_s, SIDECAR_RATE.per_s)?,
            burst: rate("sidecar_burst", raw.sidecar_burst, SIDECAR_RATE.burst)?,
        };
        if let Some(origin) = raw.cors_origins.iter().find(|origin| !is_origin(origin)) {
            let message = format!("cors_origins: {origin:?} is not like https://dashboard.example.com, without a path");
            return Err(ConfigError::Value(message));
        }
        // Half of all: a fleet comes from many addresses. Behind a proxy all of them have one.
        let per_address = raw.connections_per_address_max.unwrap_or(connections_max.div_ceil(2));
        if per_address == 0 {
            return Err(ConfigError::Value("connections_per_address_max = 0; at least 1 is needed".into()));
        }
        let slow = seconds("slow_client_s", raw.slow_client_s, SLOW_CLIENT_S, 600)?;
        let watch = seconds("tls_watch_interval_s", raw.tls_watch_interval_s, TLS_WATCH_INTERVAL_S, DAY_S)?;
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
            retention,
            connections_per_address_max: per_address,
            tls_watch: Duration::from_secs(watch),
            metrics_listen: raw.metrics_listen,
            api_rate,
            sidecar_rate,
            cors_origins: raw.cors_origins.into(),
            event_lag_max: EVENT_LAG_MAX,
            event_keep_alive: EVENT_KEEP_ALIVE,
            sweep_interval: Duration::from_secs(sweep),
            slow_client: Duration::from_secs(slow),
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
            ("api_burst = 0", "api_burst"),
            ("sidecar_rate_per_s = 2000000", "sidecar_rate_per_s"),
            ("cors_origins = ['*']", "cors_origins"),
            ("cors_origins = ['https://dashboard.example.com/']", "cors_origins"),
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
