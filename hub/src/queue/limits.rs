//! The six queues and how much of each may be in flight (protocol.md, "Queues").

use std::fmt;
use std::str::FromStr;

use genesis_shared::limits::{IN_FLIGHT_MAX, STARTS_PER_S, STARTS_PER_S_MAX};
use serde::{Deserialize, Serialize};

/// A queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Queue {
    /// Droplets that come into being.
    Ignition,
    /// Patches and rotations.
    Security,
    /// Restarts.
    Reboot,
    /// Templates and configuration.
    Template,
    /// Looks at health.
    Health,
    /// Metrics.
    Metric,
}

/// No queue has that name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no queue is called {0:?}")]
pub struct NoQueue(String);

impl Queue {
    /// Every queue.
    pub const ALL: [Self; 6] =
        [Self::Ignition, Self::Security, Self::Reboot, Self::Template, Self::Health, Self::Metric];

    /// Its name on the wire and in the store.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ignition => "ignition",
            Self::Security => "security",
            Self::Reboot => "reboot",
            Self::Template => "template",
            Self::Health => "health",
            Self::Metric => "metric",
        }
    }
}

impl fmt::Display for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Queue {
    type Err = NoQueue;
    fn from_str(name: &str) -> Result<Self, NoQueue> {
        Self::ALL.into_iter().find(|queue| queue.name() == name).ok_or_else(|| NoQueue(name.chars().take(40).collect()))
    }
}

/// What the governor goes by; operators change it while the hub runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Jobs that may start within one second, over all queues.
    pub starts_per_s: u32,
    /// Jobs in flight at once, per queue.
    pub ignition: u32,
    /// See `ignition`.
    pub security: u32,
    /// See `ignition`.
    pub reboot: u32,
    /// See `ignition`.
    pub template: u32,
    /// See `ignition`.
    pub health: u32,
    /// See `ignition`.
    pub metric: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            starts_per_s: STARTS_PER_S,
            ignition: 50,
            security: 100,
            reboot: 25,
            template: 100,
            health: 500,
            metric: 200,
        }
    }
}

impl Limits {
    /// How many of a queue may be in flight; 0 holds the queue.
    pub fn in_flight(&self, queue: Queue) -> u32 {
        match queue {
            Queue::Ignition => self.ignition,
            Queue::Security => self.security,
            Queue::Reboot => self.reboot,
            Queue::Template => self.template,
            Queue::Health => self.health,
            Queue::Metric => self.metric,
        }
    }

    /// Checks what an operator wants.
    ///
    /// # Errors
    /// The first value that cannot be, for people.
    pub fn check(&self) -> Result<(), String> {
        if self.starts_per_s > STARTS_PER_S_MAX {
            return Err(format!("starts_per_s {} is more than {STARTS_PER_S_MAX}", self.starts_per_s));
        }
        match Queue::ALL.into_iter().find(|queue| self.in_flight(*queue) > IN_FLIGHT_MAX) {
            Some(queue) => Err(format!("{queue} {} is more than {IN_FLIGHT_MAX}", self.in_flight(queue))),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use genesis_shared::bundle::QUEUES;

    #[test]
    fn the_queues_are_those_that_a_bundle_may_name() {
        assert_eq!(Queue::ALL.map(Queue::name), *QUEUES);
        for queue in Queue::ALL {
            assert_eq!(queue.name().parse::<Queue>(), Ok(queue));
        }
        assert!("quick".parse::<Queue>().is_err());
    }
}
