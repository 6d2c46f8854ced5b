//! A value that others wait for, and that wakes them in the order in which they came: `tokio::sync::watch` draws lots.

use std::cell::Cell;

use tokio::sync::Notify;

/// The value.
#[derive(Default)]
pub struct Signal<T: Copy> {
    value: Cell<T>,
    changed: Notify,
}

impl<T: Copy> Signal<T> {
    /// What it is now.
    pub fn get(&self) -> T {
        self.value.get()
    }

    /// Sets it and wakes those who wait.
    pub fn set(&self, value: T) {
        self.value.set(value);
        self.changed.notify_waiters();
    }

    /// Waits until it is as wanted.
    pub async fn wait_for(&self, wanted: impl Fn(T) -> bool) {
        loop {
            // Before the look, or a change between look and wait would be missed.
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if wanted(self.value.get()) {
                return;
            }
            changed.await;
        }
    }
}
