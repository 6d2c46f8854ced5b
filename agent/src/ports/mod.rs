//! The hands: what the agent can do to the world, as traits in the agent's own words.
//!
//! Every method says what "already done" looks like and which [`ErrorKind`] it answers. Implementations: `real` (one
//! file per outside system) and `sim` (a pretend droplet).
#![allow(async_fn_in_trait, reason = "one task drives the agent; its futures need not be Send")]

pub mod no_stack;
pub mod slots;
pub mod stack;

use std::net::IpAddr;
use std::time::Duration;

use genesis_shared::id::{CredentialName, CredentialType, DropletId, WorkflowKey};
use genesis_shared::life::Life;
use genesis_shared::report::{Heartbeat, N8nStatus, OutboxRecord};
use genesis_shared::secret::Secret;
use genesis_shared::timestamp::Timestamp;
use genesis_shared::wire::{
    CommandsAnswer, HandshakeAnswer, HandshakeRequest, HeartbeatAnswer, Preflight, RenewAnswer, ResultsAnswer,
    TrustRootChain,
};
use serde_json::Value;

use crate::core::metrics::Execution;

/// What the caller may conclude from an error; nothing finer is needed to decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// It did not happen; the same call may succeed later.
    Transient,
    /// It did not happen, and will not however often it is tried.
    Permanent,
    /// It may have happened: observe before anything else.
    Ambiguous,
}

/// A port call that did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct EffectError {
    /// What may be concluded.
    pub kind: ErrorKind,
    /// Stable machine-readable name, for example `n8n_unreachable`.
    pub code: &'static str,
    /// What happened, for people. Holds no secret.
    pub message: String,
    /// How long the other side asked to wait.
    pub retry_after: Option<Duration>,
}

impl EffectError {
    /// An error without a wish to wait.
    pub fn new(kind: ErrorKind, code: &'static str, message: impl Into<String>) -> Self {
        Self { kind, code, message: message.into(), retry_after: None }
    }
}

/// A credential as n8n lists it; never its data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredentialInfo {
    /// n8n's id.
    pub id: String,
    /// n8n's display name.
    pub name: String,
    /// n8n's type.
    pub credential_type: String,
}

/// A workflow as n8n lists it, without its nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkflowInfo {
    /// n8n's id.
    pub id: String,
    /// n8n's display name.
    pub name: String,
    /// Whether it runs.
    pub active: bool,
    /// The version that the editor shows.
    pub version_id: Option<String>,
    /// The version that runs; n8n before 2.0 has none.
    pub active_version_id: Option<String>,
    /// The managed key in its marker, if it is ours.
    pub key: Option<WorkflowKey>,
}

