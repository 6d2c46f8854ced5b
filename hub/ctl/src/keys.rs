//! Key files: makes and loads signing keys (Ed25519) and recovery keys (X25519).
//!
//! The private file `KID.key` is PKCS#8 version 1 in PEM (RFC 8410), so that OpenSSL reads it too; a line before the
//! PEM names the key. The public file `KID.pub` is JSON. Private files are 0600 and never overwritten.

use std::path::{Path, PathBuf};

use data_encoding::BASE64;
use genesis_shared::id::{KeyId, PublicKey};
use genesis_shared::seal::SealingKey;
use genesis_shared::secret::Secret;
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::files;

const BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const END: &str = "-----END PRIVATE KEY-----";

/// What a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Ed25519: signs bundles or trust roots.
    Signing,
    /// X25519: opens what was sealed as a last resort. Keep it offline.
    Recovery,
}

impl Kind {
    /// PKCS#8 up to the 32 private bytes; the two kinds differ in the last byte of the algorithm's OID (RFC 8410).
    fn pkcs8_prefix(self) -> [u8; 16] {
        let oid_end = match self {
            Self::Signing => 0x70,
            Self::Recovery => 0x6e,
        };
        [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, oid_end, 0x04, 0x22, 0x04, 0x20]
    }
}

/// The public half, as it stands in `KID.pub`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublicFile {
    /// The key's name.
    pub kid: KeyId,
    /// The 32 bytes, base64url.
    pub public_key: PublicKey,
    /// What it is for.
    pub kind: Kind,
}

impl PublicFile {
    /// Reads `KID.pub` and checks that it is of the wanted kind.
    ///
    /// # Errors
    /// [`Error::Read`], [`Error::Json`], [`Error::KeyFile`].
    pub fn load(path: &Path, kind: Kind) -> Result<Self, Error> {
        let file: Self = files::read_json(path)?;
        if file.kind != kind {
            let why = format!("it is a {:?} key, a {kind:?} key is needed", file.kind).to_lowercase();
            return Err(Error::KeyFile { path: path.to_owned(), why });
        }
        Ok(file)
    }
}

/// A private key with its name, in memory only as long as needed.
pub struct PrivateKey {
    kid: KeyId,
    kind: Kind,
    seed: Secret<[u8; 32]>,
}

impl PrivateKey {
    /// A key from 32 fresh random bytes.
    pub fn new(kid: KeyId, kind: Kind, entropy: [u8; 32]) -> Self {
        Self { kid, kind, seed: Secret::new(entropy) }
    }

    /// The public half.
    ///
    /// # Errors
    /// [`Error::Seal`] if the library refuses the private bytes, which it does for none.
    pub fn public(&self) -> Result<PublicFile, Error> {
        let public_key = match self.kind {
            Kind::Signing => self.signing()?.public(),
            Kind::Recovery => self.opening()?.public(),
        };
        Ok(PublicFile { kid: self.kid.clone(), public_key, kind: self.kind })
    }

    /// As a key that signs.
    ///
    /// # Errors
    /// [`Error::KeyFile`] for a recovery key.
    pub fn signing(&self) -> Result<SigningKey, Error> {
        if self.kind != Kind::Signing {
            return Err(self.wrong_kind("a recovery key cannot sign"));
        }
        let pair = Ed25519KeyPair::from_seed_unchecked(self.seed.expose())
            .map_err(|_| self.wrong_kind("not an Ed25519 private key"))?;
        Ok(SigningKey { kid: self.kid.clone(), pair })
    }

    /// As a key that opens sealed values.
    ///
    /// # Errors
    /// [`Error::KeyFile`] for a signing key.
    pub fn opening(&self) -> Result<SealingKey, Error> {
        if self.kind != Kind::Recovery {
            return Err(self.wrong_kind("a signing key cannot open sealed values"));
        }
        Ok(SealingKey::from_private(self.seed.clone())?)
    }

    fn wrong_kind(&self, why: &str) -> Error {
        Error::KeyFile { path: PathBuf::from(self.kid.as_str()), why: why.to_owned() }
    }

    /// Writes `KID.key` and `KID.pub` into a folder, which is made if it is not there.
    ///
    /// # Errors
    /// [`Error::Exists`] where either file is there already, [`Error::Write`].
    pub fn save(&self, folder: &Path) -> Result<(PathBuf, PathBuf), Error> {
        let (private, public) = (folder.join(format!("{}.key", self.kid)), folder.join(format!("{}.pub", self.kid)));
        // Looked at first, so that no private file is left behind without its public one.
        if public.exists() {
            return Err(Error::Exists(public));
        }
        files::create_folder(folder)?;
        files::create_private(&private, self.to_pem().expose().as_bytes())?;
        let text = serde_json::to_string(&self.public()?).expect("a public key has a JSON form");
        files::create_public(&public, format!("{text}\n").as_bytes())?;
        Ok((private, public))
    }

    fn to_pem(&self) -> Secret<String> {
        let der = Secret::new([&self.kind.pkcs8_prefix()[..], self.seed.expose()].concat());
        // 48 bytes give 64 characters: one line, as RFC 7468 asks for.
        let body = Secret::new(BASE64.encode(der.expose()));
        Secret::new(format!("kid: {}\n{BEGIN}\n{}\n{END}\n", self.kid, body.expose()))
    }

