//! The hands for the stack: the container engine, the proxy, the database behind n8n.

use std::collections::BTreeMap;
use std::time::Duration;

use genesis_shared::id::Digest;
use genesis_shared::secret::Secret;
use genesis_shared::stack::{ImageRef, Service};
use genesis_shared::timestamp::Timestamp;
use serde_json::Value;

use super::EffectError;

/// What the engine says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EngineInfo {
    /// For example `28.1.1`.
    pub version: String,
    /// Name of the driver for logs.
    pub log_driver: String,
    /// Whether memory limits of containers take effect.
    pub limits_memory: bool,
    /// Whether logs are bounded, or kept elsewhere, for containers that say nothing of it.
    pub limits_logs: bool,
    /// Free MiB where images are kept, where that can be told.
    pub free_mb: Option<u64>,
}

/// An image that the engine holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageInfo {
    /// The engine's id, `sha256:…` of the image's configuration.
    pub id: String,
    /// MiB on disk, shared layers counted in.
    pub size_mb: u64,
    /// Environment that it was built with, for example `PG_MAJOR`.
    pub env: BTreeMap<String, String>,
}

/// One container as it is to be. Everything in it is decided in `core`; the port only carries it out.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct ContainerSpec {
    /// Which.
    pub service: Service,
    /// What it runs.
    pub image: ImageRef,
    /// The command instead of the image's own; empty for the image's own.
    pub command: Vec<String>,
    /// `user[:group]`; empty for the image's own.
    pub user: String,
    /// Environment. Nothing secret in it: `docker inspect` shows it.
    pub env: BTreeMap<String, String>,
    /// Mounts in order.
    pub mounts: Vec<Mount>,
    /// Ports that the host publishes.
    pub ports: Vec<Port>,
    /// Memory limit in MiB; swap beyond it as much as the kernel has.
    pub memory_mb: u64,
    /// Share of the processor against the others under load; 1024 is the usual.
    pub cpu_shares: u32,
    /// Whom the kernel kills first when memory ends: -1000 never to 1000 first.
    pub oom_score_adj: i32,
    /// MiB of shared memory.
    pub shm_mb: u64,
    /// Seconds between the wish to stop and the kill.
    pub stop_grace_s: u64,
    /// The signal that asks it to stop; empty for the image's own.
    pub stop_signal: String,
    /// Health check of the engine; none where the agent looks by itself.
    pub health_command: Vec<String>,
    /// The kernel capabilities that it keeps; it is stripped of all others.
    pub capabilities: Vec<&'static str>,
}

impl ContainerSpec {
    /// What the container made from it is labelled with: equal specs, equal digests.
    ///
    /// # Panics
    /// Never: the spec is texts and numbers.
    pub fn digest(&self) -> Digest {
        Digest::of(&serde_json::to_vec(self).expect("texts and numbers can be written as JSON"))
    }
}

/// A folder or volume within a container.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Mount {
    /// An absolute path on the host. A folder that is missing is made, 0700; a file must be there.
    pub source: String,
    /// Where it appears.
    pub target: String,
    /// Whether it cannot be written there.
    pub read_only: bool,
    /// Who owns the folder when the port has to make it; 0 is root.
    pub owner_uid: u32,
}

/// A port that the host publishes.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Port {
    /// Address on the host.
    pub host_ip: String,
    /// Port on the host.
    pub host_port: u16,
    /// Port within the container.
    pub container_port: u16,
    /// `tcp` or `udp`.
    pub protocol: &'static str,
}

/// What a container is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContainerPhase {
    /// Made and never started, or half-made.
    Created,
    /// Running.
    Running,
    /// The engine starts it again by and by.
    Restarting,
    /// Stopped, with what it answered.
    Exited(i64),
    /// Anything else: paused, dead, being removed.
    Other,
}

