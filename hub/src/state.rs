//! The one name for people that a droplet's state has, derived from what is known of it (protocol.md, "Health").

use genesis_shared::life::QUARANTINED_STATE;
use genesis_shared::timestamp::Timestamp;
use serde::{Deserialize, Serialize};

use crate::hub::Hub;

/// Heartbeats that may be missed before a droplet counts as silent (protocol.md, "Health").
const MISSED_MAX: i64 = 3;

/// The one name. The order is that of a map of the fleet: the worst last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum DropletState {
    /// Registered; its agent has not enrolled yet.
    HandshakePending,
    /// Enrolled; it has not reported its health yet.
    Initializing,
    /// All is well.
    ActiveHealthy,
    /// It reports that something is not.
    ActiveDegraded,
    /// So much differs from what was deployed that somebody has to look.
    DriftDetected,
    /// It changes nothing until an operator resumes it.
    Quarantined,
    /// Silent for three heartbeats.
    Zombie,
}

impl DropletState {
    /// Every state, in order.
    pub const ALL: &[DropletState] = &[
        Self::HandshakePending,
        Self::Initializing,
        Self::ActiveHealthy,
        Self::ActiveDegraded,
        Self::DriftDetected,
        Self::Quarantined,
        Self::Zombie,
    ];

    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::HandshakePending => "HANDSHAKE_PENDING",
            Self::Initializing => "INITIALIZING",
            Self::ActiveHealthy => "ACTIVE_HEALTHY",
            Self::ActiveDegraded => "ACTIVE_DEGRADED",
            Self::DriftDetected => "DRIFT_DETECTED",
            Self::Quarantined => QUARANTINED_STATE,
            Self::Zombie => "ZOMBIE",
        }
    }
}

/// How the agent said that its droplet was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// All is well.
    Healthy,
    /// Processor, memory or disk are short, or n8n does not answer.
    Degraded,
    /// Too much differs from what was deployed.
    Drifted,
    /// It knows that it is quarantined.
    Quarantined,
}

/// What a state follows from beside the time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Whether its agent has enrolled.
    pub enrolled: bool,
    /// Whether the hub has quarantined it.
    pub quarantined: bool,
    /// The state in its latest health report.
    pub reported: Option<String>,
    /// When it was last heard of.
    pub last_seen_at: Option<Timestamp>,
}

/// When the state is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// The time.
    pub now: Timestamp,
    /// While the hub was away nobody could be heard; that silence is the hub's.
    pub hub_started_at: Timestamp,
    /// Silence of so many milliseconds counts.
    pub silent_ms: i64,
}

impl Moment {
    /// Now.
    pub fn of(hub: &Hub) -> Self {
        let interval_s = i64::try_from(hub.settings.agent.heartbeat_interval_s).unwrap_or(i64::MAX);
        let silent_ms = interval_s.saturating_mul(1000).saturating_mul(MISSED_MAX);
        Self { now: hub.clock.now(), hub_started_at: hub.started_at, silent_ms }
    }
}

impl Facts {
    /// How the agent said that the droplet was; `None` before its first report.
    pub fn condition(&self) -> Option<Condition> {
        Some(match self.reported.as_deref()? {
            "ACTIVE_HEALTHY" => Condition::Healthy,
            "DRIFT_DETECTED" => Condition::Drifted,
            QUARANTINED_STATE => Condition::Quarantined,
            // What a newer agent may call it: not healthy at any rate.
            _ => Condition::Degraded,
        })
    }

    /// The one name.
    pub fn state(&self, at: Moment) -> DropletState {
        if !self.enrolled {
            return DropletState::HandshakePending;
        }
        // Above all else: only a person can end it.
        if self.quarantined || self.condition() == Some(Condition::Quarantined) {
            return DropletState::Quarantined;
        }
        let Some(condition) = self.condition() else { return DropletState::Initializing };
        let heard_at = self.last_seen_at.unwrap_or_default().max(at.hub_started_at);
        if at.now.millis_since(heard_at) >= at.silent_ms {
            return DropletState::Zombie;
        }
        match condition {
            Condition::Healthy => DropletState::ActiveHealthy,
            Condition::Degraded => DropletState::ActiveDegraded,
            Condition::Drifted => DropletState::DriftDetected,
            Condition::Quarantined => DropletState::Quarantined,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_gives_one_name_and_quarantine_outweighs_silence() {
        let at = |ms: i64| Timestamp::from_millis(1_790_000_000_000 + ms);
        let moment = Moment { now: at(180_000), hub_started_at: at(0), silent_ms: 180_000 };
        let facts = |reported: Option<&str>, seen: Option<i64>| Facts {
            enrolled: true,
            reported: reported.map(str::to_owned),
            last_seen_at: seen.map(at),
            ..Facts::default()
        };
        assert_eq!(Facts::default().state(moment), DropletState::HandshakePending);
        assert_eq!(facts(None, None).state(moment), DropletState::Initializing);
        assert_eq!(facts(Some("ACTIVE_HEALTHY"), Some(1)).state(moment), DropletState::ActiveHealthy);
        assert_eq!(facts(Some("DRIFT_DETECTED"), Some(1)).state(moment), DropletState::DriftDetected);
        assert_eq!(facts(Some("SOMETHING_NEW"), Some(1)).state(moment), DropletState::ActiveDegraded);
        // Heard before the hub started, and the hub has been there for three heartbeats.
        assert_eq!(facts(Some("ACTIVE_HEALTHY"), Some(-9_000_000)).state(moment), DropletState::Zombie);
        let early = Moment { now: at(179_999), ..moment };
        assert_eq!(facts(Some("ACTIVE_HEALTHY"), Some(-9_000_000)).state(early), DropletState::ActiveHealthy);
        let quarantined = Facts { quarantined: true, ..facts(Some("ACTIVE_HEALTHY"), Some(-9_000_000)) };
        assert_eq!(quarantined.state(moment), DropletState::Quarantined);
        let wire = |state: &DropletState| serde_json::to_value(state).unwrap() == state.name();
        assert!(DropletState::ALL.iter().all(wire) && DropletState::ALL.is_sorted());
    }
}