    /// Reads a private key file.
    ///
    /// # Errors
    /// [`Error::Read`], [`Error::KeyFile`].
    pub fn load(path: &Path) -> Result<Self, Error> {
        let bytes = Secret::new(files::read(path)?);
        let refused = |why: &str| Error::KeyFile { path: path.to_owned(), why: why.to_owned() };
        let text = std::str::from_utf8(bytes.expose()).map_err(|_| refused("not text"))?;
        let (head, rest) = text.split_once(BEGIN).ok_or_else(|| refused("no PRIVATE KEY block in it"))?;
        let (body, _) = rest.split_once(END).ok_or_else(|| refused("its PRIVATE KEY block has no end"))?;
        let kid = head.lines().find_map(|line| line.strip_prefix("kid:"));
        let kid = kid.ok_or_else(|| refused("no line `kid: NAME` before the PRIVATE KEY block"))?.trim();
        let kid: KeyId = kid.parse().map_err(|_| refused("the name on its line `kid:` is not a key id"))?;

        let packed = Secret::new(body.split_whitespace().collect::<String>());
        let der = BASE64.decode(packed.expose().as_bytes()).map_err(|_| refused("not base64"))?;
        let der = Secret::new(der);
        for kind in [Kind::Signing, Kind::Recovery] {
            if let Some(seed) = der.expose().strip_prefix(&kind.pkcs8_prefix()[..])
                && let Ok(seed) = <[u8; 32]>::try_from(seed)
            {
                return Ok(Self::new(kid, kind, seed));
            }
        }
        Err(refused("neither an Ed25519 nor an X25519 key in PKCS#8 version 1"))
    }
}

/// An Ed25519 key that signs; only [`crate::sign`] uses it for bundles and trust roots.
pub struct SigningKey {
    kid: KeyId,
    pair: Ed25519KeyPair,
}

impl SigningKey {
    /// Reads a private key file that must hold a signing key.
    ///
    /// # Errors
    /// [`Error::Read`], [`Error::KeyFile`].
    pub fn load(path: &Path) -> Result<Self, Error> {
        let key = PrivateKey::load(path)?;
        key.signing().map_err(|_| {
            let why = "it is a recovery key, which cannot sign".to_owned();
            Error::KeyFile { path: path.to_owned(), why }
        })
    }

    /// The key's name.
    pub fn kid(&self) -> &KeyId {
        &self.kid
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        let bytes = self.pair.public_key().as_ref().try_into().expect("an Ed25519 public key has 32 bytes");
        PublicKey::from_bytes(bytes)
    }

    /// The signature over some bytes (RFC 8032).
    pub(crate) fn signature(&self, message: &[u8]) -> Vec<u8> {
        self.pair.sign(message).as_ref().to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(kind: Kind) -> PrivateKey {
        PrivateKey::new("ops-1".parse().unwrap(), kind, [7; 32])
    }

    #[test]
    fn a_saved_key_loads_with_its_name_kind_and_public_half() {
        for kind in [Kind::Signing, Kind::Recovery] {
            let folder = tempfile::tempdir().unwrap();
            let (private, public) = key(kind).save(folder.path()).unwrap();
            let loaded = PrivateKey::load(&private).unwrap().public().unwrap();
            assert_eq!(loaded, PublicFile::load(&public, kind).unwrap());
            assert_eq!(loaded, key(kind).public().unwrap());
        }
    }

    #[cfg(unix)]
    #[test]
    fn private_files_are_for_their_owner_only_and_never_overwritten() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let (private, public) = key(Kind::Signing).save(folder.path()).unwrap();
        assert_eq!(std::fs::metadata(&private).unwrap().permissions().mode() & 0o777, 0o600);

        let before = std::fs::read(&private).unwrap();
        let other = PrivateKey::new("ops-1".parse().unwrap(), Kind::Signing, [8; 32]);
        assert!(matches!(other.save(folder.path()), Err(Error::Exists(_))));
        std::fs::remove_file(&public).unwrap();
        assert!(matches!(other.save(folder.path()), Err(Error::Exists(_))));
        assert_eq!(std::fs::read(&private).unwrap(), before);
    }

    #[test]
    fn refuses_files_that_are_no_keys_and_keys_of_the_wrong_kind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.key");
        for text in ["", "kid: a\n", "kid: a\n-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"] {
            std::fs::write(&path, text).unwrap();
            assert!(matches!(PrivateKey::load(&path), Err(Error::KeyFile { .. })), "{text:?}");
        }
        let (private, public) = key(Kind::Recovery).save(folder.path()).unwrap();
        assert!(matches!(SigningKey::load(&private), Err(Error::KeyFile { .. })));
        assert!(matches!(PublicFile::load(&public, Kind::Signing), Err(Error::KeyFile { .. })));
    }

    #[test]
    fn the_public_half_is_the_one_of_rfc_8032() {
        // RFC 8032 §7.1, TEST 1.
        let hex = data_encoding::HEXLOWER;
        let seed = hex.decode(b"9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60").unwrap();
        let key = PrivateKey::new("a".parse().unwrap(), Kind::Signing, seed.try_into().unwrap());
        let public = hex.encode(key.public().unwrap().public_key.as_bytes());
        assert_eq!(public, "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a");
    }
}
