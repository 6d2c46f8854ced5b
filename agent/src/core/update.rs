//! What an update of the agent comes to: fetch, try, confirm. The second step ends this process; the saga is taken up again
//! by whichever version the launcher then starts, the new one or, if that does not prove itself, the old one.
//!
//! Confirming is the proof that the new version works: it has opened the journal and read from it a plan that the old one
//! wrote, carries out the rest of a signed command, and has reached the hub, unless the old one could not either.

use genesis_shared::id::Digest;
use genesis_shared::update::UpdateAgent;
use serde::{Deserialize, Serialize};

use crate::core::step::Step;

/// One effect on the agent itself.
///
/// IMPORTANT: in the journals of running droplets, and read by other versions of the agent; it never changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UpdateStep {
    /// Brings the binary here and asks it whether it can read this journal, and write one that this version reads.
    Fetch {
        /// Which binary.
        sha256: Digest,
    },
    /// Puts it on probation.
    Try {
        /// Which binary.
        sha256: Digest,
    },
    /// Ends its probation: it stays.
    Confirm {
        /// Which binary.
        sha256: Digest,
    },
}

impl UpdateStep {
    /// For people and step traces.
    pub fn title(&self) -> String {
        match self {
            Self::Fetch { sha256 } => format!("fetch_agent {sha256}"),
            Self::Try { sha256 } => format!("try_agent {sha256}"),
            Self::Confirm { sha256 } => format!("confirm_agent {sha256}"),
        }
    }

    /// Whether it can leave something behind that an undo has to take back.
    pub fn has_effect(&self) -> bool {
        match self {
            Self::Fetch { .. } | Self::Try { .. } => true,
            Self::Confirm { .. } => false,
        }
    }
}

/// The steps of an update.
pub fn steps(command: usize, wish: &UpdateAgent) -> Vec<Step> {
    let sha256 = wish.sha256;
    let steps = [UpdateStep::Fetch { sha256 }, UpdateStep::Try { sha256 }, UpdateStep::Confirm { sha256 }];
    steps.into_iter().map(|step| Step::Update { command, step }).collect()
}

/// What a binary says of itself (`genesis-agent facts`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// Its version.
    pub version: String,
    /// The oldest form of a journal that it reads.
    pub journal_reads_from: i64,
    /// The form that it writes, and the newest that it reads.
    pub journal_writes: i64,
}

/// The oldest form of a journal that this version reads.
const JOURNAL_READS_FROM: i64 = 1;
/// The form of the journal that this version writes.
pub const JOURNAL_WRITES: i64 = 3;

/// What this version says of itself.
pub fn facts() -> Facts {
    let version = env!("CARGO_PKG_VERSION").to_owned();
    Facts { version, journal_reads_from: JOURNAL_READS_FROM, journal_writes: JOURNAL_WRITES }
}

impl Facts {
    /// Whether each of two versions can go on with what the other wrote. Unknown members, of a later version, do not
    /// matter.
    pub fn may_follow(&self, mine: &Self) -> bool {
        // A version reads what it writes; equal forms are the only ones that both read and write.
        self.journal_reads_from <= mine.journal_writes && self.journal_writes == mine.journal_writes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_that_writes_another_journal_may_not_follow() {
        let facts = |from, writes| Facts { version: "1".into(), journal_reads_from: from, journal_writes: writes };
        let mine = facts(1, 3);
        assert!(facts(1, 3).may_follow(&mine));
        assert!(facts(3, 3).may_follow(&mine));
        assert!(!facts(1, 4).may_follow(&mine), "this version could not read it when it comes back");
        assert!(!facts(1, 2).may_follow(&mine), "it could not read this one's");
        assert!(!facts(4, 4).may_follow(&mine));
    }
}
