//! The places for the agent's own binaries, as the launcher arranges them.

use genesis_shared::id::Digest;

use super::EffectError;
use crate::core::update::Facts;

/// Where a binary stands, as this process sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is not this process, and nothing is under way with it.
    Elsewhere,
    /// It is this process, on probation; and whether the version before had the hub within reach.
    OnTrial {
        /// Whether the hub has to be reached.
        hub_was_there: bool,
    },
    /// It is this process, and has proved itself.
    Current,
    /// It was tried and sent back, for this reason.
    Rejected(String),
}

/// The two slots. Permanent `update_no_launcher` where no launcher has started this process.
pub trait Slots {
    /// Puts the binary into the slot that is free, with this digest and of this size; done already, if it lies there.
    /// Forgets what became of it in an earlier update. Permanent `update_digest`, `update_size`; Transient otherwise.
    async fn fetch(&self, url: &str, sha256: Digest, size: u64) -> Result<(), EffectError>;
    /// What the fetched binary says of itself. Permanent `update_not_a_program` if it says nothing sensible.
    async fn facts(&self) -> Result<Facts, EffectError>;
    /// Where it stands.
    fn standing(&self, sha256: Digest) -> Result<Standing, EffectError>;
    /// Puts the fetched binary on probation and ends this process; where it returns, a restart lies in between.
    async fn begin_trial(&self, sha256: Digest, hub_is_there: bool) -> Result<(), EffectError>;
    /// This process stays. Idempotent, and atomic.
    fn confirm(&self, sha256: Digest) -> Result<(), EffectError>;
    /// This process gives up its probation and ends; where it returns, a restart lies in between.
    async fn give_up(&self, sha256: Digest, why: &str) -> Result<(), EffectError>;
    /// Removes a fetched binary that is not in use. Idempotent.
    fn discard(&self, sha256: Digest) -> Result<(), EffectError>;
}
