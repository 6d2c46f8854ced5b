//! Sealing of secrets to one droplet or to the recovery key: HPKE base mode (RFC 9180) with DHKEM(X25519,
//! HKDF-SHA256), HKDF-SHA256, AES-256-GCM, one message per encapsulation.
//!
//! What a ciphertext is for is bound into its associated data, so it cannot be moved to another tenant, name or type.

use data_encoding::BASE64URL_NOPAD;
use hpke::aead::AesGcm256;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable, Kem, OpModeR, OpModeS, Serializable};
use serde::{Deserialize, Serialize};

use crate::id::{CredentialName, CredentialType, DropletId, PublicKey, WorkflowKey, WorkspaceId};
use crate::limits::SEALED_BYTES_MAX;
use crate::secret::Secret;
use crate::stack::Service;

/// HPKE `info`: the name of this scheme and its version.
const INFO: &[u8] = b"genesis-seal-v1";

/// A sealed value on the wire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Sealed {
    /// The recipient's public key, base64url: tells which key opens it, and that a key was exchanged since.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub recipient: PublicKey,
    /// HPKE encapsulated key, 32 bytes in base64url without padding.
    pub enc: String,
    /// AES-256-GCM ciphertext with its tag, base64url without padding.
    pub ciphertext: String,
}

/// What a sealed value is for; authenticated, not transmitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context(String);

impl Context {
    /// The `data` object of an n8n credential.
    pub fn credential(workspace: WorkspaceId, name: &CredentialName, credential_type: &CredentialType) -> Self {
        Self(format!("credential\n{workspace}\n{name}\n{credential_type}"))
    }
    /// The secret variables of a workflow.
    pub fn variables(workspace: WorkspaceId, key: &WorkflowKey) -> Self {
        Self(format!("variables\n{workspace}\n{key}"))
    }
    /// What a droplet deposits for the recovery key.
    pub fn escrow(workspace: WorkspaceId, droplet: &DropletId) -> Self {
        Self(format!("escrow\n{workspace}\n{droplet}"))
    }
    /// Lines of a container's log, for whoever asked for them.
    pub fn logs(workspace: WorkspaceId, container: Service) -> Self {
        Self(format!("logs\n{workspace}\n{container}"))
    }
    /// The associated data: lines of ASCII, none of whose parts can hold a line break.
    pub fn aad(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

/// Why something cannot be sealed or opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The plaintext exceeds the limit.
    #[error("{0} bytes to seal; at most {SEALED_BYTES_MAX} are accepted")]
    TooLarge(usize),
    /// The recipient's public key is not a point of the curve that can be used.
    #[error("the recipient's public key cannot be used")]
    BadRecipient,
    /// Sealed to another key than the one at hand.
    #[error("sealed to key {0}, which is not this droplet's; seal it again to the droplet's current key")]
    OtherRecipient(PublicKey),
    /// Not base64url, or of impossible length.
    #[error("the sealed value is malformed")]
    Malformed,
    /// Forged, damaged, or made for another tenant, name or type.
    #[error("the sealed value does not open: damaged, or sealed for another workspace, name or type")]
    DoesNotOpen,
}

/// A droplet's X25519 key pair for opening what was sealed to it.
pub struct SealingKey {
    private: Secret<[u8; 32]>,
    public: PublicKey,
}

impl SealingKey {
    /// From 32 random bytes, which are the private key (RFC 7748 clamps them on use).
    pub fn from_private(private: Secret<[u8; 32]>) -> Result<Self, SealError> {
        let key = private_key(&private)?;
        let public: [u8; 32] = X25519HkdfSha256::sk_to_pk(&key).to_bytes().into();
        Ok(Self { private, public: PublicKey::from_bytes(public) })
    }

    /// The public key, to be published.
    pub fn public(&self) -> PublicKey {
        self.public
    }

