//! How a light agent behaves.

use std::time::Duration;

/// What is peculiar about an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Script {
    /// Does what it is asked within `work`.
    Prompt {
        /// From the acceptance to the result.
        work: Duration,
    },
    /// Every job fails.
    Failing,
    /// Accepts jobs and never says how they ended.
    Mute,
    /// Drops its connection after `up`, and is away for `down`.
    Flapping {
        /// Connected for so long.
        up: Duration,
        /// Away for so long.
        down: Duration,
    },
}

impl Script {
    /// Nothing peculiar.
    pub const PROMPT: Self = Self::Prompt { work: Duration::ZERO };

    /// The script of this name.
    ///
    /// # Errors
    /// There is none.
    pub fn named(name: &str) -> Result<Self, String> {
        match name {
            "prompt" => Ok(Self::PROMPT),
            "slow" => Ok(Self::Prompt { work: Duration::from_secs(5) }),
            "failing" => Ok(Self::Failing),
            "mute" => Ok(Self::Mute),
            "flapping" => Ok(Self::Flapping { up: Duration::from_secs(40), down: Duration::from_secs(20) }),
            other => Err(format!("{other:?} is none of prompt, slow, failing, mute, flapping")),
        }
    }
}
