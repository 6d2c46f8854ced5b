//! The trust root: the one document that says which keys may ask what of whom.
//!
//! A droplet pins the digest of its first root at installation. This first version reads and verifies one document;
//! its shape is final, so that rotation (a later root signed by the old and the new threshold) adds code, not fields.

use serde::{Deserialize, Serialize};

use crate::command::{Action, Class};
use crate::id::{Digest, KeyId, PublicKey, WorkspaceId};
use crate::jws::{Jws, JwsError, Verified};
use crate::limits::TRUST_ROOT_BYTES_MAX;
use crate::timestamp::Timestamp;

/// JOSE `typ` of a signed trust root.
pub const TYP: &str = "genesis-root+json";

/// A public key under its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamedKey {
    /// The key's name in this root.
    pub kid: KeyId,
    /// Ed25519, except for the recovery key, which is X25519.
    pub public_key: PublicKey,
}

/// The offline keys that sign roots.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RootKeys {
    /// The keys, each of a different person.
    pub keys: Vec<NamedKey>,
    /// How many of them must sign.
    pub threshold: usize,
}

/// What a scope entry allows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Allowance {
    /// Every action of a class.
    Class(Class),
    /// One action by name.
    Action(String),
}

/// An operator's key with what it may do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OperatorKey {
    /// The key's name, which is also the bundle's `issuer`.
    pub kid: KeyId,
    /// Ed25519.
    pub public_key: PublicKey,
    /// What it may ask; nothing is allowed that is not listed.
    pub allow: Vec<Allowance>,
    /// The only tenants it may address; absent means all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspaces: Option<Vec<WorkspaceId>>,
    /// The only queues it may use; absent means all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queues: Option<Vec<String>>,
    /// First moment at which it may sign.
    pub not_before: Timestamp,
    /// Last moment at which it may sign.
    pub not_after: Timestamp,
}

/// How many distinct operators must sign, per class of action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signers {
    /// For [`Class::Read`].
    pub read: usize,
    /// For [`Class::Operate`].
    pub operate: usize,
    /// For [`Class::Change`].
    pub change: usize,
    /// For [`Class::Destroy`].
    pub destroy: usize,
}

impl Signers {
    /// The number for a class; never below one, whatever the document says.
    pub fn needed(&self, class: Class) -> usize {
        let count = match class {
            Class::Read => self.read,
            Class::Operate => self.operate,
            Class::Change => self.change,
            Class::Destroy => self.destroy,
        };
        count.max(1)
    }
}

/// The document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustRoot {
    /// Grows by one with each new root.
    pub version: u64,
    /// When it was made.
    pub issued_at: Timestamp,
    /// After this moment new changing commands are refused, and nothing else.
    pub expires_at: Timestamp,
    /// The keys that sign roots.
    pub root: RootKeys,
    /// The keys that sign bundles.
    pub operators: Vec<OperatorKey>,
    /// Distinct signers needed per class.
    pub signers: Signers,
    /// The hub's keys for delivery tokens.
    pub delivery: Vec<NamedKey>,
    /// What secrets of last resort are sealed to.
    pub recovery: NamedKey,
    /// Keys that may not sign any more, whatever else is said of them.
    #[serde(default)]
    pub revoked: Vec<KeyId>,
}

/// Why a trust root is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// Not a correctly signed document.
    #[error("the trust root is not correctly signed")]
    Jws(#[from] JwsError),
    /// Another document than the one pinned at installation.
    #[error("the trust root has digest {actual}, this droplet was installed with {pinned}")]
    NotPinned {
        /// Digest of the document received.
        actual: Digest,
        /// Digest given at installation.
        pinned: Digest,
    },
    /// Fewer distinct root keys signed than the threshold.
    #[error("{signed} distinct root keys signed; {threshold} must")]
    BelowThreshold {
        /// Distinct root keys whose signature fits.
        signed: usize,
        /// The document's own threshold.
        threshold: usize,
    },
    /// A document that contradicts itself.
    #[error("the trust root contradicts itself: {0}")]
    Inconsistent(String),
}

impl TrustRoot {
    /// Verifies a first root: signed by its own threshold and, where `pinned` is given, the very document pinned.
    ///
    /// # Errors
    /// Every [`TrustError`].
    pub fn verify(bytes: &[u8], pinned: Option<Digest>) -> Result<Verified<Self>, TrustError> {
        let jws = Jws::parse(bytes, TYP, TRUST_ROOT_BYTES_MAX)?;
        if let Some(pinned) = pinned
            && jws.digest() != pinned
        {
            return Err(TrustError::NotPinned { actual: jws.digest(), pinned });
        }
        let claimed: Self = jws.unverified()?;
        claimed.check()?;
        let root: Verified<Self> =
            jws.verify(|kid| if claimed.revoked.contains(kid) { None } else { find(&claimed.root.keys, kid) })?;
        let (signed, threshold) = (root.signers().len(), claimed.root.threshold);
        if signed < threshold {
            return Err(TrustError::BelowThreshold { signed, threshold });
        }
        Ok(root)
    }

    /// Checks what no signature can: that names and keys are unique and thresholds can be met.
    fn check(&self) -> Result<(), TrustError> {
        let inconsistent = |what: String| Err(TrustError::Inconsistent(what));
        if self.version == 0 {
            return inconsistent("version must be at least 1".into());
        }
        if self.root.threshold == 0 || self.root.threshold > self.root.keys.len() {
            return inconsistent(format!("threshold {} with {} root keys", self.root.threshold, self.root.keys.len()));
        }
        let mut kids = std::collections::BTreeSet::new();
        let mut keys = std::collections::BTreeSet::new();
        let named = self.root.keys.iter().chain(&self.delivery).map(|k| (&k.kid, k.public_key));
        for (kid, key) in named.chain(self.operators.iter().map(|o| (&o.kid, o.public_key))) {
            if !kids.insert(kid) {
                return inconsistent(format!("two keys are called {kid}"));
            }
            if !keys.insert(key) {
                return inconsistent(format!("{kid} stands under two names"));
            }
        }
        Ok(())
    }

    /// The operator key of that name, unless it was revoked.
    pub fn operator(&self, kid: &KeyId) -> Option<&OperatorKey> {
        if self.revoked.contains(kid) {
            return None;
        }
        self.operators.iter().find(|operator| operator.kid == *kid)
    }

    /// The hub's delivery key of that name, unless it was revoked.
    pub fn delivery_key(&self, kid: &KeyId) -> Option<PublicKey> {
        if self.revoked.contains(kid) { None } else { find(&self.delivery, kid) }
    }
}

impl OperatorKey {
    /// Whether the key may ask this action.
    pub fn may(&self, action: Action) -> bool {
        self.allow.iter().any(|allowance| match allowance {
            Allowance::Class(class) => *class == action.class(),
            Allowance::Action(name) => name == action.name(),
        })
    }

    /// Whether the key may address this tenant.
    pub fn may_address(&self, workspace: WorkspaceId) -> bool {
        self.workspaces.as_ref().is_none_or(|list| list.contains(&workspace))
    }

    /// Whether the key may use this queue.
    pub fn may_use_queue(&self, queue: &str) -> bool {
        self.queues.as_ref().is_none_or(|list| list.iter().any(|q| q == queue))
    }

    /// Whether the key was good at `at`.
    pub fn was_good_at(&self, at: Timestamp) -> bool {
        (self.not_before..=self.not_after).contains(&at)
    }
}

fn find(keys: &[NamedKey], kid: &KeyId) -> Option<PublicKey> {
    keys.iter().find(|key| key.kid == *kid).map(|key| key.public_key)
}
