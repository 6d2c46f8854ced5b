//! What an update of the agent is asked with.

use serde::{Deserialize, Serialize};

use crate::id::Digest;
use crate::limits::AGENT_BYTES_MAX;

/// Payload of `UPDATE_AGENT`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpdateAgent {
    /// Where the binary is. Its content is pinned by `sha256`, so the way there needs no trust.
    pub url: String,
    /// What it must be.
    pub sha256: Digest,
    /// Bytes that it has, at most [`AGENT_BYTES_MAX`].
    pub size: u64,
}

impl UpdateAgent {
    /// What a type cannot say.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check(&self) -> Result<(), String> {
        if !self.url.starts_with("https://") && !self.url.starts_with("http://") {
            return Err("url must begin with https:// or http://".into());
        }
        if !(1..=AGENT_BYTES_MAX).contains(&self.size) {
            return Err(format!("size is {}; from 1 to {AGENT_BYTES_MAX} bytes are possible", self.size));
        }
        Ok(())
    }
}
