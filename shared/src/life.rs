//! Lives of a droplet's agent: what it says of itself with every request, and what the hub makes of it.
//!
//! A life lasts from one start of the agent's process to the next. A restored snapshot begins a life whose journal is
//! older than what the hub has stored; a clone is a second life beside the first. Both are told by two headers.

use serde::{Deserialize, Serialize};

use crate::timestamp::Timestamp;

/// Header with the life's boot epoch; on every request but handshake and renewal, which carry it in the body or not.
pub const BOOT_EPOCH_HEADER: &str = "genesis-boot-epoch";
/// Header with the highest outbox number that the journal had used when the life began. It does not grow with the
/// life: a request that is overtaken by the delivery of newer records says nothing false.
pub const HIGH_WATER_HEADER: &str = "genesis-journal-high-water";
/// Bytes of a boot epoch: the host's boot id (36 characters), the agent's own start (16), and room.
pub const BOOT_EPOCH_BYTES_MAX: usize = 128;
/// Code with which hub and agent refuse what a quarantined droplet may not do.
pub const QUARANTINED: &str = "quarantined";
/// Code of the event on the droplet that the hub has resumed it.
pub const QUARANTINE_ENDED: &str = "quarantine_ended";
/// The state shown to people.
pub const QUARANTINED_STATE: &str = "QUARANTINED";

/// A life as it presents itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Life {
    /// Differs for every start of the agent.
    pub boot_epoch: String,
    /// The highest outbox number that its journal had used when it began.
    pub journal_high_water: u64,
}

/// Why a droplet gets no changing command until an operator resumes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Quarantine {
    /// `droplet_restored`, `droplet_cloned` or `journal_diverged`.
    pub code: String,
    /// What was seen, for people.
    pub message: String,
    /// Since when.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = "date-time"))]
    pub since: Timestamp,
}

/// A life as the hub has seen it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LifeView {
    /// Names it.
    pub boot_epoch: String,
    /// The highest outbox number heard of.
    pub journal_high_water: u64,
    /// When it was first heard.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = "date-time"))]
    pub first_seen_at: Timestamp,
    /// When it last reported its health; the first time, where it never did.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = "date-time"))]
    pub last_seen_at: Timestamp,
    /// Whether it is the one that the hub takes for the droplet.
    pub present: bool,
}

/// `POST droplets/{id}/resume`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ResumeRequest {
    /// Why, for the events: at most 512 bytes.
    pub reason: String,
    /// Which life goes on; absent means the one that was heard last. The others are to be stopped.
    #[serde(default)]
    pub boot_epoch: Option<String>,
}
