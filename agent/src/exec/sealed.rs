//! What is sealed in a command: opened for use on this droplet alone, and kept out of whatever leaves it.

use std::collections::BTreeMap;

use genesis_shared::command::{Command, DeployWorkflow, InjectCredential};
use genesis_shared::seal::Context;
use genesis_shared::secret::Secret;
use serde_json::{Map, Value};

use super::Exec;
use crate::core::plan::OpenedVariables;
use crate::core::step::StepError;
use crate::ports::World;

/// Sealed texts shorter than this are not looked for in messages: too many words would be hit by chance.
const REDACTED_BYTES_MIN: usize = 6;

impl<W: World> Exec<'_, W> {
    /// Opens everything that is sealed in the commands, before anything is done.
    pub(super) fn open_all(&self, commands: &[Command]) -> Result<OpenedVariables, StepError> {
        let mut opened = OpenedVariables::new();
        for (n, command) in commands.iter().enumerate() {
            match command {
                Command::InjectCredential(inject) => drop(self.open_credential(inject)?),
                Command::DeployWorkflow(deploy) => {
                    if let Some(variables) = self.open_variables(deploy)? {
                        opened.insert(n, variables);
                    }
                }
                Command::HealthCheck | Command::ActivateWorkflow(_) => {}
            }
        }
        Ok(opened)
    }

    pub(super) fn open_credential(&self, inject: &InjectCredential) -> Result<Secret<Vec<u8>>, StepError> {
        let context = Context::credential(self.workspace_id, &inject.name, &inject.credential_type);
        let data = self.identity.sealing.open(&inject.sealed_data, &context).map_err(|error| StepError {
            code: "cannot_open".into(),
            message: format!("credential {}: {error}", inject.name),
            retryable: false,
        })?;
        // The parser's words could quote the secret, so they are not passed on.
        match serde_json::from_slice::<Map<String, Value>>(data.expose()) {
            Ok(_) => Ok(data),
            Err(_) => Err(StepError {
                code: "cannot_open".into(),
                message: format!("credential {}: what was sealed is not a JSON object", inject.name),
                retryable: false,
            }),
        }
    }

    pub(super) fn open_variables(
        &self,
        deploy: &DeployWorkflow,
    ) -> Result<Option<BTreeMap<String, String>>, StepError> {
        let Some(sealed) = &deploy.sealed_variables else { return Ok(None) };
        let refuse = |why: String| StepError {
            code: "cannot_open".into(),
            message: format!("variables of workflow {}: {why}", deploy.key),
            retryable: false,
        };
        let context = Context::variables(self.workspace_id, &deploy.key);
        let data = self.identity.sealing.open(sealed, &context).map_err(|e| refuse(e.to_string()))?;
        let variables = serde_json::from_slice(data.expose());
        variables.map(Some).map_err(|_| refuse("what was sealed is not a JSON object of texts".into()))
    }

    /// Every text that is sealed in the commands. What cannot be opened was refused before anything was done.
    pub(super) fn secrets(&self, commands: &[Command]) -> Vec<Secret<String>> {
        let mut found = Vec::new();
        for command in commands {
            match command {
                Command::InjectCredential(inject) => {
                    let data = self.open_credential(inject).ok();
                    let value = data.and_then(|data| serde_json::from_slice(data.expose()).ok());
                    value.iter().for_each(|value| texts(value, &mut found));
                }
                Command::DeployWorkflow(deploy) => {
                    let variables = self.open_variables(deploy).ok().flatten().unwrap_or_default();
                    found.extend(variables.into_values().filter(|text| is_telling(text)).map(Secret::new));
                }
                Command::HealthCheck | Command::ActivateWorkflow(_) => {}
            }
        }
        found
    }
}

/// A text that is worth hiding: a host name or `true` in a credential would blot out half of every message.
fn is_telling(text: &str) -> bool {
    text.len() >= REDACTED_BYTES_MIN
}

fn texts(value: &Value, found: &mut Vec<Secret<String>>) {
    match value {
        Value::String(text) if is_telling(text) => found.push(Secret::new(text.clone())),
        Value::Array(items) => items.iter().for_each(|item| texts(item, found)),
        Value::Object(entries) => entries.values().for_each(|value| texts(value, found)),
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// A text without the secrets that it may repeat: n8n's words quote node names, and an address holds its path.
pub(super) fn redacted(text: &str, secrets: &[Secret<String>]) -> String {
    secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret.expose(), "[sealed]"))
}

pub(super) fn redact(value: &mut Value, secrets: &[Secret<String>]) {
    match value {
        Value::String(text) => *text = redacted(text, secrets),
        Value::Array(items) => items.iter_mut().for_each(|item| redact(item, secrets)),
        Value::Object(entries) => entries.values_mut().for_each(|value| redact(value, secrets)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
