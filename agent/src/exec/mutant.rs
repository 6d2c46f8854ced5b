//! Agents that are wrong on purpose, so that a test can show that the crash proofs catch them.
//!
//! Without the feature `mutants` the answer is a constant `false`, and nothing of this is compiled in.

use crate::core::saga::Event;

/// One way to be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// Acts without having written down that it is about to.
    SkipJournalWrite,
    /// Creates again without looking whether the create before took place.
    RepeatCreateBlindly,
    /// Writes down that a step is done, and then does it.
    ReportBeforeActing,
}

impl Mutant {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::SkipJournalWrite, Self::RepeatCreateBlindly, Self::ReportBeforeActing];
}

#[cfg(feature = "mutants")]
mod hook {
    use std::cell::Cell;

    use super::Mutant;

    thread_local!(static CHOSEN: Cell<Option<Mutant>> = const { Cell::new(None) });

    /// The agents of this thread are mutants until this is dropped.
    #[must_use]
    #[derive(Debug)]
    pub struct Mutated(());

    /// Makes the agents of this thread mutants.
    pub fn mutate(mutant: Mutant) -> Mutated {
        CHOSEN.set(Some(mutant));
        Mutated(())
    }

    impl Drop for Mutated {
        fn drop(&mut self) {
            CHOSEN.set(None);
        }
    }

    pub(crate) fn is(mutant: Mutant) -> bool {
        CHOSEN.get() == Some(mutant)
    }
}

#[cfg(feature = "mutants")]
pub(crate) use hook::is;
#[cfg(feature = "mutants")]
pub use hook::{Mutated, mutate};

#[cfg(not(feature = "mutants"))]
pub(crate) const fn is(_: Mutant) -> bool {
    false
}

/// Whether it keeps this event to itself: all of them, or what it has written down already.
pub(crate) fn skips(event: &Event) -> bool {
    is(Mutant::SkipJournalWrite) || (is(Mutant::ReportBeforeActing) && matches!(event, Event::Done { .. }))
}
