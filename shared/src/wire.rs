//! Requests and answers of the hub's API (protocol.md); both sides compile against these types.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::id::{BundleId, Digest, DropletId, JobId, LeaseId, PublicKey, WorkspaceId};
use crate::life::{LifeView, Quarantine};
use crate::report::{CommandResult, Heartbeat, OutboxRecord};
use crate::timestamp::Timestamp;

/// Prefix of every path of the agent plane.
pub const SIDECAR_PATH: &str = "/api/v1/sidecar";
/// Prefix of every path of the operator and dashboard plane.
pub const OPERATOR_PATH: &str = "/api/v1";

/// Every error answer: a problem document (RFC 9457, `application/problem+json`) with a code of our own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ErrorBody {
    /// The problem's type: `urn:genesis:problem:` and the code.
    #[serde(rename = "type", default)]
    pub kind: String,
    /// The status in words.
    #[serde(default)]
    pub title: String,
    /// The HTTP status.
    #[serde(default)]
    pub status: u16,
    /// Stable machine-readable name, for example `bundle_expired`.
    pub code: String,
    /// What happened and what to do.
    pub message: String,
    /// The same as `message`, under the name that problem documents have for it.
    #[serde(default)]
    pub detail: String,
    /// Whether the same request may succeed later.
    pub retryable: bool,
    /// Finds the request in the hub's log.
    pub request_id: String,
}

impl ErrorBody {
    /// A problem document.
    pub fn new(status: u16, title: &str, code: &str, message: String, retryable: bool, request_id: String) -> Self {
        let kind = format!("urn:genesis:problem:{code}");
        let (title, code, detail) = (title.to_owned(), code.to_owned(), message.clone());
        Self { kind, title, status, code, message, detail, retryable, request_id }
    }
}

/// What the droplet found out about its host before enrolling.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Preflight {
    /// MiB of swap.
    pub swap_total_mb: u64,
    /// MiB of memory.
    pub memory_total_mb: u64,
    /// MiB free where the data folder is.
    pub disk_free_mb: u64,
    /// Logical processors.
    pub cpus: u32,
    /// The kernel's version, where the system tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,
    /// The container engine's version; absent where none answered or the agent looks after no stack.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub docker_version: Option<String>,
    /// Whether the engine bounds the logs of containers that do not bound their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_limits_ok: Option<bool>,
    /// Whether limits of memory take effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_limits_ok: Option<bool>,
    /// What the stack would miss on this machine, most pressing first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Finding>,
}

/// Something that is wrong with a droplet, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Finding {
    /// Stable machine-readable name.
    pub code: String,
    /// What is wrong and what to do.
    pub message: String,
}

/// `POST sidecar/handshake`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct HandshakeRequest {
    /// The one-time token from cloud-init, 64 hex digits.
    pub provisioning_token: String,
    /// The tenant that the token was issued for.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = "uuid"))]
    pub workspace_id: WorkspaceId,
    /// The droplet that the token was issued for.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub droplet_id: DropletId,
    /// As the metadata service gave it; the hub records beside it what it saw itself.
    pub droplet_ip: Option<String>,
    /// n8n's public base URL for webhooks.
    pub webhook_url: Option<String>,
    /// The agent's version.
    pub agent_version: String,
    /// n8n's version, if it already answers.
    pub n8n_version: Option<String>,
    /// Ed25519 key made on the droplet; it is the droplet's identity from now on.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub identity_key: PublicKey,
    /// X25519 key made on the droplet; secrets are sealed to it.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub sealing_key: PublicKey,
    /// Differs for every start of the agent.
    pub boot_epoch: String,
    /// Highest outbox record number.
    pub journal_high_water: u64,
    /// Number of the first outbox record that this droplet has still to deliver, 1 on a fresh one: where the hub
    /// begins to count for a new identity, whose journal may be older than it.
    pub outbox_next: u64,
    /// The host.
    pub preflight: Preflight,
    /// Signature of `identity_key` over [`handshake_proof`], base64url without padding.
    pub proof: String,
}

/// What the identity key signs in a handshake: possession, and that no other field was exchanged on the way.
pub fn handshake_proof(request: &HandshakeRequest) -> Vec<u8> {
    let token = Digest::of(request.provisioning_token.as_bytes());
    let HandshakeRequest { workspace_id, droplet_id, identity_key, sealing_key, .. } = request;
    format!("genesis-handshake-v1\n{token}\n{workspace_id}\n{droplet_id}\n{identity_key}\n{sealing_key}").into_bytes()
}

/// What the hub asks of the agent's pace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AgentConfig {
    /// Seconds between heartbeats.
    pub heartbeat_interval_s: u64,
    /// Seconds that a poll may wait.
    pub poll_wait_s: u64,
    /// Seconds between metrics reports.
    pub metrics_interval_s: u64,
    /// Seconds between reconciliations.
    pub reconcile_interval_s: u64,
}

