//! The tenant's stack as values: settings and what the journal knows -> one typed spec per container.
//!
//! Sizes are for the droplet's real memory; what they are made from is in the table [`SIZES`].

use std::collections::BTreeMap;

use genesis_shared::stack::{ImageRef, Service};
use genesis_shared::timestamp::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ports::stack::{ContainerSpec, Mount, Port};

/// Where the containers' part of the agent's folder appears in the proxy.
pub const PROXY_FOLDER: &str = "/run/genesis";
/// Where a container finds its secret files.
const SECRETS_FOLDER: &str = "/run/secrets";
/// Names of the secret files.
pub const DATABASE_PASSWORD: &str = "postgres-password";
/// The copy of the same secret that n8n's user may read.
pub const N8N_DATABASE_PASSWORD: &str = "n8n-postgres-password";
/// n8n's encryption key.
pub const N8N_ENCRYPTION_KEY: &str = "n8n-encryption-key";
/// Name of n8n's database and of its user.
pub const DATABASE: &str = "n8n";
/// Name of the stack's folder for dumps of the database.
pub const BACKUPS: &str = "backups";
/// Where that folder appears in the database's container.
pub const BACKUPS_FOLDER: &str = "/var/lib/genesis-backups";
/// The port that n8n listens on within the stack's network.
pub const N8N_PORT: u16 = 5678;
/// Where n8n keeps its files in its container.
pub const N8N_FOLDER: &str = "/home/node/.n8n";
/// n8n's user in the official image (`node`).
pub const N8N_UID: u32 = 1000;
/// The database's user in the official image. Its secret belongs to this user, not to root: an entrypoint may read it
/// before or after it has become that user.
pub const POSTGRES_UID: u32 = 999;
/// How long n8n may take to finish running executions once it is asked to stop.
pub const N8N_GRACE_S: u64 = 30;

/// How the stack is set up on this droplet; from the agent's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StackSettings {
    /// Name of the network and prefix of the containers' names.
    pub name: String,
    /// Absolute path of the folder for everything that the containers keep.
    pub folder: String,
    /// The engine's socket.
    pub engine_socket: String,
    /// The images at first start; afterwards what was swapped in counts.
    pub images: BTreeMap<Service, ImageRef>,
    /// The host name that always leads to n8n.
    pub host: String,
    /// The droplet's address as the world sees it; host names must lead there. Absent means that none can be added.
    pub public_ip: Option<core::net::IpAddr>,
    /// Address on which the proxy is published.
    pub publish_ip: String,
    /// The proxy's port for HTTP on the host.
    pub http_port: u16,
    /// The proxy's port for HTTPS on the host.
    pub https_port: u16,
    /// n8n's port on the host's loopback.
    pub n8n_port: u16,
    /// The database's port on the host's loopback.
    pub postgres_port: u16,
    /// MiB to size the stack for; absent means the machine's.
    pub memory_mb: Option<u64>,
    /// The certificate authority's directory; absent means Let's Encrypt; `internal` means the proxy's own.
    pub acme_directory: Option<String>,
    /// PEM file of the authority that the ACME server is to be believed by; absent means the system's.
    pub acme_ca_file: Option<String>,
    /// Time zone of the tenant's schedules.
    pub timezone: String,
}

/// What the journal knows of the stack.
///
/// IMPORTANT: on disk in running droplets; only add optional fields.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StackRow {
    /// Images that were swapped in; a service that is not named runs the configured one.
    #[serde(default)]
    pub images: BTreeMap<Service, ImageRef>,
    /// What was there before a service's last swap, kept until it has proved itself.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub previous: BTreeMap<Service, Previous>,
    /// Host names beside the configured one; `true` for the primary one.
    #[serde(default)]
    pub domains: BTreeMap<String, bool>,
    /// n8n was stopped so that the machine may be switched off; the next boot ends it.
    #[serde(default)]
    pub quiesced: bool,
    /// The boot during which that was.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub quiesced_boot: String,
    /// n8n was stopped until the service is resumed.
    #[serde(default)]
    pub suspended: bool,
}

/// What a swap left behind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Previous {
    /// The image before.
    pub image: ImageRef,
    /// Until when it is kept, and the copy of the database with it.
    pub until: Timestamp,
}

