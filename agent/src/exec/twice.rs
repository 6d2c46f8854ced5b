//! For proofs only: every step, or every undo, is carried out twice in a row, as if the journal's word that it was done
//! had been lost.
//!
//! Without the feature `sim` the answer is a constant `false`, and nothing of this is compiled in.

/// What is repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Twice {
    /// Each step that succeeded.
    Steps,
    /// Each undo that succeeded.
    Undos,
}

#[cfg(feature = "sim")]
mod hook {
    use std::cell::Cell;

    use super::Twice;

    thread_local! {
        static CHOSEN: Cell<Option<Twice>> = const { Cell::new(None) };
        static REPEATED: Cell<u32> = const { Cell::new(0) };
    }

    /// What was chosen for this thread; dropped, everything is done once again.
    #[must_use]
    #[derive(Debug)]
    pub struct Repeating(());

    /// Repeats on this thread from here on.
    pub fn repeat(what: Twice) -> Repeating {
        CHOSEN.set(Some(what));
        REPEATED.set(0);
        Repeating(())
    }

    impl Repeating {
        /// How often something was repeated since.
        pub fn count(&self) -> u32 {
            REPEATED.get()
        }
    }

    impl Drop for Repeating {
        fn drop(&mut self) {
            CHOSEN.set(None);
        }
    }

    pub(crate) fn asked(what: Twice) -> bool {
        let asked = CHOSEN.get() == Some(what);
        REPEATED.set(REPEATED.get() + u32::from(asked));
        asked
    }
}

#[cfg(feature = "sim")]
pub(crate) use hook::asked;
#[cfg(feature = "sim")]
pub use hook::{Repeating, repeat};

#[cfg(not(feature = "sim"))]
pub(crate) const fn asked(_: Twice) -> bool {
    false
}
