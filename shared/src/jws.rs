//! JWS in JSON serialisation (RFC 7515 §7.2) with EdDSA over Ed25519 (RFC 8037), read strictly and without signing.
//!
//! Only the operator's side signs; what agent and hub share is reading. Verification covers the received bytes: the
//! payload is decoded once and never re-serialised.

use std::borrow::Cow;
use std::collections::BTreeSet;

use data_encoding::BASE64URL_NOPAD;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::grant::GrantError;
use crate::id::{Digest, KeyId, PublicKey};
use crate::json::{self, JsonError, Text};
use crate::limits::SIGNATURES_MAX;
use crate::mutant::Check;

/// Bytes of a protected header in base64url that need no second copy: three members and a name of 64 characters.
const HEADER_BYTES_USUAL: usize = 192;

/// A parsed, **unverified** JWS: nothing of its payload can be reached before [`Jws::verify`].
#[derive(Debug, Clone)]
pub struct Jws<'a> {
    /// As received, which is what is signed.
    encoded: Cow<'a, str>,
    payload: Vec<u8>,
    signatures: Vec<Signature<'a>>,
}

#[derive(Debug, Clone)]
struct Signature<'a> {
    kid: KeyId,
    /// The header in base64url, exactly as received.
    protected: Cow<'a, str>,
    bytes: Vec<u8>,
}

/// What may be signed.
pub trait Document: DeserializeOwned {
    /// Reads the payload, strictly.
    ///
    /// # Errors
    /// It is not strict JSON of this shape.
    fn read(payload: &[u8]) -> Result<Self, JsonError> {
        json::parse_as(payload)
    }
}

impl Document for serde_json::Value {}

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
struct Wire<'a> {
    #[serde(borrow)]
    payload: Text<'a>,
    #[serde(borrow)]
    signatures: Option<Vec<WireSignature<'a>>>,
    #[serde(borrow)]
    protected: Option<Text<'a>>,
    #[serde(borrow)]
    signature: Option<Text<'a>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireSignature<'a> {
    #[serde(borrow)]
    protected: Text<'a>,
    #[serde(borrow)]
    signature: Text<'a>,
}

/// The only accepted protected header: one algorithm, no `crit`, no `jwk`, no `b64`, nothing unexpected.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    alg: String,
    kid: KeyId,
    typ: String,
}

impl<'a> Jws<'a> {
    /// Reads a JWS of media type `typ` of at most `bytes_max` bytes. The payload stays out of reach.
    ///
    /// # Errors
    /// Every [`JwsError`] but those that need keys.
    pub fn parse(bytes: &'a [u8], typ: &str, bytes_max: usize) -> Result<Self, JwsError> {
        if bytes.len() > bytes_max && Check::A1Size.holds() {
            return Err(JwsError::TooLarge { actual: bytes.len(), max: bytes_max });
        }
        let wire: Wire<'a> = json::read_as(bytes).map_err(JwsError::Malformed)?;
        let signatures = match (wire.signatures, wire.protected, wire.signature) {
            (Some(list), None, None) => list,
            (None, Some(protected), Some(signature)) => vec![WireSignature { protected, signature }],
            _ => return Err(JwsError::Header("neither the general nor the flattened serialisation".into())),
        };
        if !(1..=SIGNATURES_MAX).contains(&signatures.len()) && Check::A1Count.holds() {
            return Err(JwsError::SignatureCount(signatures.len()));
        }
        let encoded = wire.payload.0;
        let payload = BASE64URL_NOPAD.decode(encoded.as_bytes()).map_err(|_| JwsError::Encoding("payload"))?;
        let read = |signature| Signature::read(signature, typ);
        let signatures = signatures.into_iter().map(read).collect::<Result<_, _>>()?;
        Ok(Self { encoded, payload, signatures })
    }