/// The tenant's n8n. Its API key never leaves the droplet; every call first makes sure that there is one.
pub trait Workflows {
    /// Whether it answers; never an error, for that is one of the answers.
    async fn status(&self) -> N8nStatus;
    /// n8n's own version.
    async fn version(&self) -> Result<String, EffectError>;
    /// Base URL of production webhooks, as n8n itself computes it.
    async fn webhook_base(&self) -> Result<String, EffectError>;
    /// Every credential, all pages, each once.
    async fn credentials(&self) -> Result<Vec<CredentialInfo>, EffectError>;
    /// Creates a credential and answers its id. Not idempotent: observe first.
    async fn create_credential(
        &self,
        name: &str,
        credential_type: &CredentialType,
        data: &Secret<Vec<u8>>,
    ) -> Result<String, EffectError>;
    /// Replaces a credential's data. Idempotent. Permanent `n8n_cannot_update_credentials` where n8n is too old.
    async fn update_credential(&self, id: &str, data: &Secret<Vec<u8>>) -> Result<(), EffectError>;
    /// Deletes a credential. Idempotent: one that is gone is a success.
    async fn delete_credential(&self, id: &str) -> Result<(), EffectError>;
    /// Every workflow, all pages, each once.
    async fn workflows(&self) -> Result<Vec<WorkflowInfo>, EffectError>;
    /// One workflow without its nodes; `None` if there is none of that id.
    async fn workflow_info(&self, id: &str) -> Result<Option<WorkflowInfo>, EffectError>;
    /// One workflow with its nodes; `None` if there is none of that id.
    async fn workflow(&self, id: &str) -> Result<Option<Value>, EffectError>;
    /// Creates a workflow from an accepted body and answers its id. Not idempotent: observe first.
    async fn create_workflow(&self, body: &Value) -> Result<String, EffectError>;
    /// Replaces name, nodes, connections; merges settings. Idempotent. A refusal on an active workflow may have taken
    /// effect all the same.
    async fn update_workflow(&self, id: &str, body: &Value) -> Result<(), EffectError>;
    /// Makes a version run, the current one if none is given. Idempotent.
    async fn activate_workflow(&self, id: &str, version_id: Option<&str>) -> Result<(), EffectError>;
    /// Stops it. Idempotent.
    async fn deactivate_workflow(&self, id: &str) -> Result<(), EffectError>;
    /// Executions that began since, newest first, without their data; and whether there were more than are read.
    async fn executions(&self, since: Timestamp) -> Result<(Vec<Execution>, bool), EffectError>;
    /// Deletes it. Idempotent: one that is gone is a success.
    async fn delete_workflow(&self, id: &str) -> Result<(), EffectError>;
    /// Whether n8n knows a production webhook of this path. `method` must be one that the webhook does not take, so
    /// that asking runs nothing.
    async fn knows_webhook(&self, method: &'static str, path: &str) -> Result<bool, EffectError>;
}

/// The name that a managed credential carries in n8n. It is its marker: after a crash it tells whether the create
/// before it took place.
pub fn credential_marker(name: &CredentialName) -> String {
    format!("genesis/{name}")
}

/// Numbers of the host, from one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HostSample {
    /// Whole host, 0 to 100, since the sample before.
    pub cpu_usage_percent: f32,
    /// MiB in use.
    pub memory_usage_mb: u64,
    /// MiB in all.
    pub memory_total_mb: u64,
    /// Disk of the data folder in use, 0 to 100.
    pub disk_usage_percent: f32,
    /// MiB of swap in use.
    pub swap_used_mb: u64,
    /// Seconds since the host started.
    pub uptime_seconds: u64,
}

/// The machine.
pub trait Host {
    /// Current numbers.
    fn sample(&self) -> HostSample;
    /// What enrolment wants to know.
    fn preflight(&self) -> Preflight;
    /// MiB free where the data folder is; `None` where the system does not tell.
    fn free_mb(&self) -> Option<u64>;
    /// Makes a file of so many MiB whose only use is to be given up on a full disk; 0 removes it. Answers whether
    /// anything changed.
    fn set_ballast(&self, mb: u64) -> Result<bool, FileError>;
    /// The kernel's version; `None` where the system does not tell.
    fn kernel(&self) -> Option<String> {
        None
    }
    /// Whether nobody listens at this TCP port of an address; also where that cannot be found out.
    fn port_is_free(&self, _address: &str, _port: u16) -> bool {
        true
    }
    /// Differs for every start of the agent, also on two machines that were one.
    fn boot_epoch(&self) -> String;
    /// The provider's id of this machine, by its own metadata; `None` where nothing tells.
    fn droplet_id(&self) -> Option<DropletId> {
        None
    }
}

/// A file operation that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} {path}")]
pub struct FileError {
    /// `read`, `write`, `remove`.
    pub operation: &'static str,
    /// Which file.
    pub path: String,
    /// Why.
    #[source]
    pub source: std::io::Error,
}

/// Small secret files of the agent, each 0600 in the data folder. A write is atomic and survives power loss.
pub trait Files {
    /// The content, or `None` if there is no such file.
    ///
    /// # Errors
    /// It exists but cannot be read.
    fn read_secret(&self, name: &str) -> Result<Option<Secret<Vec<u8>>>, FileError>;
    /// Replaces the content.
    ///
    /// # Errors
    /// It is not certain that the new content is there; the old content is not lost.
    fn write_secret(&self, name: &str, content: &Secret<Vec<u8>>) -> Result<(), FileError>;
    /// Reads a file outside the data folder, such as the provisioning token.
    ///
    /// # Errors
    /// As [`Files::read_secret`].
    fn read_outside(&self, path: &str) -> Result<Option<Secret<Vec<u8>>>, FileError>;
    /// Removes a file outside the data folder; one that is gone is a success.
    ///
    /// # Errors
    /// It is still there.
    fn remove_outside(&self, path: &str) -> Result<(), FileError>;
}

