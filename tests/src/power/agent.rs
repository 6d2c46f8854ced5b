//! The whole agent on a disk whose power is cut, or whose space runs out, in the middle of a command.

use genesis_power::{Disk, Failure};

use super::survivals;
use crate::droplet::Droplet;
use crate::scenario::{Before, Scenario};

/// Starts of the agent on a full disk before somebody frees some space.
const FULL_STARTS: usize = 3;

/// A scenario that has begun: its command waits at the hub.
struct Begun {
    disk: Disk,
    droplet: Droplet,
    before: Before,
    job: genesis_shared::id::JobId,
    /// Changes of the disk so far.
    ops: u64,
}

async fn begin(scenario: &Scenario) -> Begun {
    let disk = Disk::new();
    let droplet = scenario.droplet().over(&disk);
    let before = scenario.prepare(&droplet).await;
    let job = droplet.push(scenario.commands(&droplet).await);
    let ops = disk.ops();
    Begun { disk, droplet, before, job, ops }
}

impl Begun {
    /// One life of the agent; whether the hub has the result after it.
    async fn live(&self) -> bool {
        self.droplet.one_life(self.droplet.result(self.job)).await.is_some()
    }

    /// Runs to the result and checks that all of it happened, once. Answers how many things n8n was asked to make.
    async fn end(&self, scenario: &Scenario, what: &str) -> u64 {
        let result = self.droplet.while_running(self.droplet.result(self.job)).await;
        assert_eq!(result.state, scenario.outcome, "{what}: {} {}", result.code, result.message);
        scenario.check(&self.droplet, &self.before, what).unwrap();
        let standin = self.droplet.outside.n8n.borrow();
        ["/api/v1/credentials", "/api/v1/workflows"].map(|path| standin.count("POST", path)).iter().sum()
    }
}

/// Cuts the power at every change of the disk from the agent's start to the end of the command. Answers how many times.
///
/// # Panics
/// Something was lost or done twice.
pub async fn cut_everywhere(scenario: &Scenario, seeds: u64) -> u64 {
    let creates = begin(scenario).await.end(scenario, &scenario.name).await;
    let mut cuts = 0;
    for n in 1_usize.. {
        for survival in survivals(n, seeds) {
            let begun = begin(scenario).await;
            begun.disk.cut_at(begun.ops + n as u64);
            begun.live().await;
            if !begun.disk.is_off() {
                return cuts;
            }
            begun.disk.power_cycle(survival);
            let what = format!("{} with a cut at {n}, {survival:?}", scenario.name);
            assert_eq!(begun.end(scenario, &what).await, creates, "{what}: made twice");
            cuts += 1;
        }
    }
    cuts
}

/// Lets the disk be full from every change on, until the agent was started a few times on it, as its service manager
/// does. Answers how many times it ended for want of space.
///
/// # Panics
/// Something was lost or done twice, or the agent does not go on by itself.
pub async fn full_everywhere(scenario: &Scenario) -> u64 {
    let creates = begin(scenario).await.end(scenario, &scenario.name).await;
    let mut ended = 0;
    for n in 1.. {
        let begun = begin(scenario).await;
        begun.disk.fail_from(begun.ops + n, Failure::Full);
        let mut is_done = begun.live().await;
        for _ in 0..FULL_STARTS {
            if !is_done {
                ended += 1;
                is_done = begun.live().await;
            }
        }
        let was_full = begun.disk.heal();
        let what = format!("{} with a disk full from {n} on", scenario.name);
        assert_eq!(begun.end(scenario, &what).await, creates, "{what}: made twice");
        if !was_full {
            return ended;
        }
    }
    ended
}
