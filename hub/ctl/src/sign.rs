//! The only signer of the project: puts EdDSA signatures on documents in JWS JSON serialisation (RFC 7515, 8037).

use data_encoding::BASE64URL_NOPAD;
use genesis_shared::id::KeyId;
use genesis_shared::jws::signing_input;
use genesis_shared::limits::SIGNATURES_MAX;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::keys::SigningKey;

/// A document with the signatures that it has so far; none yet is a draft.
///
/// The payload stays the text it was first written as: later signers sign the same bytes, never a re-serialisation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Document {
    payload: String,
    signatures: Vec<Signature>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Signature {
    protected: String,
    signature: String,
}

/// What may be read: the general form, or the flattened one with exactly one signature (RFC 7515 §7.2.2), which a
/// dashboard's JOSE library may have made.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    payload: String,
    signatures: Option<Vec<Signature>>,
    protected: Option<String>,
    signature: Option<String>,
}

/// The protected header, in the order in which it is written.
#[derive(Serialize, Deserialize)]
struct Header {
    alg: String,
    kid: KeyId,
    typ: String,
}

impl Document {
    /// A draft: the bytes to be signed, and no signature.
    pub fn draft(payload: &[u8]) -> Self {
        Self { payload: BASE64URL_NOPAD.encode(payload), signatures: Vec::new() }
    }

    /// Reads a document in the general or the flattened serialisation.
    ///
    /// # Errors
    /// [`Error::Json`], [`Error::Argument`] for a mixture of both.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let what = || "the signed document".to_owned();
        let wire: Wire =
            genesis_shared::json::parse_as(bytes).map_err(|source| Error::Json { what: what(), source })?;
        let signatures = match (wire.signatures, wire.protected, wire.signature) {
            (Some(list), None, None) => list,
            (None, Some(protected), Some(signature)) => vec![Signature { protected, signature }],
            _ => return Err(Error::Argument { what: what(), why: "is no JWS in JSON serialisation".into() }),
        };
        Ok(Self { payload: wire.payload, signatures })
    }

    /// The bytes that are signed.
    ///
    /// # Errors
    /// [`Error::Argument`] where the payload is not base64url.
    pub fn payload(&self) -> Result<Vec<u8>, Error> {
        let refused = |_| Error::Argument { what: "the document's payload".into(), why: "is not base64url".into() };
        BASE64URL_NOPAD.decode(self.payload.as_bytes()).map_err(refused)
    }

    /// The names that the signatures claim, unverified.
    pub fn claimed_signers(&self) -> Vec<KeyId> {
        let kid = |s: &Signature| {
            let header = BASE64URL_NOPAD.decode(s.protected.as_bytes()).ok()?;
            serde_json::from_slice::<Header>(&header).ok().map(|header| header.kid)
        };
        self.signatures.iter().filter_map(kid).collect()
    }

    /// Adds the signature of one key for a document of media type `typ`.
    ///
    /// # Errors
    /// [`Error::SignedAlready`], [`Error::Argument`] where there is no room for another signature.
    pub fn sign(&mut self, typ: &str, key: &SigningKey) -> Result<(), Error> {
        if self.claimed_signers().contains(key.kid()) {
            return Err(Error::SignedAlready(key.kid().clone()));
        }
        if self.signatures.len() >= SIGNATURES_MAX {
            let why = format!("there are {SIGNATURES_MAX} signatures already, the most that anyone accepts");
            return Err(Error::Argument { what: "the document".into(), why });
        }
        let header = Header { alg: "EdDSA".into(), kid: key.kid().clone(), typ: typ.to_owned() };
        let protected = BASE64URL_NOPAD.encode(&serde_json::to_vec(&header).expect("a header has a JSON form"));
        let signature = BASE64URL_NOPAD.encode(&key.signature(&signing_input(&protected, &self.payload)));
        self.signatures.push(Signature { protected, signature });
        Ok(())
    }

    /// The document as it goes into a file or to the hub.
    pub fn to_text(&self) -> String {
        serde_json::to_string(self).expect("a document has a JSON form")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::{Kind, PrivateKey};
    use genesis_shared::jws::{Jws, JwsError};

    const TYP: &str = "test+json";

    fn key(kid: &str, seed: u8) -> SigningKey {
        PrivateKey::new(kid.parse().unwrap(), Kind::Signing, [seed; 32]).signing().unwrap()
    }

    #[test]
    fn what_two_keys_sign_verifies_with_both_and_not_when_a_byte_is_flipped() {
        let keys = [key("ops-1", 1), key("ops-2", 2)];
        let mut document = Document::draft(br#"{"a":1}"#);
        document.sign(TYP, &keys[0]).unwrap();
        // The second signer works on the file that the first one wrote.
        let mut document = Document::parse(document.to_text().as_bytes()).unwrap();
        document.sign(TYP, &keys[1]).unwrap();

        let find = |kid: &KeyId| keys.iter().find(|key| key.kid() == kid).map(SigningKey::public);
        let text = document.to_text();
        let verified = Jws::parse(text.as_bytes(), TYP, 10_000).unwrap().verify::<serde_json::Value>(find).unwrap();
        assert_eq!(verified.signers().len(), 2);
        assert_eq!(verified.get()["a"], 1);

        let flipped = Document { payload: BASE64URL_NOPAD.encode(br#"{"a":2}"#), ..document };
        let refused = Jws::parse(flipped.to_text().as_bytes(), TYP, 10_000).unwrap().verify::<serde_json::Value>(find);
        assert!(matches!(refused, Err(JwsError::BadSignature(_))));
    }

    #[test]
    fn one_key_signs_once() {
        let mut document = Document::draft(b"{}");
        document.sign(TYP, &key("ops-1", 1)).unwrap();
        assert!(matches!(document.sign(TYP, &key("ops-1", 1)), Err(Error::SignedAlready(_))));
    }

    #[test]
    fn reads_the_flattened_form_and_writes_the_general_one() {
        let mut document = Document::draft(b"{}");
        document.sign(TYP, &key("ops-1", 1)).unwrap();
        let Signature { protected, signature } = &document.signatures[0];
        let flat = serde_json::json!({"payload": document.payload, "protected": protected, "signature": signature});
        assert_eq!(Document::parse(flat.to_string().as_bytes()).unwrap(), document);
        assert!(Document::parse(br#"{"payload":"e30"}"#).is_err());
    }
}
