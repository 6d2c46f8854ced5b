//! Seals secrets to one droplet: what is sealed here opens there and nowhere else.

use std::collections::BTreeMap;

use genesis_shared::command::{Action, CommandWire, InjectCredential};
use genesis_shared::id::{CredentialName, CredentialType, PublicKey, WorkflowKey, WorkspaceId};
use genesis_shared::json;
use genesis_shared::seal::{Context, Sealed, seal};
use genesis_shared::secret::Secret;

use crate::error::Error;

/// The droplet that is to open a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recipient {
    /// Its tenant, bound into what is sealed.
    pub workspace: WorkspaceId,
    /// Its sealing key.
    pub key: PublicKey,
}

/// Seals n8n's `data` object of a credential and gives the command that carries it. `ephemeral` are 32 fresh random
/// bytes.
///
/// # Errors
/// [`Error::Json`] where `data` is not a JSON object, [`Error::Seal`].
pub fn credential(
    to: Recipient,
    name: &CredentialName,
    credential_type: &CredentialType,
    data: &Secret<Vec<u8>>,
    ephemeral: [u8; 32],
) -> Result<CommandWire, Error> {
    let what = || "the credential's data".to_owned();
    // Parsed only to refuse here what n8n would refuse there; the value is not kept.
    json::parse_as::<serde_json::Map<String, serde_json::Value>>(data.expose())
        .map_err(|source| Error::Json { what: what(), source })?;
    let sealed_data = seal(to.key, &Context::credential(to.workspace, name, credential_type), data, ephemeral)?;
    let payload = InjectCredential { name: name.clone(), credential_type: credential_type.clone(), sealed_data };
    let payload = serde_json::to_value(payload).expect("a payload has a JSON form");
    Ok(CommandWire { action: Action::InjectCredential.name().to_owned(), payload: Some(payload) })
}

/// Seals secret variables of one workflow: the value of `sealed_variables` in its `DEPLOY_WORKFLOW`.
///
/// # Errors
/// [`Error::Json`] where `data` is not a JSON object of strings, [`Error::Seal`].
pub fn variables(
    to: Recipient,
    workflow: &WorkflowKey,
    data: &Secret<Vec<u8>>,
    ephemeral: [u8; 32],
) -> Result<Sealed, Error> {
    let what = || "the variables (a JSON object of strings)".to_owned();
    json::parse_as::<BTreeMap<String, String>>(data.expose()).map_err(|source| Error::Json { what: what(), source })?;
    Ok(seal(to.key, &Context::variables(to.workspace, workflow), data, ephemeral)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::{Kind, PrivateKey};

    fn recipient() -> (PrivateKey, Recipient) {
        let key = PrivateKey::new("droplet".parse().unwrap(), Kind::Recovery, [7; 32]);
        let to = Recipient {
            workspace: "0192f0a1-1111-7000-8000-000000000001".parse().unwrap(),
            key: key.public().unwrap().public_key,
        };
        (key, to)
    }

    #[test]
    fn the_command_for_a_credential_keeps_its_form_and_opens_at_the_droplet() {
        let (key, to) = recipient();
        let (name, kind) = ("gmail".parse().unwrap(), "gmailOAuth2".parse().unwrap());
        let data = Secret::new(br#"{"clientId":"i"}"#.to_vec());
        let command = credential(to, &name, &kind, &data, [9; 32]).unwrap();
        let golden = concat!(
            r#"{"action":"INJECT_CREDENTIAL","payload":{"name":"gmail","credential_type":"gmailOAuth2","#,
            r#""sealed_data":{"recipient":"E75P6uryBMf9M1j8nAByGIHRdCeBKCJ-xnTzf3_pe20","#,
            r#""enc":"3okjpnXQIYDN19AJe6QEueHikw1WZculjRdlAGNheTs","#,
            r#""ciphertext":"i2OW2vsVqleYqjQuccK_9etIZ3phqoTJ1vFsXZMtSg0"}}}"#,
        );
        assert_eq!(serde_json::to_string(&command).unwrap(), golden);

        let payload: InjectCredential = serde_json::from_value(command.payload.unwrap()).unwrap();
        let context = Context::credential(to.workspace, &name, &kind);
        assert_eq!(key.opening().unwrap().open(&payload.sealed_data, &context).unwrap().expose(), data.expose());
    }

    #[test]
    fn sealed_variables_open_for_their_workflow() {
        let (key, to) = recipient();
        let workflow = "email-1".parse().unwrap();
        let data = Secret::new(br#"{"YOUR_WEBHOOK_TOKEN":"t"}"#.to_vec());
        let sealed = variables(to, &workflow, &data, [9; 32]).unwrap();
        let context = Context::variables(to.workspace, &workflow);
        assert_eq!(key.opening().unwrap().open(&sealed, &context).unwrap().expose(), data.expose());
    }

    #[test]
    fn refuses_data_of_another_shape() {
        let (_, to) = recipient();
        let (name, kind) = ("gmail".parse().unwrap(), "gmailOAuth2".parse().unwrap());
        for text in ["", "[]", "\"x\"", r#"{"a":1,"a":2}"#] {
            let data = Secret::new(text.as_bytes().to_vec());
            assert!(matches!(credential(to, &name, &kind, &data, [9; 32]), Err(Error::Json { .. })), "{text}");
        }
        let numbers = Secret::new(br#"{"YOUR_A":1}"#.to_vec());
        assert!(matches!(variables(to, &"a".parse().unwrap(), &numbers, [9; 32]), Err(Error::Json { .. })));
    }
}