/// The code of a renewal that the hub refuses because this identity made too many: only a new handshake helps.
pub const RENEWALS_USED_UP: &str = "renewals_used_up";

/// The hub, as this droplet may speak to it.
pub trait HubLink {
    /// What every later call but handshake and renewal is to say of this life of the agent.
    fn begin_life(&self, life: Life);
    /// Enrols. Idempotent within the life of the provisioning token.
    async fn handshake(&self, request: &HandshakeRequest) -> Result<HandshakeAnswer, EffectError>;
    /// Gets a new sidecar token for a JWT by the identity key. Permanent [`RENEWALS_USED_UP`] when it made too many.
    async fn renew(&self, droplet: &DropletId, assertion: String) -> Result<RenewAnswer, EffectError>;
    /// Asks whether it is there, without a token. Transient if nothing that believably is the hub answers.
    async fn reach(&self) -> Result<(), EffectError>;
    /// Reports health.
    async fn heartbeat(&self, token: &Secret<String>, beat: &Heartbeat) -> Result<HeartbeatAnswer, EffectError>;
    /// Waits up to `wait` for commands; an empty answer when none came.
    async fn poll(&self, token: &Secret<String>, wait: Duration, nonce: &str) -> Result<CommandsAnswer, EffectError>;
    /// The trust roots newer than a version, oldest first.
    async fn trust_roots(&self, token: &Secret<String>, after: u64) -> Result<TrustRootChain, EffectError>;
    /// Delivers outbox records. Idempotent by their numbers.
    async fn results(&self, token: &Secret<String>, records: &[OutboxRecord]) -> Result<ResultsAnswer, EffectError>;
}

/// Time.
pub trait Clock {
    /// Wall clock; may jump.
    fn now(&self) -> Timestamp;
    /// Time since some fixed moment; never jumps back.
    fn monotonic(&self) -> Duration;
    /// Waits.
    async fn sleep(&self, duration: Duration);
}

/// Randomness.
pub trait Entropy {
    /// Fills with random bytes fit for keys.
    fn fill(&self, bytes: &mut [u8]);

    /// A random number.
    fn number(&self) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }
}

/// The domain name system.
pub trait Names {
    /// The addresses that a host name leads to; empty if there are none. Transient `names_unreachable`.
    async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, EffectError>;
}

/// All ports of one droplet.
pub trait World {
    /// n8n.
    type Workflows: Workflows;
    /// The machine.
    type Host: Host;
    /// Small files.
    type Files: Files;
    /// The hub.
    type Hub: HubLink;
    /// Time.
    type Clock: Clock;
    /// Randomness.
    type Entropy: Entropy;
    /// The container engine.
    type Containers: stack::Containers;
    /// The proxy in front of n8n.
    type Proxy: stack::Proxy;
    /// The domain name system.
    type Names: Names;
    /// n8n's database.
    type Database: stack::Database;
    /// The agent's own binaries.
    type Slots: slots::Slots;

    /// n8n.
    fn workflows(&self) -> &Self::Workflows;
    /// The machine.
    fn host(&self) -> &Self::Host;
    /// Small files.
    fn files(&self) -> &Self::Files;
    /// The hub.
    fn hub(&self) -> &Self::Hub;
    /// Time.
    fn clock(&self) -> &Self::Clock;
    /// Randomness.
    fn entropy(&self) -> &Self::Entropy;
    /// The container engine.
    fn containers(&self) -> &Self::Containers;
    /// The proxy in front of n8n.
    fn proxy(&self) -> &Self::Proxy;
    /// n8n's database.
    fn database(&self) -> &Self::Database;
    /// The domain name system.
    fn names(&self) -> &Self::Names;
    /// The agent's own binaries.
    fn slots(&self) -> &Self::Slots;
}