/// Answer to a handshake.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct HandshakeAnswer {
    /// Bearer token for the agent plane.
    pub sidecar_token: String,
    /// When it ends.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = "date-time"))]
    pub token_expires_at: Timestamp,
    /// Pace.
    pub config: AgentConfig,
    /// Signed trust roots, oldest first, each as the exact text that was signed.
    pub trust_root: Vec<String>,
}

/// `POST sidecar/renew`: a JWT by the identity key, claims [`RenewClaims`], `kid` = droplet id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RenewRequest {
    /// The signed JWT.
    pub assertion: String,
}

/// `aud` of a renewal assertion.
pub const RENEW_AUDIENCE: &str = "genesis-hub";

/// Claims of a renewal assertion.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RenewClaims {
    /// The droplet.
    pub sub: DropletId,
    /// [`RENEW_AUDIENCE`].
    pub aud: String,
    /// Seconds since the epoch, by the droplet's clock, which may be wrong: the hub accepts what it has not seen.
    pub iat: i64,
    /// Random; each is accepted once.
    pub jti: String,
}

/// Answer to a renewal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RenewAnswer {
    /// The new bearer token; older ones stay good until this one is used.
    pub sidecar_token: String,
    /// When it ends.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = "date-time"))]
    pub token_expires_at: Timestamp,
}

/// `POST sidecar/heartbeat` takes a [`Heartbeat`] and answers this.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct HeartbeatAnswer {
    /// Whether commands wait for this droplet.
    pub work_waiting: bool,
    /// Seconds until the next heartbeat.
    pub next_interval_s: u64,
    /// The hub's clock, for the droplet's offset.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = "date-time"))]
    pub hub_time: Timestamp,
    /// A new token, when the old one nears its end.
    pub rotated: Option<RenewAnswer>,
    /// Whether the droplet may change nothing until an operator resumes it.
    #[serde(default)]
    pub quarantined: bool,
    /// Where the hub's audit chain is, signed by its delivery key (see [`crate::audit`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit_checkpoint: Option<String>,
}

/// One leased command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LeasedCommand {
    /// This hand-out.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = "uuid"))]
    pub lease_id: LeaseId,
    /// The job.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = "uuid"))]
    pub job_id: JobId,
    /// The signed bundle: the exact text that was pushed.
    pub bundle: String,
    /// The delivery token for this hand-out.
    pub delivery_token: String,
}

/// Answer of `GET sidecar/commands?wait=…&nonce=…`; 204 without a body when there is none and no quarantine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CommandsAnswer {
    /// In the order in which to run them.
    pub commands: Vec<LeasedCommand>,
    /// Version of the latest trust root. A droplet that has an older one fetches what is between before it admits any
    /// of the commands, so that a revocation reaches it first.
    #[serde(default)]
    pub trust_root_version: u64,
    /// Whether the droplet may change nothing until an operator resumes it; the commands then only look.
    #[serde(default)]
    pub quarantined: bool,
}

/// `POST sidecar/results`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ResultsRequest {
    /// The oldest that wait, in ascending `seq`, none left out; a number that is missing gave way in a full outbox.
    pub records: Vec<OutboxRecord>,
}

/// Answer to `POST sidecar/results`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ResultsAnswer {
    /// All records up to this one that were sent are durably stored.
    pub stored_up_to: u64,
}

/// `POST droplets`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct DropletCreate {
    /// The tenant; one droplet per tenant.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = "uuid"))]
    pub workspace_id: WorkspaceId,
    /// The provider's id.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub droplet_id: DropletId,
    /// For people.
    #[serde(default)]
    pub name: Option<String>,
    /// Provider region, for example `fra1`.
    #[serde(default)]
    pub region: Option<String>,
    /// Free labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

/// Answer to `POST droplets` and `POST droplets/{id}/provisioning-token`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ProvisioningToken {
    /// The droplet.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub droplet_id: DropletId,
    /// Shown once; the hub keeps its digest only.
    pub provisioning_token: String,
    /// Fifteen minutes from now.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = "date-time"))]
    pub expires_at: Timestamp,
    /// What to give to the provider as user-data; holds the token. Absent where the hub's configuration has no
    /// `[first_boot]`, and in answers for a droplet that is there already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_data: Option<String>,
}

/// A droplet as the hub knows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DropletView {
    /// The provider's id.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub droplet_id: DropletId,
    /// The tenant.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = "uuid"))]
    pub workspace_id: WorkspaceId,
    /// For people.
    pub name: Option<String>,
    /// Provider region.
    pub region: Option<String>,
    /// Free labels.
    pub labels: BTreeMap<String, String>,
    /// `pending` before the handshake, then `active`.
    pub lifecycle: String,
    /// One name for people, derived from lifecycle, liveness and condition: `HANDSHAKE_PENDING`, `ACTIVE_HEALTHY`, …
    pub state: String,
    /// Where secrets for this droplet are sealed to; absent before the handshake.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub sealing_key: Option<PublicKey>,
    /// When it enrolled.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = "date-time"))]
    pub enrolled_at: Option<Timestamp>,
    /// When it was last heard of.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = "date-time"))]
    pub last_seen_at: Option<Timestamp>,
    /// The latest health report.
    pub health: Option<Heartbeat>,
    /// Why it gets no changing command, until an operator resumes it.
    #[serde(default)]
    pub quarantine: Option<Quarantine>,
    /// The lives of its agent that the hub remembers, the present one first; only where one droplet is shown.
    #[serde(default)]
    pub lives: Vec<LifeView>,
}

