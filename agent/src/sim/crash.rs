//! Crash points: every port call and journal write that changes something counts as two, before and after it took
//! effect; one that only looks counts as one.
//!
//! The n-th point of a life can be planned to be its last: from there on nothing of that life has any effect, and
//! whoever waits on [`Crash::happened`] drops the agent. "Before" is a call that did not happen; "after" is one that
//! happened and nobody heard of it. Calls that change nothing and cannot wait (a file read, the host's numbers, the
//! clock) are no points of their own: a crash at one of them leaves behind what a crash at the next point does.
//!
//! The same holds of a call that only looks. Where crashes are enumerated in pairs, looks may therefore be left out
//! ([`Crash::leave_looks_out`]): what a crash at one leaves behind is what the crash before the next change does.

use std::cell::Cell;
use std::rc::Rc;

use tokio::sync::Notify;

/// The plan of one life of an agent. Clones share it.
#[derive(Clone, Default)]
pub struct Crash(Rc<Inner>);

#[derive(Default)]
struct Inner {
    passed: Cell<u64>,
    planned: Cell<Option<u64>>,
    crashed: Cell<bool>,
    looks_are_out: Cell<bool>,
    happened: Notify,
}

impl Crash {
    /// Begins a new life that ends at its n-th point, counted from 1, or not at all.
    pub fn plan(&self, point: Option<u64>) {
        self.0.passed.set(0);
        self.0.planned.set(point);
        self.0.crashed.set(false);
    }

    /// Points passed in this life.
    pub fn passed(&self) -> u64 {
        self.0.passed.get()
    }

    /// Whether the planned crash has taken place.
    pub fn has_happened(&self) -> bool {
        self.0.crashed.get()
    }

    /// Waits for the planned crash.
    pub async fn happened(&self) {
        while !self.0.crashed.get() {
            self.0.happened.notified().await;
        }
    }

    /// Passes a point in code that cannot wait; `true` means that this life is over and nothing may take effect.
    pub fn is_over(&self) -> bool {
        if self.0.crashed.get() {
            return true;
        }
        self.0.passed.set(self.0.passed.get() + 1);
        if self.0.planned.get() == Some(self.0.passed.get()) {
            self.0.crashed.set(true);
            self.0.happened.notify_one();
        }
        self.0.crashed.get()
    }

    /// From now on calls that only look are no points, for all lives to come.
    pub fn leave_looks_out(&self) {
        self.0.looks_are_out.set(true);
    }

    /// Passes the point of a call that only looks: if this life is over, it waits for ever.
    pub async fn look(&self) {
        if self.0.crashed.get() || !self.0.looks_are_out.get() {
            self.point().await;
        }
    }

    /// Passes a point in code that can wait: if this life is over, it waits for ever.
    pub async fn point(&self) {
        if self.is_over() {
            std::future::pending::<()>().await;
        }
    }
}
