//! Everything that an agent can say about itself and about what it did.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::audit::Entry;
use crate::id::{BundleId, DropletId, JobId, KeyId, WorkspaceId};
use crate::seal::Sealed;
use crate::timestamp::Timestamp;

/// How a command ended. There is no other end, and each accepted command has exactly one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum OutcomeState {
    /// All of it happened, once.
    Succeeded,
    /// None of it remains: what had happened was undone.
    Failed,
    /// Refused by an admission rule before anything happened.
    Rejected,
    /// Accepted, but its time ran out before it began.
    Expired,
    /// Neither finished nor undone; somebody must look.
    Stuck,
}

/// One step of a command as it went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct StepTrace {
    /// What the step does, for example `put_workflow email-1`.
    pub name: String,
    /// `done`, `failed`, `undone`, `skipped` or `pending`.
    pub state: String,
    /// Milliseconds from its first start to its end, waiting between tries included.
    pub ms: u64,
    /// Tries; more than one means that it met a passing fault or a crash.
    pub attempts: u32,
}

/// The result of one job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CommandResult {
    /// The hub's job.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = "uuid"))]
    pub job_id: JobId,
    /// The bundle, where it could be read.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = "uuid"))]
    pub bundle_id: Option<BundleId>,
    /// How it ended.
    pub state: OutcomeState,
    /// Stable machine-readable reason, `ok` on success.
    pub code: String,
    /// What happened and what to do.
    pub message: String,
    /// Whether the same bundle content, signed anew, may succeed later.
    pub retryable: bool,
    /// When the first step began, or when it was refused.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = "date-time"))]
    pub started_at: Timestamp,
    /// When it ended.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = "date-time"))]
    pub finished_at: Timestamp,
    /// The steps in order.
    pub steps: Vec<StepTrace>,
    /// What the commands answered, one entry per command.
    pub output: Value,
}

/// Whether n8n answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum N8nStatus {
    /// Ready: its REST API answers JSON.
    Running,
    /// It listens, but is migrating or loading.
    Starting,
    /// Nothing answers.
    Down,
    /// It answers, but the agent cannot log in or use its API.
    Locked,
}

/// One health report (protocol.md, "heartbeat").
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Heartbeat {
    /// The tenant; checked against the token, never trusted.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = "uuid"))]
    pub workspace_id: WorkspaceId,
    /// The droplet; checked against the token, never trusted.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub droplet_id: DropletId,
    /// The droplet's clock.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = "date-time"))]
    pub timestamp: Timestamp,
    /// `ACTIVE_HEALTHY`, `ACTIVE_DEGRADED`, or `DRIFT_DETECTED` where so much differs from what was deployed that an
    /// operator has to look; as the agent sees itself.
    pub state: String,
    /// n8n's status.
    pub n8n_status: N8nStatus,
    /// n8n's version, once known.
    pub n8n_version: Option<String>,
    /// Managed workflows that are active, once counted.
    pub active_workflows: Option<u32>,
    /// Whole host, 0 to 100.
    pub cpu_usage_percent: f32,
    /// Memory in use, MiB.
    pub memory_usage_mb: u64,
    /// Memory in all, MiB.
    pub memory_total_mb: u64,
    /// Disk of the data folder in use, 0 to 100.
    pub disk_usage_percent: f32,
    /// Swap in use, MiB.
    pub swap_used_mb: u64,
    /// Seconds since the host started.
    pub uptime_seconds: u64,
    /// The agent's version.
    pub agent_version: String,
    /// Differs for every start of the agent.
    pub boot_epoch: String,
    /// Highest record number of the journal's outbox; one lower than before means a restored droplet.
    pub journal_high_water: u64,
    /// Records that wait for delivery.
    pub outbox_depth: u64,
    /// Generation of the desired state that was applied last; 0 before the first.
    #[serde(default)]
    pub desired_generation: u64,
    /// Managed things that differed from it and were not put right, by the last look; `None` before the first.
    #[serde(default)]
    pub drift_count: Option<u32>,
    /// n8n's process on the host, where the agent looks after its container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n8n_pid: Option<u32>,
    /// Executions that run or are about to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending_executions: Option<u64>,
    /// When the last execution began.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = "date-time"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_execution_at: Option<Timestamp>,
    /// Ends of n8n for want of memory since the agent started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oom_kills: Option<u64>,
    /// When the first of the certificates of the droplet's host names ends.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = "date-time"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_expires_at: Option<Timestamp>,
    /// The droplet's clock less the hub's, by the last answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_offset_ms: Option<i64>,
    /// Where its audit chain is, signed by its identity key (see [`crate::audit`]); `None` before the first entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit_checkpoint: Option<String>,
}

/// Something worth telling that is no command's result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Event {
    /// Stable machine-readable name.
    pub code: String,
    /// For people.
    pub message: String,
}

/// Executions of workflows, counted (protocol.md, `COLLECT_METRICS`). There is no field that could hold content.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Metrics {
    /// Executions that ended.
    pub total_executions: u64,
    /// Of these the successful ones, 0 to 1; absent where there are none.
    pub success_rate: Option<f64>,
    /// From beginning to end, on average; absent where there are none.
    pub avg_duration_ms: Option<u64>,
    /// How those that did not succeed ended, counted by n8n's fixed words for it.
    pub error_types: BTreeMap<String, u64>,
    /// Executions that began before are not counted.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = "date-time"))]
    pub since: Timestamp,
    /// Whether there were more executions than are read at once, so that these are the latest of them.
    pub truncated: bool,
}

/// What only the droplet knew, sealed to the recovery key: with it a tenant's database can be used on a new droplet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Escrow {
    /// The recovery key's name in the trust root.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub recovery: KeyId,
    /// An [`EscrowContent`] as JSON, sealed with [`crate::seal::Context::escrow`].
    pub sealed: Sealed,
}

/// The content of an [`Escrow`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EscrowContent {
    /// What n8n encrypts its credentials with.
    pub n8n_encryption_key: String,
    /// The password of n8n's database.
    pub postgres_password: String,
}

/// What an outbox record says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Record {
    /// A deposit for the recovery key; the latest counts.
    Escrow(Escrow),
    /// The bundle of this job is durably in the journal; the hub need not deliver it again.
    Accepted {
        /// The hub's job.
        #[cfg_attr(feature = "openapi", schema(value_type = String, format = "uuid"))]
        job_id: JobId,
    },
    /// The job has ended.
    Result(CommandResult),
    /// Something happened.
    Event(Event),
    /// What the tenant's workflows did since the last such report.
    Metrics(Metrics),
    /// An entry of the droplet's audit chain.
    Audit(Entry),
}

/// One numbered record of a droplet's outbox.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct OutboxRecord {
    /// Grows by one per droplet; makes delivery idempotent.
    pub seq: u64,
    /// When it was written.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = "date-time"))]
    pub at: Timestamp,
    /// What it says.
    pub record: Record,
}
