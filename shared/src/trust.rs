//! The trust root: the one document that says which keys may ask what of whom.
//!
//! A droplet pins the digest of its first root at installation. Each later one is believed because the one before it
//! is, by these rules (after The Update Framework, specification 1.0, §5.3):
//!
//! | rule | a successor is refused |
//! |---|---|
//! | T1 | whose version is not exactly one more: there is no way back, and none far ahead |
//! | T2 | that fewer root keys than the threshold of the root **before** it signed |
//! | T3 | that fewer root keys than its **own** threshold signed |
//! | T4 | that is no signed document, or carries a signature by a key in neither, or one that does not fit, or two by one key |
//! | T5 | that takes a revocation back, or was made before the root that it follows |
//! | T6 | that gives a known key another name, or a known name another key |
//!
//! When a root expires is of no matter to its succession: an expired root must be replaceable.

use serde::{Deserialize, Serialize};

use crate::command::{Action, Class};
use crate::grant::Level;
use crate::id::{Digest, KeyId, PublicKey, WorkspaceId};
use crate::jws::{Document, Jws, JwsError, Verified};
use crate::limits::TRUST_ROOT_BYTES_MAX;
use crate::mutant::Check;
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
    /// Granting support access of this level; see [`crate::grant`].
    Support(Level),
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
    /// T4: not a correctly signed document.
    #[error("T4: the trust root is not correctly signed")]
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
    #[error("T3: {signed} distinct root keys signed; {threshold} must")]
    BelowThreshold {
        /// Distinct root keys whose signature fits.
        signed: usize,
        /// The document's own threshold.
        threshold: usize,
    },
    /// A document that contradicts itself.
    #[error("the trust root contradicts itself: {0}")]
    Inconsistent(String),
    /// T1: not the version that comes next.
    #[error("T1: version {actual} does not follow version {current}; {} does", current + 1)]
    NotNext {
        /// The version there is.
        current: u64,
        /// The version received.
        actual: u64,
    },
    /// T2: too few of the root keys that were valid until now.
    #[error("T2: {signed} of the root keys of version {version} signed; {threshold} must")]
    BelowFormerThreshold {
        /// The version there is.
        version: u64,
        /// Its distinct root keys whose signature fits.
        signed: usize,
        /// Its threshold.
        threshold: usize,
    },
    /// T5, T6: a document that contradicts the one before it.
    #[error("the trust root contradicts version {version}: {rule}: {why}")]
    Contradicts {
        /// The version there is.
        version: u64,
        /// `T5` or `T6`.
        rule: &'static str,
        /// What does not fit.
        why: String,
    },
}

impl TrustError {
    /// Stable machine-readable name.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Jws(_) => "trust_root_signature",
            Self::NotPinned { .. } => "trust_root_not_pinned",
            Self::BelowThreshold { .. } | Self::BelowFormerThreshold { .. } => "trust_root_threshold",
            Self::Inconsistent(_) => "trust_root_inconsistent",
            Self::NotNext { .. } => "trust_root_not_next",
            Self::Contradicts { .. } => "trust_root_contradicts",
        }
    }

    /// The rule that refuses it, `T1` to `T6`; the code where none does.
    pub fn rule(&self) -> &'static str {
        match self {
            Self::NotNext { .. } => "T1",
            Self::BelowFormerThreshold { .. } => "T2",
            Self::BelowThreshold { .. } => "T3",
            Self::Jws(_) => "T4",
            Self::Contradicts { rule, .. } => rule,
            Self::NotPinned { .. } | Self::Inconsistent(_) => self.code(),
        }
    }
}

impl Document for TrustRoot {}

