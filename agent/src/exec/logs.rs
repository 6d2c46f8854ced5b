//! `GET_LOGS`: the last lines of a container's log, without the secrets that this droplet knows.

use genesis_shared::command::Command;
use genesis_shared::limits::LOG_BYTES_MAX;
use genesis_shared::seal::{Context, seal};
use genesis_shared::secret::Secret;
use genesis_shared::stack::StackCommand;
use serde_json::{Value, json};

use super::Exec;
use super::perform::permanent;
use super::sealed::redacted;
use crate::core::plan::Known;
use crate::ports::stack::Containers;
use crate::ports::{EffectError, Entropy, World};

impl<W: World> Exec<'_, W> {
    pub(super) async fn read_logs(&self, command: &Command, known: &Known) -> Result<Value, EffectError> {
        let Command::Stack(StackCommand::GetLogs(wish)) = command else {
            return Err(permanent("journal_damaged", "the plan does not fit the bundle it was made from"));
        };
        let lines = self.world.containers().logs(wish.container, wish.lines, wish.since, LOG_BYTES_MAX).await?;
        let text = redacted(&lines, &self.all_secrets(known));
        let count = text.lines().count();
        let Some(recipient) = wish.recipient else {
            return Ok(json!({"container": wish.container, "lines": count, "logs": text}));
        };
        let mut ephemeral = [0; 32];
        self.world.entropy().fill(&mut ephemeral);
        let context = Context::logs(self.workspace_id, wish.container);
        let sealed = seal(recipient, &context, &Secret::new(text.into_bytes()), ephemeral)
            .map_err(|error| permanent("cannot_seal", &format!("the log cannot be sealed to the asker: {error}")))?;
        Ok(json!({"container": wish.container, "lines": count, "sealed_logs": sealed}))
    }

    /// Every secret text that this droplet can know: of managed credentials and variables, and of the stack.
    fn all_secrets(&self, known: &Known) -> Vec<Secret<String>> {
        let credentials = known.credentials.values().map(|row| row.source);
        let sources = credentials.chain(known.workflows.values().map(|row| row.source));
        let commands: Vec<Command> = sources.filter_map(|source| self.source(source).ok().flatten()).collect();
        let mut secrets = self.secrets(&commands);
        secrets.push(self.stack_secrets.n8n_encryption_key.clone());
        secrets.push(self.stack_secrets.postgres_password.clone());
        secrets
    }
}