/// A container that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerInfo {
    /// The engine's id.
    pub id: String,
    /// The image's id, `sha256:…`.
    pub image_id: String,
    /// What it is at.
    pub phase: ContainerPhase,
    /// Digest of the spec it was made from; empty if it is not ours.
    pub spec_digest: String,
    /// Restarts by the engine since it was made.
    pub restarts: u64,
    /// Whether its last end was for want of memory.
    pub oom_killed: bool,
    /// Its process on the host, while it runs.
    pub pid: Option<u32>,
    /// When it was started last.
    pub started_at: Option<Timestamp>,
}

/// The container engine, as far as one stack needs it. Containers carry the stack's name and their service's.
///
/// Codes of its errors:
///
/// | code | kind | when |
/// |---|---|---|
/// | `engine_unreachable` | Transient | nobody answers at the socket |
/// | `engine_silent` | Ambiguous | it took the request and did not answer, or broke off |
/// | `image_missing` | Permanent | the image is not here: pull it first |
/// | `image_not_found` | Permanent | the registry has no such image, or does not give it to us |
/// | `registry_unreachable` | Transient | the registry does not answer, or asks for patience |
/// | `disk_full` | Transient | no space left |
/// | `port_taken` | Transient | somebody else has the port that is to be published |
/// | `container_missing` | Permanent | there is no such container: create it first |
/// | `container_stopped` | Transient | it has to run for this, and does not |
/// | `mount_missing` | Permanent | a file that is to be mounted is not there: place it first |
/// | `folder_unusable` | Permanent | a folder or file of the stack cannot be made, written or removed |
/// | `program_failed` | Permanent | a program in the container ended with another code than 0 |
/// | `engine_refused` | Permanent | anything else, with the engine's words |
pub trait Containers {
    /// Whether it answers, and what it is.
    async fn engine(&self) -> Result<EngineInfo, EffectError>;
    /// The image if it is here: by digest, or by id.
    async fn image(&self, image: &ImageRef) -> Result<Option<ImageInfo>, EffectError>;
    /// Brings the image here. Idempotent.
    async fn pull(&self, image: &ImageRef) -> Result<ImageInfo, EffectError>;
    /// Removes every image that no container uses and that is none of these; answers the bytes that became free, as
    /// the disk shows it.
    async fn prune(&self, keep: &[ImageRef]) -> Result<u64, EffectError>;
    /// Puts a secret file where the specs mount it from (`<folder>/secrets/<name>`), 0400 and owned by this user.
    /// Idempotent; an equal file is left alone.
    fn place_secret(&self, name: &str, owner_uid: u32, content: &Secret<Vec<u8>>) -> Result<(), EffectError>;
    /// Makes the stack's network exist. Idempotent.
    async fn ensure_network(&self) -> Result<(), EffectError>;
    /// The service's container, if there is one.
    async fn container(&self, service: Service) -> Result<Option<ContainerInfo>, EffectError>;
    /// Makes the container, not started. One of that name that is there is stopped and removed first, its folders kept.
    async fn create(&self, spec: &ContainerSpec) -> Result<(), EffectError>;
    /// Starts it. Idempotent. What n8n leaves behind when it is killed, and what makes its next start wait ten seconds
    /// (`crash.journal`), is removed before.
    async fn start(&self, service: Service) -> Result<(), EffectError>;
    /// Asks it to stop and kills it after its grace; answers its exit code, 0 for one that never ran. Takes no longer
    /// than its grace and [`STOP_MARGIN`]. Idempotent; `None` if there is no such container.
    async fn stop(&self, service: Service) -> Result<Option<i64>, EffectError>;
    /// Removes it, stopping it first where it runs; its folders stay. Idempotent.
    async fn remove(&self, service: Service) -> Result<(), EffectError>;
    /// Removes the stack's containers, network and folder. Idempotent. Only where a destructive command asks for it.
    async fn remove_data(&self) -> Result<(), EffectError>;
    /// Runs a program within a running container and answers what it wrote; Permanent `program_failed` with its
    /// last words when it ends with another code than 0.
    async fn run(&self, service: Service, argv: &[&str]) -> Result<String, EffectError>;
    /// The last lines of its log since a moment, oldest first, each with its time; at most `max_bytes`, the newest kept.
    async fn logs(
        &self,
        service: Service,
        lines: u32,
        since: Option<Timestamp>,
        max_bytes: usize,
    ) -> Result<String, EffectError>;
}

