//! The task that ends what ran out: leases, bundles, tokens, old records.

use tokio::time::MissedTickBehavior;

use crate::hub::Hub;

/// Sweeps at the configured interval until the hub stops.
pub async fn run(hub: Hub) {
    let mut ticks = tokio::time::interval(hub.settings.sweep_interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            _ = ticks.tick() => hub.sweep().await,
            () = hub.stopped() => return,
        }
    }
}
