//! Counts refused requests for the audit: the first of a kind at once, what follows within a minute as one entry. A
//! stranger who knocks a thousand times a second must not fill the disk.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use genesis_shared::audit::event;
use genesis_shared::limits::DENIALS_WINDOW_MS;
use genesis_shared::timestamp::Timestamp;

/// Counts by event and code, of which there are a few dozen.
#[derive(Debug, Default)]
pub struct Denials(Mutex<BTreeMap<Kind, Window>>);

type Kind = (&'static str, &'static str);

#[derive(Clone, Copy, Debug)]
struct Window {
    since: Timestamp,
    count: u64,
}

/// So many refusals of a kind, not told yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// `LOGIN_FAILED` or `PERMISSION_DENIED`.
    pub event: &'static str,
    /// The code of the answers.
    pub code: &'static str,
    /// How many.
    pub count: u64,
}

impl Denials {
    /// Counts one refusal; answers what is to be told now. `status` is 401 for an unknown caller, 403 for a known one.
    pub fn count(&self, status: u16, code: &'static str, now: Timestamp) -> Option<Counted> {
        let event = if status == 401 { event::LOGIN_FAILED } else { event::PERMISSION_DENIED };
        let mut windows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match windows.get_mut(&(event, code)) {
            Some(window) if now.millis_since(window.since) < DENIALS_WINDOW_MS => {
                window.count += 1;
                None
            }
            before => {
                let count = before.map_or(0, |window| window.count) + 1;
                windows.insert((event, code), Window { since: now, count: 0 });
                Some(Counted { event, code, count })
            }
        }
    }

    /// What is to be told because its minute is over.
    pub fn over(&self, now: Timestamp) -> Vec<Counted> {
        let mut windows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let over = |window: &Window| now.millis_since(window.since) >= DENIALS_WINDOW_MS;
        let told = windows.iter().filter(|(_, window)| over(window) && window.count > 0);
        let told = told.map(|((event, code), window)| Counted { event, code, count: window.count }).collect();
        windows.retain(|_, window| !over(window));
        told
    }
}
