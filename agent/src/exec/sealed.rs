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
            for inject in command.injections() {
                drop(self.open_credential(inject)?);
            }
            for deploy in command.deployments() {
                if let Some(variables) = self.open_variables(deploy)? {
                    opened.insert((n, deploy.key.clone()), variables);
                }
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
            for inject in command.injections() {
                let data = self.open_credential(inject).ok();
                let value = data.and_then(|data| serde_json::from_slice(data.expose()).ok());
                value.iter().for_each(|value| texts(value, &mut found));
            }
            let variables =
                command.deployments().into_iter().filter_map(|deploy| self.open_variables(deploy).ok().flatten());
            let values = variables.flatten().map(|(_, text)| text);
            found.extend(values.filter(|text| is_telling(text)).map(Secret::new));
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

/// A text without the secrets that it may repeat: n8n's words quote names and values, and may be cut in the middle.
pub(super) fn redacted(text: &str, secrets: &[Secret<String>]) -> String {
    let mut forms: Vec<Secret<String>> = secrets.iter().flat_map(forms_of).collect();
    // The longest first: a shorter one may be a part of it.
    forms.sort_by_key(|form| std::cmp::Reverse(form.expose().len()));
    let mut text = forms.iter().fold(text.to_owned(), |text, form| text.replace(form.expose(), SEALED));
    for form in &forms {
        let cuts = (REDACTED_BYTES_MIN..form.expose().len()).rev().filter(|at| form.expose().is_char_boundary(*at));
        if let Some(at) = cuts.into_iter().find(|at| text.ends_with(&form.expose()[..*at])) {
            text.truncate(text.len() - at);
            text.push_str(SEALED);
        }
    }
    text
}

/// What stands in place of a secret.
const SEALED: &str = "[sealed]";

/// The ways in which a secret is quoted: as it is, as part of a path, escaped in JSON.
fn forms_of(secret: &Secret<String>) -> Vec<Secret<String>> {
    let text = secret.expose();
    let escaped = Value::from(text.as_str()).to_string();
    let forms = [text.as_str(), text.trim_matches('/'), &escaped[1..escaped.len() - 1]];
    forms.into_iter().filter(|form| is_telling(form)).map(|form| Secret::new(form.to_owned())).collect()
}

/// Takes secrets out of the addresses of an answer, the one part of it that is made from a workflow's content.
pub(super) fn redact_addresses(answer: &mut Value, secrets: &[Secret<String>]) {
    for key in ["webhook_url", "webhook_urls"] {
        match answer.get_mut(key) {
            Some(Value::String(text)) => *text = redacted(text, secrets),
            Some(Value::Array(items)) => {
                for item in items {
                    if let Value::String(text) = item {
                        *text = redacted(text, secrets);
                    }
                }
            }
            Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) | None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hide(text: &str, secrets: &[&str]) -> String {
        redacted(text, &secrets.iter().map(|secret| Secret::new((*secret).to_owned())).collect::<Vec<_>>())
    }

    #[test]
    fn hides_whole_cut_escaped_and_overlapping_secrets() {
        assert_eq!(hide("path in/hunter22 is taken", &["hunter22"]), "path in/[sealed] is taken");
        assert_eq!(hide("longer: hunter22x", &["hunter22", "hunter22x"]), "longer: [sealed]");
        assert_eq!(hide("cut in hunter2", &["hunter22"]), "cut in [sealed]");
        assert_eq!(hide(r#"{"a":"say \"hi\""}"#, &["say \"hi\""]), r#"{"a":"[sealed]"}"#);
        assert_eq!(hide("https://x/a/b/c/d", &["/a/b/c/d/"]), "https://x/[sealed]");
        assert_eq!(hide("ok", &["ok"]), "ok", "what is too short to tell is not looked for");
    }
}
