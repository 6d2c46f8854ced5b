//! The task that takes rollouts further, as answers come and time passes.

use std::time::Duration;

use genesis_shared::chain::Chain;
use genesis_shared::id::BundleId;
use tokio::time::MissedTickBehavior;

use crate::hub::Hub;
use crate::rollout::Wish;
use crate::store::StoreError;
use crate::store::rollouts::{Advanced, SteeredRollout};

/// Between two looks while answers come. A wave follows its answers so much later at most, and so does an abort; what runs a bad bundle
/// meanwhile is bounded by what is in flight.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// Looks until the hub stops.
pub async fn run(hub: Hub) {
    let mut ticks = tokio::time::interval(LOOK_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            // Counting costs something; without answers time alone changes things, and the sweep looks after that.
            _ = ticks.tick() => if hub.pace.has_moved() { hub.advance_rollouts().await },
            () = hub.stopped() => return,
        }
    }
}

impl Hub {
    /// Takes every rollout further that can be, once.
    pub async fn advance_rollouts(&self) {
        if let Err(error) = self.try_advance().await {
            // The next look does what this one could not.
            tracing::warn!(error = %Chain(&error), "the rollouts could not be looked at");
        }
    }

    async fn try_advance(&self) -> Result<(), StoreError> {
        let now = self.clock.now();
        for rollout in self.store.rollouts_due(now).await? {
            let advanced = self.store.advance(rollout, now).await?;
            self.advanced(&advanced);
        }
        Ok(())
    }

    /// Does what an operator wants of a rollout.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn steer_rollout(&self, id: BundleId, wish: Wish, by: String) -> Result<SteeredRollout, StoreError> {
        let steered = self.store.steer_rollout(id, wish, by, self.clock.now()).await?;
        if let SteeredRollout::Done(_, advanced) = &steered {
            self.advanced(advanced);
        }
        Ok(steered)
    }

    fn advanced(&self, advanced: &Advanced) {
        self.pace.release(advanced.freed.iter().copied());
        advanced.woken.iter().for_each(|workspace| self.notifier.wake(*workspace));
        self.dispatch();
    }
}