    /// Checks **every** signature against the key that `key_of` gives for its id, and reads the payload.
    ///
    /// One wrong signature among right ones refuses the whole: a bundle has no reason to carry any.
    ///
    /// # Errors
    /// [`JwsError::UnknownKey`], [`JwsError::BadSignature`], [`JwsError::SameKeyTwice`], [`JwsError::Payload`].
    pub fn verify<T: Document>(
        &self,
        mut key_of: impl FnMut(&KeyId) -> Option<PublicKey>,
    ) -> Result<Verified<T>, JwsError> {
        let mut signers = BTreeSet::new();
        let mut keys = BTreeSet::new();
        let mut input = SigningInput::new(&self.encoded);
        for signature in &self.signatures {
            let key = match key_of(&signature.kid) {
                Some(key) => key,
                None if Check::A2UnknownKey.holds() => return Err(JwsError::UnknownKey(signature.kid.clone())),
                None => continue,
            };
            if !key.verifies(input.under(&signature.protected), &signature.bytes) && Check::A3Signature.holds() {
                return Err(JwsError::BadSignature(signature.kid.clone()));
            }
            // By public key, not by name: one key listed under two names is still one signer.
            if !keys.insert(key) && Check::A3SameKey.holds() {
                return Err(JwsError::SameKeyTwice(signature.kid.clone()));
            }
            signers.insert(signature.kid.clone());
        }
        let value = T::read(&self.payload).map_err(JwsError::Payload)?;
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
    pub(crate) fn unverified<T: Document>(&self) -> Result<T, JwsError> {
        T::read(&self.payload).map_err(JwsError::Payload)
    }
}

impl<'a> Signature<'a> {
    fn read(wire: WireSignature<'a>, typ: &str) -> Result<Self, JwsError> {
        let (protected, signature) = (wire.protected.0, wire.signature.0);
        let header =
            BASE64URL_NOPAD.decode(protected.as_bytes()).map_err(|_| JwsError::Encoding("protected header"))?;
        let header: Header = json::parse_as(&header).map_err(|e| JwsError::Header(e.to_string()))?;
        if header.alg != "EdDSA" && Check::A1Algorithm.holds() {
            return Err(JwsError::Header(format!("alg is {:?}, only \"EdDSA\" is accepted", header.alg)));
        }
        if header.typ != typ && Check::A1Type.holds() {
            return Err(JwsError::Header(format!("typ is {:?}, expected {typ:?}", header.typ)));
        }
        let bytes = BASE64URL_NOPAD.decode(signature.as_bytes()).map_err(|_| JwsError::Encoding("signature"))?;
        Ok(Self { kid: header.kid, protected, bytes })
    }
}

/// What is signed, made for one header after another without a new copy of the payload.
struct SigningInput {
    buffer: Vec<u8>,
    /// Where the dot before the payload is.
    dot: usize,
}

impl SigningInput {
    fn new(payload: &str) -> Self {
        let mut buffer = Vec::with_capacity(HEADER_BYTES_USUAL + 1 + payload.len());
        buffer.resize(HEADER_BYTES_USUAL, 0);
        buffer.push(b'.');
        buffer.extend_from_slice(payload.as_bytes());
        Self { buffer, dot: HEADER_BYTES_USUAL }
    }

    /// The header goes right before the dot; a longer one than usual moves the payload once.
    fn under(&mut self, protected: &str) -> &[u8] {
        if protected.len() > self.dot {
            let more = protected.len() - self.dot;
            self.buffer.splice(0..0, std::iter::repeat_n(0, more));
            self.dot = protected.len();
        }
        let begin = self.dot - protected.len();
        self.buffer[begin..self.dot].copy_from_slice(protected.as_bytes());
        &self.buffer[begin..]
    }
}

/// What is signed (RFC 7515 §5.1): the encoded header, a dot, the encoded payload.
pub fn signing_input(protected: &str, payload: &str) -> Vec<u8> {
    [protected.as_bytes(), b".", payload.as_bytes()].concat()
}
