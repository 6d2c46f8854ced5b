//! Validated identifiers; a value of one of these types is always well-formed.

use std::fmt;
use std::str::FromStr;

use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use uuid::Uuid;

/// Why a text is not an identifier of the wanted kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {expected}")]
pub struct IdError {
    text: String,
    expected: &'static str,
}

impl IdError {
    pub(crate) fn new(text: &str, expected: &'static str) -> Self {
        // The text may come from an attacker: shown shortened, and through `{:?}`, which escapes control characters.
        Self { text: text.chars().take(80).collect(), expected }
    }
}

/// Implements serde through `Display` and `FromStr`, so that no invalid value can be deserialised.
macro_rules! serde_as_text {
    ($name:ident) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }
    };
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            /// A random (version 4) id from 16 random bytes.
            pub fn from_random(bytes: [u8; 16]) -> Self {
                Self(uuid::Builder::from_random_bytes(bytes).into_uuid())
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }
        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                let refused = || IdError::new(text, "a UUID in its hyphenated form");
                // Other spellings (braces, no hyphens) would give one thing two names.
                if text.len() != 36 {
                    return Err(refused());
                }
                Uuid::try_parse(text).map(Self).map_err(|_| refused())
            }
        }
        serde_as_text!($name);
    };
}

macro_rules! name_id {
    ($(#[$doc:meta])* $name:ident, $expected:literal, $first:expr, $rest:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// The identifier as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                let first: fn(u8) -> bool = $first;
                let rest: fn(u8) -> bool = $rest;
                let bytes = text.as_bytes();
                let fits = (1..=64).contains(&bytes.len()) && first(bytes[0]) && bytes[1..].iter().all(|&b| rest(b));
                if fits { Ok(Self(text.to_owned())) } else { Err(IdError::new(text, $expected)) }
            }
        }
        serde_as_text!($name);
    };
}

fn lower(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}
fn lower_or_mark(byte: u8) -> bool {
    lower(byte) || matches!(byte, b'.' | b'_' | b'-')
}
fn word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
}
fn word_or_mark(byte: u8) -> bool {
    word(byte) || matches!(byte, b'.' | b'_' | b'-')
}

uuid_id!(
    /// A tenant: one customer of the company. Any UUID version.
    WorkspaceId
);
uuid_id!(
    /// A signed bundle; unique for ever.
    BundleId
);
uuid_id!(
    /// One bundle for one workspace in the hub's queue.
    JobId
);
uuid_id!(
    /// One hand-out of a job to a droplet; ends by expiry or acknowledgement.
    LeaseId
);
uuid_id!(
    /// One HTTP request, for finding it in the hub's log.
    RequestId
);
name_id!(
    /// A droplet as its cloud provider names it, for example DigitalOcean's number.
    DropletId,
    "a droplet id: 1 to 64 of A-Z a-z 0-9 . _ -",
    word,
    word_or_mark
);
name_id!(
    /// A signing key, by the name that its trust root gives it.
    KeyId,
    "a key id: 1 to 64 of a-z 0-9 . _ -, starting with a letter or digit",
    lower,
    lower_or_mark
);
name_id!(
    /// A managed workflow of a tenant, for example `email-1`; stable over its whole life.
    WorkflowKey,
    "a workflow key: 1 to 64 of a-z 0-9 . _ -, starting with a letter or digit",
    lower,
    lower_or_mark
);
name_id!(
    /// A managed credential of a tenant, for example `gmail`; workflows are bound to it by this name.
    CredentialName,
    "a credential name: 1 to 64 of a-z 0-9 . _ -, starting with a letter or digit",
    lower,
    lower_or_mark
);
name_id!(
    /// An n8n credential type such as `httpHeaderAuth`; n8n's own spelling.
    CredentialType,
    "an n8n credential type: 1 to 64 letters and digits",
    word,
    word_or_mark
);

/// A SHA-256 digest, written `sha256:` and 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of some bytes.
    pub fn of(bytes: &[u8]) -> Self {
        let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
        Self(digest.as_ref().try_into().expect("SHA-256 gives 32 bytes"))
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}
impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", HEXLOWER.encode(&self.0))
    }
}
impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
impl FromStr for Digest {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let refused = || IdError::new(text, "a digest: sha256: and 64 lower-case hex digits");
        let hex = text.strip_prefix("sha256:").ok_or_else(refused)?;
        let bytes = HEXLOWER.decode(hex.as_bytes()).map_err(|_| refused())?;
        bytes.try_into().map(Self).map_err(|_| refused())
    }
}
serde_as_text!(Digest);

/// 32 bytes of a public key (Ed25519 or X25519), written in base64url without padding.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// From the raw 32 bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
    /// The raw 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
    /// Whether `signature` is this Ed25519 key's signature over `message` (RFC 8032).
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        ring::signature::UnparsedPublicKey::new(&ring::signature::ED25519, &self.0).verify(message, signature).is_ok()
    }
}
impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64URL_NOPAD.encode(&self.0))
    }
}
impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
impl FromStr for PublicKey {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let refused = || IdError::new(text, "a public key: 32 bytes in base64url without padding");
        let bytes = BASE64URL_NOPAD.decode(text.as_bytes()).map_err(|_| refused())?;
        bytes.try_into().map(Self).map_err(|_| refused())
    }
}
serde_as_text!(PublicKey);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_has_one_spelling() {
        let id: WorkspaceId = "0192F0A1-1111-7000-8000-000000000001".parse().unwrap();
        assert_eq!(id.to_string(), "0192f0a1-1111-7000-8000-000000000001");
        for other in ["0192f0a1111170008000000000000001", "{0192f0a1-1111-7000-8000-000000000001}", "", "x"] {
            assert!(other.parse::<WorkspaceId>().is_err(), "{other}");
        }
    }

    #[test]
    fn names_refuse_what_could_break_out_of_a_path_or_a_log_line() {
        for text in ["", ".", "../x", "a b", "a\nb", "-a", "A", "ä", &"a".repeat(65)] {
            assert!(text.parse::<WorkflowKey>().is_err(), "{text:?}");
        }
        assert!("email-1".parse::<WorkflowKey>().is_ok());
    }

    #[test]
    fn a_digest_prints_what_it_parses() {
        let digest = Digest::of(b"abc");
        assert_eq!(digest.to_string(), "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(digest.to_string().parse::<Digest>().unwrap(), digest);
        assert!("sha256:BA78".parse::<Digest>().is_err());
    }
}