impl StackRow {
    /// The image that a service is to run.
    pub fn image<'a>(&'a self, service: Service, settings: &'a StackSettings) -> Option<&'a ImageRef> {
        self.images.get(&service).or_else(|| settings.images.get(&service))
    }

    /// Whether n8n was told to stay stopped, as seen during this boot of the machine.
    pub fn is_at_rest(&self, boot: &str) -> bool {
        self.suspended || (self.quiesced && self.quiesced_boot == boot)
    }

    /// Every image that must not be removed: what runs, and what a way back needs.
    pub fn kept_images(&self, settings: &StackSettings) -> Vec<ImageRef> {
        let present = Service::ALL.into_iter().filter_map(|service| self.image(service, settings));
        present.chain(self.previous.values().map(|previous| &previous.image)).cloned().collect()
    }

    /// The same when what has outlived its time is not kept any longer; `None` if there is no such thing.
    pub fn without_expired(&self, now: Timestamp) -> Option<Self> {
        let mut stack = self.clone();
        stack.previous.retain(|_, previous| previous.until > now);
        (stack != *self).then_some(stack)
    }

    /// Whether the copy of the database is still what a way back would need. That of the proxy needs none.
    pub fn needs_copy(&self) -> bool {
        self.previous.keys().any(|service| *service != Service::Caddy)
    }

    /// The host name that webhooks are told to the world with.
    pub fn primary_host<'a>(&'a self, settings: &'a StackSettings) -> &'a str {
        let primary = self.domains.iter().find(|(_, primary)| **primary);
        primary.map_or(settings.host.as_str(), |(host, _)| host.as_str())
    }

    /// Every host name that leads to n8n, the configured one first.
    pub fn hosts<'a>(&'a self, settings: &'a StackSettings) -> Vec<&'a str> {
        let others = self.domains.keys().map(String::as_str).filter(|host| *host != settings.host);
        std::iter::once(settings.host.as_str()).chain(others).collect()
    }
}

/// How a stack is cut for a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// A machine of at least this many MiB; the table's first row serves smaller ones, too.
    pub machine_mb: u64,
    /// Limit of n8n's container, both of its processes. Measured: 272 MiB at rest, 388 while starting with this heap.
    pub n8n_mb: u64,
    /// Node's old space in n8n's main process.
    pub heap_mb: u64,
    /// Limit of the database's container. Measured: 47 MiB at rest, 102 while it makes its first files.
    pub postgres_mb: u64,
    /// The database's shared buffers.
    pub shared_buffers_mb: u64,
    /// Limit of the proxy's container. Measured: 16 MiB at rest, 50 with 500 held requests, 82 when all of them are answered.
    pub caddy_mb: u64,
    /// Executions at the same time; more wait in n8n.
    pub concurrency: u32,
}

/// 1, 2, 4 and 8 GB. What a provider sells as 1 GB shows as some 970 MiB, hence the odd limits.
pub const SIZES: [Sizes; 4] = [
    Sizes {
        machine_mb: 0,
        n8n_mb: 512,
        heap_mb: 320,
        postgres_mb: 160,
        shared_buffers_mb: 32,
        caddy_mb: 96,
        concurrency: 10,
    },
    Sizes {
        machine_mb: 1_800,
        n8n_mb: 1_200,
        heap_mb: 768,
        postgres_mb: 320,
        shared_buffers_mb: 64,
        caddy_mb: 128,
        concurrency: 20,
    },
    Sizes {
        machine_mb: 3_600,
        n8n_mb: 2_560,
        heap_mb: 1_792,
        postgres_mb: 640,
        shared_buffers_mb: 160,
        caddy_mb: 192,
        concurrency: 40,
    },
    Sizes {
        machine_mb: 7_200,
        n8n_mb: 5_632,
        heap_mb: 4_096,
        postgres_mb: 1_280,
        shared_buffers_mb: 320,
        caddy_mb: 256,
        concurrency: 80,
    },
];

/// The row of the table for a machine.
pub fn sizes(machine_mb: u64) -> &'static Sizes {
    SIZES.iter().rev().find(|row| machine_mb >= row.machine_mb).unwrap_or(&SIZES[0])
}

