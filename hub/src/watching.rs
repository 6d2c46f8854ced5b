//! The watch at work: signs of life from requests, a tick each second, and what it has to tell as events.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use genesis_shared::chain::Chain;
use genesis_shared::id::{DropletId, WorkspaceId};
use genesis_shared::timestamp::Timestamp;
use tokio::time::MissedTickBehavior;

use crate::hub::Hub;
use crate::store::{Remembered, StoreError};
use crate::watch::{Explained, Lifecycle, Told, Watch, Watched};

/// Between two ticks: the resolution of the watch.
const TICK: Duration = Duration::from_secs(1);

/// The watch, and what it has to tell that is no event yet.
#[derive(Debug)]
pub struct Watching {
    watch: Mutex<Watch>,
    told: Mutex<Vec<Told>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Watching {
    /// Watches whom the store knows, from now on.
    pub fn new(remembered: &Remembered, interval_ms: i64, now: Timestamp) -> Self {
        let heard_at = remembered.heard_at;
        // A restart takes seconds; who was away for longer than everybody's heartbeat may have missed all of them.
        let was_away = heard_at.is_some_and(|at| now.millis_since(at) > interval_ms);
        let watch = Watch::new(interval_ms, remembered.watched.iter().cloned(), was_away, now);
        Self { watch: Mutex::new(watch), told: Mutex::new(Vec::new()) }
    }

    fn note(&self, told: Vec<Told>) {
        if !told.is_empty() {
            lock(&self.told).extend(told);
        }
    }

    /// A sign of life.
    pub fn heard(&self, workspace: WorkspaceId, now: Timestamp) {
        let told = lock(&self.watch).heard(workspace, now);
        self.note(told);
    }

    /// A droplet has enrolled.
    pub fn add(&self, droplet: Watched, now: Timestamp) {
        lock(&self.watch).add(droplet, now);
    }

    /// What explains a droplet's silence.
    pub fn explained(&self, workspace: WorkspaceId) -> Option<Lifecycle> {
        lock(&self.watch).explained(workspace)
    }

    /// How many droplets are fresh, late and silent, and whether reactions are frozen.
    pub fn state(&self) -> ((usize, usize, usize), bool) {
        let watch = lock(&self.watch);
        (watch.counts(), watch.is_frozen(None))
    }
}

impl Hub {
    /// Lets the watch's time pass, and writes down what it tells.
    pub async fn watch_once(&self) {
        let now = self.clock.now();
        let told = lock(&self.watching.watch).tick(now);
        self.watching.note(told);
        let told = std::mem::take(&mut *lock(&self.watching.told));
        if told.is_empty() {
            return;
        }
        if let Err(error) = self.store.tell(told.clone(), now).await {
            tracing::warn!(error = %Chain(&error), "what the watch tells could not be written down; it will be");
            let mut waiting = lock(&self.watching.told);
            let newer = std::mem::replace(&mut *waiting, told);
            waiting.extend(newer);
        }
    }

    /// Keeps what an operator says a droplet is doing; its tenant, or `None` where there is no such droplet.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn set_lifecycle(
        &self,
        droplet: DropletId,
        explained: Option<Explained>,
        reason: String,
        by: String,
    ) -> Result<Option<WorkspaceId>, StoreError> {
        let now = self.clock.now();
        let workspace = self.store.set_lifecycle(droplet, explained.clone(), reason, by, now).await?;
        if let Some(workspace) = workspace {
            let told = lock(&self.watching.watch).explain(workspace, explained, now);
            self.watching.note(told);
        }
        Ok(workspace)
    }
}

/// Watches until the hub stops.
pub async fn run(hub: Hub) {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            _ = ticks.tick() => hub.watch_once().await,
            () = hub.stopped() => return,
        }
    }
}
