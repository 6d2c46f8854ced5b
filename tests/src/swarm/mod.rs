//! A swarm: thousands of light agents in one process that speak the real protocol with a real hub over TLS.
//!
//! What is real: TLS 1.3 and HTTP/2 with one connection per droplet and an address of its own (127.0.x.y), the
//! handshake with an identity key, the long poll, heartbeats with a signed checkpoint, numbered results, tokens, and the
//! waits of the agent's own `core::timer`. What is not: the journal is memory, bundles and delivery tokens are not
//! verified, and work is a pause whose length and end are scripted.

mod agent;
pub mod kills;
mod ledger;
mod link;
mod script;
mod stage;

use std::sync::Arc;
use std::time::Duration;

use genesis_shared::id::{DropletId, WorkspaceId};
use genesisctl::client::HubClient;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

pub use agent::{Droplet, Pace};
pub use ledger::{Ledger, now};
pub use link::{Link, LinkError, Way};
pub use script::Script;
pub use stage::{HubProcess, Stage};

/// Handshakes that are under way at once while a swarm enrols.
const ENROLLING_AT_ONCE: usize = 64;

/// Agents that run until the swarm is dropped.
pub struct Swarm {
    /// What they have seen and done.
    pub ledger: Arc<Ledger>,
    /// Who they are, in order.
    pub droplets: Vec<Arc<Droplet>>,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

impl Swarm {
    /// Registers and enrols `count` droplets, each scripted by its number, without starting them.
    ///
    /// # Errors
    /// The first that the hub would not have.
    pub async fn enrol(
        client: &HubClient,
        way: &Arc<Way>,
        count: u32,
        script: impl Fn(u32) -> Script,
    ) -> Result<Self, String> {
        let (mut enrolling, gate) = (JoinSet::new(), Arc::new(Semaphore::new(ENROLLING_AT_ONCE)));
        for number in 0..count {
            let (client, way, gate, script) = (client.clone(), Arc::clone(way), Arc::clone(&gate), script(number));
            enrolling.spawn(async move {
                let _turn = gate.acquire().await.map_err(|e| e.to_string())?;
                Droplet::enrol(&client, &way, number, script).await.map(Arc::new)
            });
        }
        let mut droplets = Vec::new();
        while let Some(enrolled) = enrolling.join_next().await {
            droplets.push(enrolled.map_err(|e| e.to_string())??);
        }
        droplets.sort_by_key(|droplet| droplet.number);
        let (ledger, stop) = (Arc::new(Ledger::default()), watch::Sender::new(false));
        Ok(Self { ledger, droplets, stop, tasks: JoinSet::new() })
    }

    /// Starts every agent, spread over `over`.
    pub fn start(&mut self, pace: Pace, over: Duration) {
        let count = u32::try_from(self.droplets.len().max(1)).unwrap_or(u32::MAX);
        for droplet in &self.droplets {
            let (droplet, ledger, stop) = (Arc::clone(droplet), Arc::clone(&self.ledger), self.stop.subscribe());
            let first = over * droplet.number / count;
            self.tasks.spawn(agent::run(droplet, ledger, pace, first, stop));
        }
    }

    /// Asks every agent to end, and waits for it.
    pub async fn stop(&mut self) {
        self.stop.send_replace(true);
        while self.tasks.join_next().await.is_some() {}
    }

    /// The tenants, in order.
    pub fn workspaces(&self) -> Vec<WorkspaceId> {
        self.droplets.iter().map(|droplet| droplet.workspace).collect()
    }
}

/// The name of the droplet with this number.
pub fn droplet_id(number: u32) -> DropletId {
    format!("swarm-{number}").parse().expect("letters, a hyphen and digits are a droplet id")
}
