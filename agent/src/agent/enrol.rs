//! How a droplet gets and keeps its place at the hub: handshake once, renewal by its identity key ever after.

use std::path::Path;

use data_encoding::HEXLOWER;
use genesis_shared::audit::{Note, event};
use genesis_shared::secret::Secret;
use genesis_shared::wire::{HandshakeAnswer, HandshakeRequest, handshake_proof};
use serde_json::json;

use super::{Agent, Fatal, META_PACE, UNAUTHORISED};
use crate::identity::IdentityError;
use crate::ports::{Clock, EffectError, Entropy, ErrorKind, Files, Host, HubLink, RENEWALS_USED_UP, World};

impl<W: World> Agent<W> {
    /// A token to speak to the hub with. `Err` means: not now.
    pub(super) async fn token_or_enrol(&self) -> Result<Result<Secret<String>, EffectError>, Fatal> {
        // A trust root in the journal means that a handshake was completed, by this journal: without one, a token that
        // is still there belongs to a journal that was lost, and nothing could be admitted.
        let has_root = self.root.borrow().is_some();
        match self.current_token() {
            Some(token) if has_root => Ok(Ok(token)),
            None if has_root => self.renew().await,
            Some(_) | None => self.handshake().await,
        }
    }

    async fn renew(&self) -> Result<Result<Secret<String>, EffectError>, Fatal> {
        let mut jti = [0; 16];
        self.world.entropy().fill(&mut jti);
        let droplet = &self.settings.droplet_id;
        let assertion = self.identity.renewal(droplet, self.world.clock().now(), HEXLOWER.encode(&jti))?;
        match self.world.hub().renew(droplet, assertion).await {
            Ok(answer) => {
                let token = Secret::new(answer.sidecar_token);
                self.keep_token(&token)?;
                tracing::info!("renewed the sidecar token");
                Ok(Ok(token))
            }
            // The hub does not know this droplet any more, or has heard too often from it; a new provisioning token
            // helps with both.
            Err(mut error) if [UNAUTHORISED, RENEWALS_USED_UP].contains(&error.code) => {
                if self.has_provisioning_token()? {
                    return self.handshake().await;
                }
                error.message += &self.how_to_enrol();
                Ok(Err(error))
            }
            Err(error) => Ok(Err(error)),
        }
    }

    /// What a person has to do for a new handshake.
    fn how_to_enrol(&self) -> String {
        let where_to = match &self.settings.provisioning_token_file {
            Some(path) => format!("write it to {}", path.display()),
            None => "name its file as provisioning_token_file in the agent's configuration".to_owned(),
        };
        let droplet = &self.settings.droplet_id;
        format!("; issue a new provisioning token for droplet {droplet} at the hub and {where_to}")
    }

    fn has_provisioning_token(&self) -> Result<bool, Fatal> {
        let Some(path) = &self.settings.provisioning_token_file else { return Ok(false) };
        let content = self.world.files().read_outside(&path.display().to_string()).map_err(IdentityError::File)?;
        Ok(content.is_some())
    }

    async fn handshake(&self) -> Result<Result<Secret<String>, EffectError>, Fatal> {
        let request = match self.handshake_request().await? {
            Ok(request) => request,
            Err(error) => return Ok(Err(error)),
        };
        let answer = match self.world.hub().handshake(&request).await {
            Ok(answer) => answer,
            Err(mut error) => {
                if error.code == UNAUTHORISED {
                    error.message += &self.how_to_enrol();
                }
                return Ok(Err(error));
            }
        };
        self.complete(answer)
    }

    async fn handshake_request(&self) -> Result<Result<HandshakeRequest, EffectError>, Fatal> {
        let wanting = |message: String| EffectError::new(ErrorKind::Permanent, "no_provisioning_token", message);
        let Some(path) = &self.settings.provisioning_token_file else {
            return Ok(Err(wanting(format!("not enrolled yet, and there is no token{}", self.how_to_enrol()))));
        };
        let path = path.display().to_string();
        let content = self.world.files().read_outside(&path).map_err(IdentityError::File)?;
        let token = content.map(|bytes| String::from_utf8_lossy(bytes.expose()).trim().to_owned());
        let Some(provisioning_token) = token.filter(|text| !text.is_empty()) else {
            return Ok(Err(wanting(format!(
                "not enrolled yet, and there is no token in {path}{}",
                self.how_to_enrol()
            ))));
        };
        let mut request = HandshakeRequest {
            provisioning_token,
            workspace_id: self.settings.workspace_id,
            droplet_id: self.settings.droplet_id.clone(),
            droplet_ip: self.settings.droplet_ip.clone(),
            webhook_url: self.settings.n8n.public_url.clone(),
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            n8n_version: None,
            identity_key: self.identity.public(),
            sealing_key: self.identity.sealing.public(),
            boot_epoch: self.world.host().boot_epoch(),
            journal_high_water: self.journal.outbox_state()?.0,
            outbox_next: self.journal.outbox_next()?,
            preflight: self.preflight().await,
            proof: String::new(),
        };
        request.proof = self.identity.sign(&handshake_proof(&request));
        Ok(Ok(request))
    }

    /// Keeps what the handshake gave, in an order that a crash may cut anywhere: with the trust root kept, the token
    /// can always be won back by renewal.
    fn complete(&self, answer: HandshakeAnswer) -> Result<Result<Secret<String>, EffectError>, Fatal> {
        if let Err(error) = self.adopt_chain(&answer.trust_root)? {
            return Ok(Err(error));
        }
        if let Ok(pace) = serde_json::to_vec(&answer.config) {
            let note = Note::new(event::DROPLET_ENROLLED, json!({"identity_key": self.identity.public()}));
            self.journal.set_meta_noted(META_PACE, &pace, &[note], self.world.clock().now())?;
        }
        let token = Secret::new(answer.sidecar_token);
        self.keep_token(&token)?;
        self.pace.set(answer.config);
        if let Some(path) = &self.settings.provisioning_token_file
            && let Err(error) = self.world.files().remove_outside(&path.display().to_string())
        {
            // It is spent; that it still lies there is untidy, not dangerous.
            tracing::warn!("{}", genesis_shared::chain::Chain(&error));
        }
        tracing::info!("enrolled at the hub");
        Ok(Ok(token))
    }

    /// Removes what cloud-init kept of the user-data, and with it the spent token. cloud-init reads some of it until it is
    /// done, at every boot, and may make it anew from what the metadata service still serves.
    pub(super) fn forget_first_boot(&self) -> Result<(), Fatal> {
        let Some(forget) = &self.settings.forget else { return Ok(()) };
        let files = self.world.files();
        let path = |path: &Path| path.display().to_string();
        if files.read_outside(&path(&forget.once)).map_err(IdentityError::File)?.is_none() {
            return Ok(());
        }
        for file in &forget.files {
            if let Err(error) = files.remove_outside(&path(file)) {
                tracing::warn!("{}", genesis_shared::chain::Chain(&error));
            }
        }
        Ok(())
    }
}
