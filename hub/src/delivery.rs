//! The delivery key: signs the short tokens that say "the hub handed this bundle to this droplet just now".
//!
//! It cannot make a command: a droplet runs only what operators signed (invariant 4 of the architecture).

use genesis_shared::audit::Checkpoint;
use genesis_shared::delivery::{AUDIENCE, Claims, ISSUER};
use genesis_shared::id::{Digest, DropletId, KeyId, PublicKey, WorkspaceId};
use genesis_shared::limits::DELIVERY_TOKEN_TTL_S;
use genesis_shared::timestamp::Timestamp;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use ring::signature::{Ed25519KeyPair, KeyPair};

use crate::random;

/// Mints delivery tokens.
#[derive(Clone)]
pub struct DeliveryKey {
    kid: KeyId,
    key: EncodingKey,
}

/// What one token is to say.
#[derive(Clone, Copy, Debug)]
pub struct HandOut<'a> {
    /// The tenant.
    pub workspace: WorkspaceId,
    /// The droplet.
    pub droplet: &'a DropletId,
    /// The bundle's action names.
    pub action: &'a str,
    /// The bundle's exact text.
    pub bundle: &'a str,
    /// The nonce of the poll.
    pub nonce: &'a str,
}

/// The key or a token could not be made.
#[derive(Debug, thiserror::Error)]
pub enum DeliveryError {
    /// The key file holds something else.
    #[error("the delivery key is not an Ed25519 key in PKCS#8")]
    Key,
    /// Signing failed.
    #[error("the delivery token could not be signed")]
    Sign(#[source] jsonwebtoken::errors::Error),
}

impl std::fmt::Debug for DeliveryKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DeliveryKey({})", self.kid)
    }
}

impl DeliveryKey {
    /// From PKCS#8 bytes.
    ///
    /// # Errors
    /// [`DeliveryError::Key`].
    pub fn new(kid: KeyId, pkcs8: &[u8]) -> Result<Self, DeliveryError> {
        public_key(pkcs8)?;
        Ok(Self { kid, key: EncodingKey::from_ed_der(pkcs8) })
    }

    /// The token for one hand-out.
    ///
    /// # Errors
    /// [`DeliveryError::Sign`].
    pub fn mint(&self, hand_out: &HandOut<'_>, now: Timestamp) -> Result<String, DeliveryError> {
        let claims = Claims {
            iss: ISSUER.to_owned(),
            sub: hand_out.workspace,
            aud: AUDIENCE.to_owned(),
            iat: now.seconds(),
            exp: now.seconds() + DELIVERY_TOKEN_TTL_S,
            jti: random::token(),
            action: hand_out.action.to_owned(),
            droplet_id: hand_out.droplet.clone(),
            bundle: Digest::of(hand_out.bundle.as_bytes()),
            nonce: hand_out.nonce.to_owned(),
        };
        let mut header = Header::new(Algorithm::EdDSA);
        header.kid = Some(self.kid.to_string());
        jsonwebtoken::encode(&header, &claims, &self.key).map_err(DeliveryError::Sign)
    }
}

impl DeliveryKey {
    /// The signed text of a checkpoint of the hub's audit chain.
    ///
    /// # Errors
    /// [`DeliveryError::Sign`].
    pub fn checkpoint(&self, checkpoint: &Checkpoint) -> Result<String, DeliveryError> {
        let sign = |bytes: &[u8]| jsonwebtoken::crypto::sign(bytes, &self.key, Algorithm::EdDSA);
        checkpoint.sign(&self.kid, sign).map_err(DeliveryError::Sign)
    }
}

/// The public half of a PKCS#8 key.
///
/// # Errors
/// [`DeliveryError::Key`].
pub fn public_key(pkcs8: &[u8]) -> Result<PublicKey, DeliveryError> {
    let pair = Ed25519KeyPair::from_pkcs8(pkcs8).map_err(|_| DeliveryError::Key)?;
    let bytes = pair.public_key().as_ref().try_into().map_err(|_| DeliveryError::Key)?;
    Ok(PublicKey::from_bytes(bytes))
}