/// The container that a service is to be, on a machine of so much memory, with this image.
pub fn spec(
    service: Service,
    image: &ImageRef,
    settings: &StackSettings,
    row: &StackRow,
    machine_mb: u64,
) -> ContainerSpec {
    let sizes = sizes(settings.memory_mb.unwrap_or(machine_mb));
    match service {
        Service::Postgres => postgres(image, settings, sizes),
        Service::N8n => n8n(image, settings, row, sizes),
        Service::Caddy => caddy(image, settings, sizes),
    }
}

fn blank(service: Service, image: &ImageRef) -> ContainerSpec {
    ContainerSpec {
        service,
        image: image.clone(),
        command: vec![],
        user: String::new(),
        env: BTreeMap::new(),
        mounts: vec![],
        ports: vec![],
        memory_mb: 0,
        cpu_shares: 1024,
        oom_score_adj: 0,
        shm_mb: 64,
        stop_grace_s: 10,
        stop_signal: String::new(),
        health_command: vec![],
        capabilities: vec![],
    }
}

fn postgres(image: &ImageRef, settings: &StackSettings, sizes: &Sizes) -> ContainerSpec {
    let setting = |name: &str, value: String| ["-c".to_owned(), format!("{name}={value}")];
    let command = ["postgres".to_owned()]
        .into_iter()
        .chain(setting("shared_buffers", format!("{}MB", sizes.shared_buffers_mb)))
        .chain(setting("max_connections", "40".into()))
        .collect();
    let env = [
        ("POSTGRES_USER", DATABASE.to_owned()),
        ("POSTGRES_DB", DATABASE.to_owned()),
        ("POSTGRES_PASSWORD_FILE", format!("{SECRETS_FOLDER}/{DATABASE_PASSWORD}")),
    ];
    ContainerSpec {
        command,
        env: texts(env),
        mounts: vec![
            folder(settings, "postgres", "/var/lib/postgresql/data", 0),
            folder(settings, BACKUPS, BACKUPS_FOLDER, 0),
            secret(settings, DATABASE_PASSWORD),
        ],
        ports: vec![loopback(settings.postgres_port, 5432)],
        memory_mb: sizes.postgres_mb,
        // The database is what must not die: everything else can be started again without a loss.
        oom_score_adj: -300,
        shm_mb: 64,
        stop_grace_s: 60,
        // "Fast": rolls back what is open and stops, instead of waiting for every client to leave.
        stop_signal: "SIGINT".into(),
        health_command: ["pg_isready", "-q", "-U", DATABASE].map(str::to_owned).to_vec(),
        // Its entrypoint gives the data folder to the database's user and becomes that user.
        capabilities: vec!["CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID"],
        ..blank(Service::Postgres, image)
    }
}

fn n8n(image: &ImageRef, settings: &StackSettings, row: &StackRow, sizes: &Sizes) -> ContainerSpec {
    let host = row.primary_host(settings);
    let env = [
        ("DB_TYPE", "postgresdb".to_owned()),
        ("DB_POSTGRESDB_HOST", Service::Postgres.name().to_owned()),
        ("DB_POSTGRESDB_DATABASE", DATABASE.to_owned()),
        ("DB_POSTGRESDB_USER", DATABASE.to_owned()),
        ("DB_POSTGRESDB_PASSWORD_FILE", format!("{SECRETS_FOLDER}/{N8N_DATABASE_PASSWORD}")),
        ("N8N_ENCRYPTION_KEY_FILE", format!("{SECRETS_FOLDER}/{N8N_ENCRYPTION_KEY}")),
        ("N8N_HOST", host.to_owned()),
        ("N8N_PROTOCOL", "https".to_owned()),
        ("N8N_PROXY_HOPS", "1".to_owned()),
        ("WEBHOOK_URL", format!("https://{host}/")),
        ("GENERIC_TIMEZONE", settings.timezone.clone()),
        ("TZ", settings.timezone.clone()),
        ("EXECUTIONS_DATA_PRUNE", "true".to_owned()),
        ("EXECUTIONS_DATA_MAX_AGE", "168".to_owned()),
        ("EXECUTIONS_DATA_PRUNE_MAX_COUNT", "10000".to_owned()),
        ("N8N_CONCURRENCY_PRODUCTION_LIMIT", sizes.concurrency.to_string()),
        ("N8N_GRACEFUL_SHUTDOWN_TIMEOUT", N8N_GRACE_S.to_string()),
        ("N8N_DIAGNOSTICS_ENABLED", "false".to_owned()),
        ("N8N_VERSION_NOTIFICATIONS_ENABLED", "false".to_owned()),
        ("N8N_TEMPLATES_ENABLED", "false".to_owned()),
        ("N8N_PERSONALIZATION_ENABLED", "false".to_owned()),
        ("N8N_ENFORCE_SETTINGS_FILE_PERMISSIONS", "true".to_owned()),
        ("NODE_OPTIONS", format!("--max-old-space-size={}", sizes.heap_mb)),
    ];
    ContainerSpec {
        env: texts(env),
        mounts: vec![
            folder(settings, "n8n", N8N_FOLDER, N8N_UID),
            secret(settings, N8N_DATABASE_PASSWORD),
            secret(settings, N8N_ENCRYPTION_KEY),
        ],
        ports: vec![loopback(settings.n8n_port, N8N_PORT)],
        memory_mb: sizes.n8n_mb,
        cpu_shares: 512,
        oom_score_adj: 500,
        // Beyond n8n's own limit, so that it is never killed while it finishes within it.
        stop_grace_s: N8N_GRACE_S + 10,
        ..blank(Service::N8n, image)
    }
}

