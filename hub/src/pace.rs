//! The governor at work: polls take their turn through it, and what may start later starts when its time comes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use genesis_shared::id::WorkspaceId;
use genesis_shared::limits::RUN_LEASE_MS;
use genesis_shared::timestamp::Timestamp;
use genesis_shared::wire::JobState;
use tokio::sync::Notify;

use crate::hub::Hub;
use crate::queue::{Asker, Candidate, Governor, Limits, Load};
use crate::store::leases::Leased;
use crate::store::results::Moved;
use crate::store::{Remembered, StoreError};

/// The governor, and who waits for its next moment.
#[derive(Debug)]
pub struct Pace {
    governor: Mutex<Governor>,
    /// Told when something waits for nothing but time.
    pump: Notify,
    /// Whether any job has moved since this was asked last.
    has_moved: AtomicBool,
}

impl Pace {
    /// With what was in flight when the store was opened.
    pub fn new(remembered: &Remembered, lease_ms: i64, now: Timestamp) -> Self {
        let mut governor = Governor::new(remembered.limits.unwrap_or_default(), lease_ms);
        for job in &remembered.in_flight {
            let until = job.until.unwrap_or_else(|| now.plus_millis(RUN_LEASE_MS));
            governor.found(job.job, job.queue, job.workspace, until);
            if let Some(at) = job.leased_at.filter(|at| now.millis_since(*at) < 1000) {
                governor.found_start(at);
            }
        }
        Self { governor: Mutex::new(governor), pump: Notify::new(), has_moved: AtomicBool::new(true) }
    }

    fn governor(&self) -> MutexGuard<'_, Governor> {
        self.governor.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Jobs that are not in flight any more.
    pub fn release(&self, jobs: impl IntoIterator<Item = i64>) {
        let mut governor = self.governor();
        jobs.into_iter().for_each(|job| governor.release(job));
    }

    /// A sign of life of a droplet.
    pub fn alive(&self, workspace: WorkspaceId, now: Timestamp) {
        self.governor().alive(workspace, now);
    }

    /// Whether any job has moved since this was asked last.
    pub fn has_moved(&self) -> bool {
        self.has_moved.swap(false, Ordering::Relaxed)
    }

    /// What the governor goes by, and how each queue is doing.
    pub fn state(&self) -> (Limits, Vec<Load>) {
        let governor = self.governor();
        (*governor.limits(), governor.loads())
    }
}

/// A poll's turn; it ends when dropped, also where the poll is given up in the middle.
#[derive(Debug)]
pub struct Turn {
    hub: Hub,
    asker: Asker,
}

impl Turn {
    /// Asks for these and hands out what may start now.
    ///
    /// # Errors
    /// [`StoreError`]; nothing was handed out then.
    pub async fn lease(&self, candidates: &[Candidate]) -> Result<Vec<Leased>, StoreError> {
        let pace = &self.hub.pace;
        pace.governor().ask(self.asker, candidates);
        self.hub.dispatch();
        let granted = pace.governor().take(self.asker);
        if granted.is_empty() {
            return Ok(Vec::new());
        }
        let now = self.hub.clock.now();
        let until = now.plus_millis(self.hub.settings.lease_ttl_ms);
        let leased = self.hub.store.lease(granted.clone(), until, now).await;
        let handed_out = leased.as_deref().unwrap_or_default();
        let left = granted.into_iter().filter(|job| !handed_out.iter().any(|(number, _)| number == job));
        pace.release(left);
        Ok(leased?.into_iter().map(|(_, leased)| leased).collect())
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.hub.pace.governor().leave(self.asker);
        self.hub.dispatch();
    }
}

impl Hub {
    /// A poll comes to have its turn.
    pub fn turn(&self, workspace: WorkspaceId) -> Turn {
        let asker = self.pace.governor().enter(workspace);
        Turn { hub: self.clone(), asker }
    }

    /// Starts what may start now, by waking the polls that wait for it.
    pub fn dispatch(&self) {
        let (woken, next) = {
            let mut governor = self.pace.governor();
            (governor.dispatch(self.clock.now()), governor.next_start())
        };
        woken.into_iter().for_each(|workspace| self.notifier.wake(workspace));
        if next.is_some() {
            self.pace.pump.notify_one();
        }
    }

    /// A droplet's word has moved these jobs of its own.
    pub fn moved(&self, workspace: WorkspaceId, moved: &[Moved]) {
        let now = self.clock.now();
        {
            let mut governor = self.pace.governor();
            governor.alive(workspace, now);
            for Moved { job, queue, state } in moved {
                if *state == JobState::Accepted {
                    governor.accepted(*job, *queue, workspace, now);
                } else {
                    governor.release(*job);
                }
            }
        }
        if !moved.is_empty() {
            self.pace.has_moved.store(true, Ordering::Relaxed);
            self.dispatch();
        }
    }

    /// Goes by other limits, from now on and after a restart.
    ///
    /// # Errors
    /// [`StoreError`]; the old ones stay.
    pub async fn set_limits(&self, limits: Limits, by: String) -> Result<(), StoreError> {
        self.store.set_limits(limits, by, self.clock.now()).await?;
        self.pace.governor().set_limits(limits);
        self.dispatch();
        Ok(())
    }
}

/// Starts what waits for nothing but time, until the hub stops.
pub async fn run(hub: Hub) {
    loop {
        let next = hub.pace.governor().next_start();
        let next = next.map(|at| Duration::from_millis(at.millis_since(hub.clock.now()).max(0).unsigned_abs()));
        let due = async {
            match next {
                Some(wait) => tokio::time::sleep(wait).await,
                None => hub.pace.pump.notified().await,
            }
        };
        tokio::select! {
            () = due => {}
            () = hub.stopped() => return,
        }
        if next.is_some() {
            hub.dispatch();
        }
    }
}
