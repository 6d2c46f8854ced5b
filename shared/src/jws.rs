//! JWS in JSON serialisation (RFC 7515 §7.2) with EdDSA over Ed25519 (RFC 8037), read strictly and without signing.
//!
//! Only the operator's side signs; what agent and hub share is reading. Verification covers the received bytes: the
//! payload is decoded once and never re-serialised.

use std::collections::BTreeSet;

use data_encoding::BASE64URL_NOPAD;
use serde::Deserialize;

use crate::grant::GrantError;
use crate::id::{Digest, KeyId, PublicKey};
use crate::json::{self, JsonError};
use crate::limits::SIGNATURES_MAX;
use crate::mutant::Check;

/// A parsed, **unverified** JWS: nothing of its payload can be reached before [`Jws::verify`].
#[derive(Debug, Clone)]
pub struct Jws {
    payload: Vec<u8>,
    signatures: Vec<Signature>,
}

#[derive(Debug, Clone)]
struct Signature {
    kid: KeyId,
    /// `BASE64URL(protected) . BASE64URL(payload)`, exactly as received.
    signing_input: Vec<u8>,
    bytes: Vec<u8>,
}

/// A value whose signatures were checked. Only the `verify` functions of this crate make one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified<T> {
    value: T,
    signers: BTreeSet<KeyId>,
    digest: Digest,
}

impl<T> Verified<T> {
    /// The verified value.
    pub fn get(&self) -> &T {
        &self.value
    }
    /// The keys that signed it; each stands for a distinct public key.
    pub fn signers(&self) -> &BTreeSet<KeyId> {
        &self.signers
    }
    /// Digest of the signed payload bytes.
    pub fn digest(&self) -> Digest {
        self.digest
    }
    /// The value, without its proof.
    pub fn into_inner(self) -> T {
        self.value
    }
}