fn caddy(image: &ImageRef, settings: &StackSettings, sizes: &Sizes) -> ContainerSpec {
    let published = |host_port: u16, container_port: u16, protocol: &'static str| Port {
        host_ip: settings.publish_ip.clone(),
        host_port,
        container_port,
        protocol,
    };
    let config = format!("{PROXY_FOLDER}/caddy.json");
    ContainerSpec {
        command: ["caddy", "run", "--config", &config].map(str::to_owned).to_vec(),
        // Left to itself it fills nine tenths of its limit before it tidies up, and its own program, 38 MiB that the kernel
        // reads again and again, does not fit beside that: seen to stand still after 500 held requests.
        env: texts([("GOMEMLIMIT", format!("{}MiB", sizes.caddy_mb * 6 / 10))]),
        mounts: vec![
            folder(settings, "proxy", PROXY_FOLDER, 0),
            folder(settings, "caddy-data", "/data", 0),
            folder(settings, "caddy-config", "/config", 0),
        ],
        ports: vec![
            published(settings.http_port, 80, "tcp"),
            published(settings.https_port, 443, "tcp"),
            published(settings.https_port, 443, "udp"),
        ],
        memory_mb: sizes.caddy_mb,
        cpu_shares: 2048,
        oom_score_adj: 100,
        // The binary asks for it by itself and is not started without it.
        capabilities: vec!["NET_BIND_SERVICE"],
        ..blank(Service::Caddy, image)
    }
}

fn texts<const N: usize>(pairs: [(&str, String); N]) -> BTreeMap<String, String> {
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn folder(settings: &StackSettings, name: &str, target: &str, owner_uid: u32) -> Mount {
    Mount { source: format!("{}/{name}", settings.folder), target: target.into(), read_only: false, owner_uid }
}

fn secret(settings: &StackSettings, name: &str) -> Mount {
    Mount {
        source: format!("{}/secrets/{name}", settings.folder),
        target: format!("{SECRETS_FOLDER}/{name}"),
        read_only: true,
        owner_uid: 0,
    }
}

fn loopback(host_port: u16, container_port: u16) -> Port {
    Port { host_ip: "127.0.0.1".into(), host_port, container_port, protocol: "tcp" }
}

/// Settings for tests of the core: the proxy's own authority, everything else as it comes.
#[cfg(test)]
pub(crate) fn settings_for_tests() -> StackSettings {
    StackSettings {
        name: "genesis".into(),
        folder: "/var/lib/genesis/stack".into(),
        engine_socket: "/var/run/docker.sock".into(),
        images: BTreeMap::new(),
        host: "droplet.example".into(),
        public_ip: Some(core::net::Ipv4Addr::new(192, 0, 2, 7).into()),
        publish_ip: "0.0.0.0".into(),
        http_port: 80,
        https_port: 443,
        n8n_port: N8N_PORT,
        postgres_port: 5432,
        memory_mb: None,
        acme_directory: Some("internal".into()),
        acme_ca_file: None,
        timezone: "UTC".into(),
    }
}
