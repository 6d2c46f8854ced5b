//! The scenarios of an update of the agent: one that proves itself, and one that does not.

use genesis_shared::command::CommandWire;
use genesis_shared::id::Digest;
use genesis_shared::report::OutcomeState;
use serde_json::json;

use super::{Held, Scenario, command, scenario};
use crate::droplet::Droplet;
use crate::proofs::Wrong;

/// Stands for a binary.
pub const NEW_AGENT: &[u8] = b"a new version of the agent";

/// An update to it.
pub fn update_agent() -> CommandWire {
    let payload = json!({
        "url": "https://release.example/genesis-agent", "sha256": Digest::of(NEW_AGENT), "size": NEW_AGENT.len(),
    });
    command("UPDATE_AGENT", payload)
}

/// It stays.
pub(super) fn good() -> Scenario {
    scenario("another version of the agent", true, |_| vec![], |_| vec![update_agent()], Held::default)
}

/// It is sent back.
pub(super) fn taken_back() -> Scenario {
    let (name, outcome) = ("another version of the agent, taken back".to_owned(), OutcomeState::Failed);
    Scenario { name, outcome, is_rejected: true, ..good() }
}

impl Scenario {
    /// The version runs that should, and no binary is left that nothing needs.
    pub(super) fn check_agent(&self, droplet: &Droplet, what: &str) -> Result<(), Wrong> {
        let is_updated = self.outcome == OutcomeState::Succeeded && self.actions.iter().any(|a| a == "UPDATE_AGENT");
        let (expected, slots) = (is_updated.then(|| Digest::of(NEW_AGENT)), &droplet.outside.slots);
        match (slots.current() == expected, slots.fetched()) {
            (true, None) => Ok(()),
            (_, left) => Err(Wrong::Lost(format!("{what}: {:?} runs, {left:?} is left", slots.current()))),
        }
    }
}