impl TrustRoot {
    /// Verifies a chain: the pinned root, wherever in it, and each that follows. What stands before the pinned one is
    /// of no interest.
    ///
    /// # Errors
    /// Every [`TrustError`]; an empty chain and one without the pinned root are `NotPinned`.
    pub fn verify_chain<'a>(documents: &[&'a [u8]], pinned: Digest) -> Result<Vec<(&'a [u8], Self)>, TrustError> {
        let mut chain: Vec<(&[u8], Self)> = Vec::new();
        let mut refused = TrustError::NotPinned { actual: Digest::of(&[]), pinned };
        for document in documents {
            let next = match chain.last() {
                Some((_, latest)) => latest.verify_successor(document)?,
                None => match Self::verify(document, Some(pinned)) {
                    Ok(first) => first,
                    Err(error @ TrustError::NotPinned { .. }) => {
                        refused = error;
                        continue;
                    }
                    Err(error) => return Err(error),
                },
            };
            chain.push((document, next.into_inner()));
        }
        if chain.is_empty() { Err(refused) } else { Ok(chain) }
    }

    /// Verifies a first root: signed by its own threshold and, where `pinned` is given, the very document pinned.
    ///
    /// # Errors
    /// Every [`TrustError`].
    pub fn verify(bytes: &[u8], pinned: Option<Digest>) -> Result<Verified<Self>, TrustError> {
        let jws = Jws::parse(bytes, TYP, TRUST_ROOT_BYTES_MAX)?;
        if let Some(pinned) = pinned
            && jws.digest() != pinned
            && Check::TPin.holds()
        {
            return Err(TrustError::NotPinned { actual: jws.digest(), pinned });
        }
        let claimed: Self = jws.unverified()?;
        claimed.check()?;
        claimed.verify_own(&jws)
    }

    /// Verifies that a root's own threshold signed it, whatever it follows: for people who look at a file. A signature
    /// by a key of the root before it is left out.
    ///
    /// # Errors
    /// Every [`TrustError`] of a first root.
    pub fn verify_alone(bytes: &[u8]) -> Result<Verified<Self>, TrustError> {
        let jws = Jws::parse(bytes, TYP, TRUST_ROOT_BYTES_MAX)?;
        let claimed: Self = jws.unverified()?;
        claimed.check()?;
        let jws = jws.retain(|kid| claimed.root_key(kid).is_some());
        claimed.verify_own(&jws)
    }

    /// T3.
    fn verify_own(&self, jws: &Jws<'_>) -> Result<Verified<Self>, TrustError> {
        let root: Verified<Self> = jws.verify(|kid| self.root_key(kid))?;
        let (signed, threshold) = (root.signers().len(), self.root.threshold);
        if signed < threshold && Check::T3Own.holds() {
            return Err(TrustError::BelowThreshold { signed, threshold });
        }
        Ok(root)
    }

    /// Reads a root that was verified when it was stored.
    ///
    /// # Errors
    /// The bytes were damaged.
    pub fn reread(stored: &[u8]) -> Result<Self, TrustError> {
        Ok(Jws::parse(stored, TYP, TRUST_ROOT_BYTES_MAX)?.unverified()?)
    }

    /// Verifies the root that follows this one.
    ///
    /// # Errors
    /// Every [`TrustError`] but `NotPinned`; the rule is named in the module's table.
    pub fn verify_successor(&self, bytes: &[u8]) -> Result<Verified<Self>, TrustError> {
        let jws = Jws::parse(bytes, TYP, TRUST_ROOT_BYTES_MAX)?;
        let claimed: Self = jws.unverified()?;
        claimed.check()?;
        // T1.
        if self.version.checked_add(1) != Some(claimed.version) && Check::T1Next.holds() {
            return Err(TrustError::NotNext { current: self.version, actual: claimed.version });
        }
        self.check_continuity(&claimed)?;
        // T4. By T6 a name stands for one key in both.
        let root: Verified<Self> = jws.verify(|kid| self.root_key(kid).or_else(|| claimed.root_key(kid)))?;
        // T2 and T3: one signature counts for both where the key is in both.
        let signed_for = |of: &Self| root.signers().iter().filter(|kid| of.root_key(kid).is_some()).count();
        let (former, own) = (signed_for(self), signed_for(&claimed));
        if former < self.root.threshold && Check::T2Former.holds() {
            let (version, threshold) = (self.version, self.root.threshold);
            return Err(TrustError::BelowFormerThreshold { version, signed: former, threshold });
        }
        if own < claimed.root.threshold && Check::T3Own.holds() {
            return Err(TrustError::BelowThreshold { signed: own, threshold: claimed.root.threshold });
        }
        Ok(root)
    }

    /// T5 and T6.
    fn check_continuity(&self, next: &Self) -> Result<(), TrustError> {
        let contradicts = |rule, why| Err(TrustError::Contradicts { version: self.version, rule, why });
        if next.issued_at < self.issued_at && Check::T5Age.holds() {
            return contradicts("T5", format!("it was made at {}, before it", next.issued_at));
        }
        if let Some(kid) = self.revoked.iter().find(|kid| !next.revoked.contains(kid))
            && Check::T5Revoked.holds()
        {
            return contradicts("T5", format!("key {kid} was revoked and is not any more"));
        }
        let known: Vec<_> = self.named_keys().collect();
        for (kid, key) in next.named_keys() {
            if let Some((other, _)) = known.iter().find(|(other, known)| *known == key && *other != kid)
                && Check::T6Key.holds()
            {
                return contradicts("T6", format!("the key {other} is now called {kid}"));
            }
            if known.iter().any(|(other, known)| *other == kid && *known != key) && Check::T6Name.holds() {
                return contradicts("T6", format!("{kid} is now another key; give the new key a name of its own"));
            }
        }
        Ok(())
    }

    /// The root key of that name, unless it was revoked.
    fn root_key(&self, kid: &KeyId) -> Option<PublicKey> {
        if self.revoked.contains(kid) { None } else { find(&self.root.keys, kid) }
    }

    /// Whether a key, or its name, is one of this root, or was revoked.
    pub fn knows(&self, key: &NamedKey) -> bool {
        self.revoked.contains(&key.kid)
            || self.named_keys().any(|(kid, public_key)| *kid == key.kid || public_key == key.public_key)
    }

    /// Every signing key with its name.
    fn named_keys(&self) -> impl Iterator<Item = (&KeyId, PublicKey)> {
        let named = self.root.keys.iter().chain(&self.delivery).map(|key| (&key.kid, key.public_key));
        named.chain(self.operators.iter().map(|key| (&key.kid, key.public_key)))
    }

    /// Checks what no signature can: that names and keys are unique and thresholds can be met.
    fn check(&self) -> Result<(), TrustError> {
        let inconsistent = |what: String| Err(TrustError::Inconsistent(what));
        if !Check::TConsistent.holds() {
            return Ok(());
        }
        if self.version == 0 {
            return inconsistent("version must be at least 1".into());
        }
        if self.root.threshold == 0 || self.root.threshold > self.root.keys.len() {
            return inconsistent(format!("threshold {} with {} root keys", self.root.threshold, self.root.keys.len()));
        }
        let mut kids = std::collections::BTreeSet::new();
        let mut keys = std::collections::BTreeSet::new();
        for (kid, key) in self.named_keys() {
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
        if self.revoked.contains(kid) && Check::A2Revoked.holds() {
            return None;
        }
        self.operators.iter().find(|operator| operator.kid == *kid)
    }

    /// The hub's delivery key of that name, unless it was revoked.
    pub fn delivery_key(&self, kid: &KeyId) -> Option<PublicKey> {
        if self.revoked.contains(kid) && Check::A11Revoked.holds() { None } else { find(&self.delivery, kid) }
    }
}

impl OperatorKey {
    /// Whether the key may ask this action.
    pub fn may(&self, action: Action) -> bool {
        self.allow.iter().any(|allowance| match allowance {
            Allowance::Class(class) => *class == action.class(),
            Allowance::Action(name) => name == action.name(),
            Allowance::Support(_) => false,
        })
    }

    /// Whether the key may sign support grants of this level.
    pub fn may_grant(&self, level: Level) -> bool {
        self.allow.iter().any(|allowance| matches!(allowance, Allowance::Support(granted) if *granted == level))
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
