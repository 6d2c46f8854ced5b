//! Steps of an update -> the slots. Each looks first where the binary stands, so that it may be repeated by either version.

use genesis_shared::command::Command;
use genesis_shared::id::Digest;
use genesis_shared::update::UpdateAgent;
use serde_json::{Value, json};

use super::Exec;
use super::perform::permanent;
use crate::core::step::StepOutput;
use crate::core::update::{UpdateStep, facts};
use crate::ports::slots::{Slots, Standing};
use crate::ports::{EffectError, HubLink, World};

impl<W: World> Exec<'_, W> {
    pub(super) async fn perform_update(&self, command: &Command, step: &UpdateStep) -> Result<StepOutput, EffectError> {
        let Command::UpdateAgent(wish) = command else {
            return Err(permanent("journal_damaged", "the plan does not fit the bundle it was made from"));
        };
        let answer = match step {
            UpdateStep::Fetch { .. } => self.fetch_agent(wish).await?,
            UpdateStep::Try { sha256 } => self.try_agent(*sha256).await?,
            UpdateStep::Confirm { sha256 } => self.confirm_agent(*sha256).await?,
        };
        Ok(StepOutput::answer(answer))
    }

    pub(super) async fn undo_update(&self, step: &UpdateStep) -> Result<(), EffectError> {
        let slots = self.world.slots();
        match step {
            UpdateStep::Fetch { sha256 } => slots.discard(*sha256),
            UpdateStep::Try { sha256 } => match slots.standing(*sha256)? {
                Standing::OnTrial { .. } => slots.give_up(*sha256, "it could not confirm itself").await,
                Standing::Current | Standing::Elsewhere | Standing::Rejected(_) => Ok(()),
            },
            UpdateStep::Confirm { .. } => Ok(()),
        }
    }

    async fn fetch_agent(&self, wish: &UpdateAgent) -> Result<Value, EffectError> {
        let slots = self.world.slots();
        if slots.standing(wish.sha256)? == Standing::Current {
            return Ok(Value::Null);
        }
        slots.fetch(&wish.url, wish.sha256, wish.size).await?;
        let (mine, new) = (facts(), slots.facts().await?);
        if new.may_follow(&mine) {
            return Ok(Value::Null);
        }
        let message = format!(
            "version {} writes journals of form {} and reads them from {}; this one, {}, writes form {}: one of them could not \
             go on where the other stopped. Update by a version in between",
            new.version, new.journal_writes, new.journal_reads_from, mine.version, mine.journal_writes
        );
        Err(permanent("update_journal_differs", &message))
    }

    async fn try_agent(&self, sha256: Digest) -> Result<Value, EffectError> {
        let slots = self.world.slots();
        match slots.standing(sha256)? {
            Standing::OnTrial { .. } | Standing::Current => Ok(Value::Null),
            Standing::Rejected(why) => Err(rolled_back(&why)),
            Standing::Elsewhere => {
                let hub_is_there = self.world.hub().reach().await.is_ok();
                slots.begin_trial(sha256, hub_is_there).await?;
                // There where no process had to end for it.
                match slots.standing(sha256)? {
                    Standing::Rejected(why) => Err(rolled_back(&why)),
                    Standing::OnTrial { .. } | Standing::Current | Standing::Elsewhere => Ok(Value::Null),
                }
            }
        }
    }

    async fn confirm_agent(&self, sha256: Digest) -> Result<Value, EffectError> {
        let slots = self.world.slots();
        let hub_was_there = match slots.standing(sha256)? {
            Standing::Current => false,
            Standing::OnTrial { hub_was_there } => {
                if hub_was_there {
                    self.world.hub().reach().await.map_err(|error| EffectError {
                        code: "update_rolled_back",
                        message: format!("the new version does not reach the hub, the old one runs: {error}"),
                        ..error
                    })?;
                }
                self.self_test()?;
                slots.confirm(sha256)?;
                hub_was_there
            }
            Standing::Rejected(why) => return Err(rolled_back(&why)),
            Standing::Elsewhere => return Err(rolled_back("the launcher started another version")),
        };
        Ok(json!({"sha256": sha256, "version": facts().version, "by": if hub_was_there { "hub" } else { "self_test" }}))
    }

    /// What can be known without the hub: the journal is whole, and what it holds can be read. That it takes writes was
    /// shown by the start of this very step, and that the keys are usable by the start of the agent.
    fn self_test(&self) -> Result<(), EffectError> {
        let failed = |why: String| permanent("update_self_test", &format!("the new version's self-test failed: {why}"));
        match self.journal.integrity() {
            Ok(word) if word == "ok" => {}
            Ok(word) => return Err(failed(word)),
            Err(error) => return Err(failed(error.to_string())),
        }
        self.journal.known().map(drop).map_err(|error| failed(error.to_string()))
    }
}

fn rolled_back(why: &str) -> EffectError {
    permanent("update_rolled_back", &format!("the new version did not prove itself, the old one runs: {why}"))
}
