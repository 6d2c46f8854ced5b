//! Wakes the long polls of a workspace when something was queued for it, so that nobody polls the database.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use genesis_shared::id::WorkspaceId;
use tokio::sync::Notify;

type Waiting = Arc<Mutex<BTreeMap<WorkspaceId, Arc<Notify>>>>;

/// Knows who waits. Holds one entry per workspace with a waiting poll and none for the others.
#[derive(Clone, Debug, Default)]
pub struct Notifier(Waiting);

/// One waiting poll.
#[derive(Debug)]
pub struct Waiter {
    notify: Arc<Notify>,
    workspace: WorkspaceId,
    waiting: Waiting,
}

impl Notifier {
    /// Registers a poll of `workspace`. Whoever then looks into the store and finds nothing misses no later wake, if
    /// the future of [`Waiter::notify`] was enabled before the look.
    pub fn waiter(&self, workspace: WorkspaceId) -> Waiter {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let notify = Arc::clone(waiting.entry(workspace).or_default());
        Waiter { notify, workspace, waiting: Arc::clone(&self.0) }
    }

    /// Workspaces with a poll that waits.
    pub fn waiting(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Wakes every poll of `workspace`.
    pub fn wake(&self, workspace: WorkspaceId) {
        if let Some(notify) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&workspace) {
            notify.notify_waiters();
        }
    }
}

impl Waiter {
    /// What to wait for.
    pub fn notify(&self) -> &Notify {
        &self.notify
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        // Two: the map's and this one's. Clones are made under the same lock, so the count cannot grow meanwhile.
        if Arc::strong_count(&self.notify) <= 2 {
            waiting.remove(&self.workspace);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_wake_between_look_and_wait_is_not_lost_and_nothing_stays_behind() {
        let notifier = Notifier::default();
        let workspace = WorkspaceId::from_random([1; 16]);
        let (first, second) = (notifier.waiter(workspace), notifier.waiter(workspace));
        {
            let mut woken = std::pin::pin!(first.notify().notified());
            woken.as_mut().enable();
            notifier.wake(workspace);
            woken.await;
        }
        drop(second);
        assert_eq!(notifier.0.lock().unwrap().len(), 1);
        drop(first);
        assert!(notifier.0.lock().unwrap().is_empty());
    }
}