/// A page of a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// Give this as `cursor` for the next page; absent on the last.
    pub next_cursor: Option<String>,
}

/// Something that happened that somebody may have to look at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct EventView {
    /// Grows with every event.
    pub number: i64,
    /// When the hub heard of it.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = "date-time"))]
    pub at: Timestamp,
    /// Stable machine-readable name, for example `applied_by_hand` or `dead_letter`.
    pub code: String,
    /// For people.
    pub message: String,
    /// Whom it is about.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub droplet_id: Option<DropletId>,
    /// Which job it is about; one that was applied by hand is in no list of jobs.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = "uuid"))]
    pub job_id: Option<JobId>,
}

/// Answer to `POST bundles`. The same bundle again gives the same answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PushAnswer {
    /// The bundle.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = "uuid"))]
    pub bundle_id: BundleId,
    /// One job per target.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub job_ids: Vec<JobId>,
    /// Where its waves can be followed, if the bundle asks for a rollout: `GET rollouts/{id}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = "uuid"))]
    pub rollout_id: Option<BundleId>,
    /// Tenants that labels or `all` reach but that must never receive commands: left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub excluded: Vec<WorkspaceId>,
}

/// A pushed bundle as the hub shows it; its content is for its droplets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BundleView {
    /// The bundle.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = "uuid"))]
    pub bundle_id: BundleId,
    /// Of its exact bytes.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub digest: Digest,
    /// Its action names, joined by commas.
    pub action: String,
    /// Its queue.
    pub queue: String,
    /// 1 critical to 4 low.
    pub priority: u8,
    /// From when on it is good.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = "date-time"))]
    pub not_before: Timestamp,
    /// Until when.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = "date-time"))]
    pub not_after: Timestamp,
    /// Name of the API token that pushed it; who signed it stands in the bundle.
    pub pushed_by: String,
    /// When it was pushed.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = "date-time"))]
    pub created_at: Timestamp,
    /// Its size.
    pub bytes: u64,
    /// Its jobs by state; only where one bundle is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jobs: Option<BTreeMap<String, u64>>,
}

/// Where a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// Waits for its droplet to ask.
    Queued,
    /// Handed out; the droplet has not confirmed it yet.
    Leased,
    /// Durably in the droplet's journal.
    Accepted,
    /// All of it happened.
    Succeeded,
    /// None of it remains.
    Failed,
    /// Refused by the droplet's admission.
    Rejected,
    /// Its time ran out.
    Expired,
    /// Somebody must look.
    Stuck,
    /// Handed out too often without an answer.
    Dead,
    /// Withdrawn before the droplet had it.
    Cancelled,
}

impl JobState {
    /// Every state.
    pub const ALL: &[JobState] = &[
        Self::Queued,
        Self::Leased,
        Self::Accepted,
        Self::Succeeded,
        Self::Failed,
        Self::Rejected,
        Self::Expired,
        Self::Stuck,
        Self::Dead,
        Self::Cancelled,
    ];

    /// The name on the wire and in the store.
    pub fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Leased => "leased",
            Self::Accepted => "accepted",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Rejected => "rejected",
            Self::Expired => "expired",
            Self::Stuck => "stuck",
            Self::Dead => "dead",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether nothing more will happen to the job.
    pub fn is_final(self) -> bool {
        !matches!(self, Self::Queued | Self::Leased | Self::Accepted)
    }
}

/// A job as the hub knows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct JobView {
    /// The job.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = "uuid"))]
    pub job_id: JobId,
    /// Its bundle.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = "uuid"))]
    pub bundle_id: BundleId,
    /// Its tenant.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = "uuid"))]
    pub workspace_id: WorkspaceId,
    /// The bundle's action names, joined by commas.
    pub action: String,
    /// The bundle's queue.
    pub queue: String,
    /// 1 critical to 4 low.
    pub priority: u8,
    /// Where it is.
    pub state: JobState,
    /// How often it was handed out.
    pub attempts: u32,
    /// When it was pushed.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = "date-time"))]
    pub created_at: Timestamp,
    /// When its droplet took it into its journal.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = "date-time"))]
    pub accepted_at: Option<Timestamp>,
    /// When it ended.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = "date-time"))]
    pub finished_at: Option<Timestamp>,
    /// The droplet's answer.
    pub result: Option<CommandResult>,
}

/// Answer to `GET sidecar/trust-root?after=N`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TrustRootChain {
    /// Signed trust roots newer than asked for, oldest first, each as the exact text that was signed.
    pub trust_root: Vec<String>,
}

/// Where the trust root stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TrustRootView {
    /// Its version.
    pub version: u64,
    /// Digest of its signed payload: what droplets pin.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub digest: Digest,
    /// The exact signed text.
    pub document: String,
}
