//! The droplet's own keys: made here at first start, never anywhere else.

use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use genesis_shared::id::{DropletId, PublicKey};
use genesis_shared::seal::{SealError, SealingKey};
use genesis_shared::secret::Secret;
use genesis_shared::timestamp::Timestamp;
use genesis_shared::wire::{RENEW_AUDIENCE, RenewClaims};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use ring::signature::{Ed25519KeyPair, KeyPair};
use zeroize::Zeroize;

use crate::ports::{Entropy, FileError, Files};

/// File names within the data folder.
const IDENTITY_FILE: &str = "identity.key";
const SEALING_FILE: &str = "sealing.key";
const FINGERPRINT_FILE: &str = "fingerprint.key";

/// DER around the 32 bytes of an Ed25519 private key (RFC 8410 §7), for the JWT library.
const PKCS8_PREFIX: [u8; 16] = *b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20";

/// Why the droplet has no usable keys.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A key file cannot be read or written.
    #[error("cannot use the droplet's key files")]
    File(#[from] FileError),
    /// A key file has not 32 bytes.
    #[error("{0} in the data folder is damaged; restore it, or enrol the droplet anew after removing it")]
    Damaged(&'static str),
    /// The sealing key cannot be used.
    #[error("the sealing key cannot be used")]
    Sealing(#[from] SealError),
    /// A JWT could not be made.
    #[error("cannot sign with the identity key")]
    Sign(#[from] jsonwebtoken::errors::Error),
}

/// The keys.
pub struct Identity {
    signing: Ed25519KeyPair,
    seed: Secret<[u8; 32]>,
    /// Opens what was sealed to this droplet.
    pub sealing: SealingKey,
    fingerprint: ring::hmac::Key,
}

impl Identity {
    /// Reads the keys, making those that are missing.
    ///
    /// # Errors
    /// Every [`IdentityError`] but [`IdentityError::Sign`].
    pub fn load_or_create(files: &impl Files, entropy: &impl Entropy) -> Result<Self, IdentityError> {
        let seed = key_file(files, entropy, IDENTITY_FILE)?;
        let sealing = SealingKey::from_private(key_file(files, entropy, SEALING_FILE)?)?;
        let fingerprint = key_file(files, entropy, FINGERPRINT_FILE)?;
        Ok(Self {
            signing: Ed25519KeyPair::from_seed_unchecked(seed.expose())
                .map_err(|_| IdentityError::Damaged(IDENTITY_FILE))?,
            seed,
            sealing,
            fingerprint: ring::hmac::Key::new(ring::hmac::HMAC_SHA256, fingerprint.expose()),
        })
    }

    /// The identity's public key.
    pub fn public(&self) -> PublicKey {
        let bytes = self.signing.public_key().as_ref();
        PublicKey::from_bytes(bytes.try_into().expect("an Ed25519 public key has 32 bytes"))
    }

    /// Signs, in base64url without padding.
    pub fn sign(&self, message: &[u8]) -> String {
        BASE64URL_NOPAD.encode(self.signing.sign(message).as_ref())
    }

    /// A JWT that wins back a sidecar token.
    ///
    /// # Errors
    /// [`IdentityError::Sign`].
    pub fn renewal(&self, droplet: &DropletId, now: Timestamp, jti: String) -> Result<String, IdentityError> {
        let claims = RenewClaims { sub: droplet.clone(), aud: RENEW_AUDIENCE.to_owned(), iat: now.seconds(), jti };
        let mut header = Header::new(Algorithm::EdDSA);
        header.kid = Some(droplet.to_string());
        let der = Secret::new(pkcs8(&self.seed));
        Ok(jsonwebtoken::encode(&header, &claims, &EncodingKey::from_ed_der(der.expose()))?)
    }

    /// Tells whether two secrets are the same without telling what they are: an HMAC under a key of this droplet.
    pub fn fingerprint(&self, secret: &Secret<Vec<u8>>) -> String {
        HEXLOWER.encode(ring::hmac::sign(&self.fingerprint, secret.expose()).as_ref())
    }
}

/// A private key in the form that the JWT library reads.
pub(crate) fn pkcs8(seed: &Secret<[u8; 32]>) -> Vec<u8> {
    [&PKCS8_PREFIX[..], seed.expose()].concat()
}

fn key_file(files: &impl Files, entropy: &impl Entropy, name: &'static str) -> Result<Secret<[u8; 32]>, IdentityError> {
    if let Some(content) = files.read_secret(name)? {
        let mut bytes: [u8; 32] = content.expose().as_slice().try_into().map_err(|_| IdentityError::Damaged(name))?;
        let key = Secret::new(bytes);
        // An array is copied where a vector would be moved; the copy is not to stay behind.
        bytes.zeroize();
        return Ok(key);
    }
    let mut bytes = [0; 32];
    entropy.fill(&mut bytes);
    let key = Secret::new(bytes);
    bytes.zeroize();
    files.write_secret(name, &Secret::new(key.expose().to_vec()))?;
    Ok(key)
}