/// Why a JWS is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JwsError {
    /// The bytes exceed the limit of their kind.
    #[error("{actual} bytes; at most {max} are accepted")]
    TooLarge {
        /// Bytes received.
        actual: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// Not the JSON serialisation of a JWS, or not strict JSON.
    #[error("not a JWS in JSON serialisation")]
    Malformed(#[source] JsonError),
    /// A member that must be base64url without padding is not.
    #[error("{0} is not base64url without padding")]
    Encoding(&'static str),
    /// No signature, or too many.
    #[error("{0} signatures; from 1 to {SIGNATURES_MAX} are accepted")]
    SignatureCount(usize),
    /// A protected header that is not exactly `alg`, `kid` and `typ` with the expected values.
    #[error("protected header refused: {0}")]
    Header(String),
    /// A signature by a key that is not known.
    #[error("key {0} is not known to the trust root")]
    UnknownKey(KeyId),
    /// A signature that does not fit the payload.
    #[error("the signature of key {0} does not fit")]
    BadSignature(KeyId),
    /// Two signatures by one key.
    #[error("key {0} signed twice; each signature must be another key's")]
    SameKeyTwice(KeyId),
    /// The support grant in a bundle does not stand.
    #[error("the support grant in the bundle is refused")]
    Grant(#[source] GrantError),
    /// The verified payload has not the expected shape.
    #[error("the signed payload has not the expected shape")]
    Payload(#[source] JsonError),
}

/// The general form, or the flattened form with exactly one signature (RFC 7515 §7.2.2).
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    payload: String,
    signatures: Option<Vec<WireSignature>>,
    protected: Option<String>,
    signature: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireSignature {
    protected: String,
    signature: String,
}

/// The only accepted protected header: one algorithm, no `crit`, no `jwk`, no `b64`, nothing unexpected.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    alg: String,
    kid: KeyId,
    typ: String,
}

impl Jws {
    /// Reads a JWS of media type `typ` of at most `bytes_max` bytes. The payload stays out of reach.
    ///
    /// # Errors
    /// Every [`JwsError`] but those that need keys.
    pub fn parse(bytes: &[u8], typ: &str, bytes_max: usize) -> Result<Self, JwsError> {
        if bytes.len() > bytes_max && Check::A1Size.holds() {
            return Err(JwsError::TooLarge { actual: bytes.len(), max: bytes_max });
        }
        let wire: Wire = json::parse_as(bytes).map_err(JwsError::Malformed)?;
        let signatures = match (wire.signatures, wire.protected, wire.signature) {
            (Some(list), None, None) => list,
            (None, Some(protected), Some(signature)) => vec![WireSignature { protected, signature }],
            _ => return Err(JwsError::Header("neither the general nor the flattened serialisation".into())),
        };
        if !(1..=SIGNATURES_MAX).contains(&signatures.len()) && Check::A1Count.holds() {
            return Err(JwsError::SignatureCount(signatures.len()));
        }
        let payload = BASE64URL_NOPAD.decode(wire.payload.as_bytes()).map_err(|_| JwsError::Encoding("payload"))?;
        let signatures = signatures
            .into_iter()
            .map(|signature| Signature::read(&signature, &wire.payload, typ))
            .collect::<Result<_, _>>()?;
        Ok(Self { payload, signatures })
    }

    /// Checks **every** signature against the key that `key_of` gives for its id, and reads the payload.
    ///
    /// One wrong signature among right ones refuses the whole: a bundle has no reason to carry any.
    ///
    /// # Errors
    /// [`JwsError::UnknownKey`], [`JwsError::BadSignature`], [`JwsError::SameKeyTwice`], [`JwsError::Payload`].
    pub fn verify<T: serde::de::DeserializeOwned>(
        &self,
        mut key_of: impl FnMut(&KeyId) -> Option<PublicKey>,
    ) -> Result<Verified<T>, JwsError> {
        let mut signers = BTreeSet::new();
        let mut keys = BTreeSet::new();
        for signature in &self.signatures {
            let key = match key_of(&signature.kid) {
                Some(key) => key,
                None if Check::A2UnknownKey.holds() => return Err(JwsError::UnknownKey(signature.kid.clone())),
                None => continue,
            };
            if !key.verifies(&signature.signing_input, &signature.bytes) && Check::A3Signature.holds() {
                return Err(JwsError::BadSignature(signature.kid.clone()));
            }
            // By public key, not by name: one key listed under two names is still one signer.
            if !keys.insert(key) && Check::A3SameKey.holds() {
                return Err(JwsError::SameKeyTwice(signature.kid.clone()));
            }
            signers.insert(signature.kid.clone());
        }
        let value = json::parse_as(&self.payload).map_err(JwsError::Payload)?;
        Ok(Verified { value, signers, digest: self.digest() })
    }

    /// The names of the keys that are said to have signed.
    pub(crate) fn kids(&self) -> impl Iterator<Item = &KeyId> {
        self.signatures.iter().map(|signature| &signature.kid)
    }

    /// Leaves out the signatures of keys that are none of the caller's business.
    pub(crate) fn retain(mut self, is_known: impl Fn(&KeyId) -> bool) -> Self {
        self.signatures.retain(|signature| is_known(&signature.kid));
        self
    }

    /// Digest of the (unverified) payload bytes.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.payload)
    }

    /// Reads the payload without a check, for a document that carries the very keys which sign it (a trust root).
    pub(crate) fn unverified<T: serde::de::DeserializeOwned>(&self) -> Result<T, JwsError> {
        json::parse_as(&self.payload).map_err(JwsError::Payload)
    }
}

impl Signature {
    fn read(wire: &WireSignature, payload: &str, typ: &str) -> Result<Self, JwsError> {
        let header =
            BASE64URL_NOPAD.decode(wire.protected.as_bytes()).map_err(|_| JwsError::Encoding("protected header"))?;
        let header: Header = json::parse_as(&header).map_err(|e| JwsError::Header(e.to_string()))?;
        if header.alg != "EdDSA" && Check::A1Algorithm.holds() {
            return Err(JwsError::Header(format!("alg is {:?}, only \"EdDSA\" is accepted", header.alg)));
        }
        if header.typ != typ && Check::A1Type.holds() {
            return Err(JwsError::Header(format!("typ is {:?}, expected {typ:?}", header.typ)));
        }
        let bytes = BASE64URL_NOPAD.decode(wire.signature.as_bytes()).map_err(|_| JwsError::Encoding("signature"))?;
        Ok(Self { kid: header.kid, signing_input: signing_input(&wire.protected, payload), bytes })
    }
}

/// What is signed (RFC 7515 §5.1): the encoded header, a dot, the encoded payload.
pub fn signing_input(protected: &str, payload: &str) -> Vec<u8> {
    [protected.as_bytes(), b".", payload.as_bytes()].concat()
}