/// The proxy in front of n8n. It runs as a container of the stack; its admin socket is in a folder that only it and
/// the agent see.
///
/// Codes: `proxy_unreachable` (Transient), `proxy_refused_config` (Permanent: the old configuration stays).
pub trait Proxy {
    /// Where the folder is that its container shares with the agent.
    fn shared_folder(&self) -> String;
    /// Puts the configuration where a starting proxy reads it. Idempotent.
    fn keep_config(&self, config: &Value) -> Result<(), EffectError>;
    /// The configuration that it runs with.
    async fn config(&self) -> Result<Value, EffectError>;
    /// Makes it run with another one, and keeps that for its next start. Idempotent.
    async fn load(&self, config: &Value) -> Result<(), EffectError>;
    /// From when this answers, no request that comes in reaches n8n: each waits in the proxy. Idempotent; survives a
    /// restart of the agent, of the proxy and of the machine.
    async fn hold(&self) -> Result<(), EffectError>;
    /// Lets go what waits. Idempotent.
    fn release(&self) -> Result<(), EffectError>;
    /// Whether requests are held.
    fn is_held(&self) -> Result<bool, EffectError>;
    /// Requests that n8n has at this moment through the proxy; `None` where the proxy does not tell.
    async fn in_flight(&self) -> Option<u64>;
    /// When the certificate of a host name ends; `None` while there is none.
    async fn certificate_expires_at(&self, host: &str) -> Option<Timestamp>;
}

/// n8n's database.
///
/// Codes: `database_unreachable` (Transient), `database_in_use` (Transient: somebody is connected who must not be),
/// `disk_full` (Transient), `dump_missing` (Permanent: no such file in the backup folder), `database_refused`
/// (Permanent: anything else), and the engine's own ([`Containers`]).
pub trait Database {
    /// Whether it takes connections.
    async fn is_ready(&self) -> bool;
    /// Executions that run or are about to.
    async fn running_executions(&self) -> Result<u64, EffectError>;
    /// Copies n8n's database as it is now, beside it, replacing a former copy. Nobody may be connected to it.
    async fn snapshot(&self) -> Result<(), EffectError>;
    /// Puts the copy in the place of n8n's database and uses it up. Whoever is connected is thrown out. Safe to repeat
    /// after a crash at any moment: without a copy it does nothing and answers false, but for a repetition that finishes
    /// what was cut short, which answers true.
    async fn restore_snapshot(&self) -> Result<bool, EffectError>;
    /// Removes the copy. Idempotent.
    async fn drop_snapshot(&self) -> Result<(), EffectError>;
    /// Writes a dump of n8n's database into a file of the backup folder, replacing one of that name, and answers its
    /// bytes and digest (`sha256:…`). A file of that name is always whole. The newest
    /// [`genesis_shared::limits::BACKUPS_MAX`] dumps stay there, older ones go.
    async fn dump(&self, file: &str) -> Result<(u64, String), EffectError>;
    /// Replaces n8n's database by a dump. n8n must be stopped. All or nothing; can be repeated.
    async fn restore_dump(&self, file: &str) -> Result<(), EffectError>;
    /// When the last execution began; `None` if there was none.
    async fn last_execution_at(&self) -> Result<Option<Timestamp>, EffectError>;
    /// Removes records of executions that have ended, all but the newest thousand, and gives their room back to the
    /// disk; answers how many.
    async fn prune_executions(&self) -> Result<u64, EffectError>;
    /// MiB that n8n's database takes.
    async fn size_mb(&self) -> Result<u64, EffectError>;
}

/// How long the engine may take for a stop beyond the grace it was given.
pub const STOP_MARGIN: Duration = Duration::from_secs(10);