    /// Opens a sealed value.
    ///
    /// # Errors
    /// [`SealError::OtherRecipient`], [`SealError::Malformed`], [`SealError::DoesNotOpen`].
    pub fn open(&self, sealed: &Sealed, context: &Context) -> Result<Secret<Vec<u8>>, SealError> {
        if sealed.recipient != self.public {
            return Err(SealError::OtherRecipient(sealed.recipient));
        }
        let enc = BASE64URL_NOPAD.decode(sealed.enc.as_bytes()).map_err(|_| SealError::Malformed)?;
        let ciphertext = BASE64URL_NOPAD.decode(sealed.ciphertext.as_bytes()).map_err(|_| SealError::Malformed)?;
        let enc = <X25519HkdfSha256 as Kem>::EncappedKey::from_bytes(&enc).map_err(|_| SealError::Malformed)?;
        hpke::single_shot_open::<AesGcm256, HkdfSha256, X25519HkdfSha256>(
            &OpModeR::Base,
            &private_key(&self.private)?,
            &enc,
            INFO,
            &ciphertext,
            context.aad(),
        )
        .map(Secret::new)
        .map_err(|_| SealError::DoesNotOpen)
    }
}

fn private_key(bytes: &Secret<[u8; 32]>) -> Result<<X25519HkdfSha256 as Kem>::PrivateKey, SealError> {
    <X25519HkdfSha256 as Kem>::PrivateKey::from_bytes(bytes.expose()).map_err(|_| SealError::Malformed)
}

/// Seals `plaintext` to `recipient`. `ephemeral` are 32 fresh random bytes, used for this one message.
///
/// # Errors
/// [`SealError::TooLarge`], [`SealError::BadRecipient`].
pub fn seal(
    recipient: PublicKey,
    context: &Context,
    plaintext: &Secret<Vec<u8>>,
    ephemeral: [u8; 32],
) -> Result<Sealed, SealError> {
    if plaintext.expose().len() > SEALED_BYTES_MAX {
        return Err(SealError::TooLarge(plaintext.expose().len()));
    }
    let public =
        <X25519HkdfSha256 as Kem>::PublicKey::from_bytes(recipient.as_bytes()).map_err(|_| SealError::BadRecipient)?;
    let (enc, ciphertext) = hpke::single_shot_seal::<AesGcm256, HkdfSha256, X25519HkdfSha256, _>(
        &OpModeS::Base,
        &public,
        INFO,
        plaintext.expose(),
        context.aad(),
        &mut OneDraw(ephemeral),
    )
    .map_err(|_| SealError::BadRecipient)?;
    Ok(Sealed {
        recipient,
        enc: BASE64URL_NOPAD.encode(&enc.to_bytes()),
        ciphertext: BASE64URL_NOPAD.encode(&ciphertext),
    })
}

/// Hands the caller's random bytes to the library, which draws exactly once: this crate has no randomness of its own.
struct OneDraw([u8; 32]);

impl hpke::rand_core::RngCore for OneDraw {
    fn next_u32(&mut self) -> u32 {
        unreachable!("key generation fills a slice")
    }
    fn next_u64(&mut self) -> u64 {
        unreachable!("key generation fills a slice")
    }
    fn fill_bytes(&mut self, into: &mut [u8]) {
        assert!(into.len() <= self.0.len(), "key generation draws 32 bytes once");
        into.copy_from_slice(&self.0[..into.len()]);
    }
}
impl hpke::rand_core::CryptoRng for OneDraw {}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> SealingKey {
        SealingKey::from_private(Secret::new([7; 32])).unwrap()
    }
    fn context(name: &str) -> Context {
        let workspace = "0192f0a1-1111-7000-8000-000000000001".parse().unwrap();
        Context::credential(workspace, &name.parse().unwrap(), &"smtp".parse().unwrap())
    }

    #[test]
    fn opens_what_was_sealed_for_the_same_context() {
        let sealed = seal(key().public(), &context("a"), &Secret::new(b"hush".to_vec()), [9; 32]).unwrap();
        assert_eq!(key().open(&sealed, &context("a")).unwrap().expose(), b"hush");
    }

    #[test]
    fn refuses_another_context_another_key_and_damage() {
        let sealed = seal(key().public(), &context("a"), &Secret::new(b"hush".to_vec()), [9; 32]).unwrap();
        assert_eq!(key().open(&sealed, &context("b")).unwrap_err(), SealError::DoesNotOpen);

        let other = SealingKey::from_private(Secret::new([8; 32])).unwrap();
        assert!(matches!(other.open(&sealed, &context("a")).unwrap_err(), SealError::OtherRecipient(_)));

        let mut damaged = sealed.clone();
        damaged.ciphertext.replace_range(0..1, if sealed.ciphertext.starts_with('A') { "B" } else { "A" });
        assert_eq!(key().open(&damaged, &context("a")).unwrap_err(), SealError::DoesNotOpen);

        let mut short = sealed;
        short.enc.truncate(10);
        assert_eq!(key().open(&short, &context("a")).unwrap_err(), SealError::Malformed);
    }

    #[test]
    fn refuses_too_much_and_a_useless_recipient() {
        let big = Secret::new(vec![0; SEALED_BYTES_MAX + 1]);
        assert!(matches!(seal(key().public(), &context("a"), &big, [9; 32]), Err(SealError::TooLarge(_))));
        let zero = PublicKey::from_bytes([0; 32]);
        let small = Secret::new(vec![1]);
        assert_eq!(seal(zero, &context("a"), &small, [9; 32]).unwrap_err(), SealError::BadRecipient);
    }
}
