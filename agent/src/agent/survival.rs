//! Looks at the machine for what the stack needs ([`crate::core::survival`]): when it enrols, and whenever a person asks.

use genesis_shared::stack::Service;
use genesis_shared::wire::Preflight;

use super::Agent;
use crate::core::stack::StackSettings;
use crate::core::survival::{self, Facts};
use crate::ports::stack::{ContainerPhase, Containers};
use crate::ports::{Host, World};

impl<W: World> Agent<W> {
    /// The machine as enrolment tells of it.
    pub(super) async fn preflight(&self) -> Preflight {
        survival::preflight(self.world.host().preflight(), &self.facts().await)
    }

    /// What the machine is seen to be at this moment.
    pub(super) async fn facts(&self) -> Facts {
        let host = self.world.host();
        let Preflight { memory_total_mb, swap_total_mb, .. } = host.preflight();
        let mut facts = Facts {
            memory_total_mb,
            swap_total_mb,
            disk_free_mb: host.free_mb(),
            kernel: host.kernel(),
            ..Facts::default()
        };
        if let Some(settings) = &self.settings.stack {
            let engine = self.world.containers().engine().await;
            facts.engine = Some(engine.map_err(|error| error.to_string()));
            facts.ports_taken = self.ports_taken(settings).await;
        }
        facts
    }

    /// Ports of the proxy that somebody else has; while the proxy runs, they are its own.
    async fn ports_taken(&self, settings: &StackSettings) -> Vec<u16> {
        match self.world.containers().container(Service::Caddy).await {
            Ok(Some(info)) if info.phase == ContainerPhase::Running => vec![],
            // Without the engine's word they might be its own all the same.
            Err(_) => vec![],
            Ok(_) => {
                let ports = [settings.http_port, settings.https_port];
                let is_taken = |port: &u16| !self.world.host().port_is_free(&settings.publish_ip, *port);
                ports.into_iter().filter(is_taken).collect()
            }
        }
    }
}
