//! Support access: operators let one named key ask some things of one tenant, for minutes, for a ticket.
//!
//! A grant travels inside the bundles that the support key signs, so it works and ends without the hub: whoever holds
//! the trust root can check it.

use serde::{Deserialize, Serialize};

use crate::command::{Action, Class};
use crate::id::{KeyId, WorkspaceId};
use crate::jws::{Document, Jws, JwsError, Verified};
use crate::limits::{CLOCK_SKEW_S, GRANT_BYTES_MAX, GRANT_TEXT_BYTES_MAX};
use crate::mutant::Check;
use crate::timestamp::Timestamp;
use crate::trust::{NamedKey, TrustRoot};

/// JOSE `typ` of a signed grant.
pub const TYP: &str = "genesis-grant+json";

/// How far support may go. None of them destroys anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Looks, for at most 30 minutes.
    ReadOnly,
    /// Looks and restarts, for at most 60 minutes.
    Debug,
    /// Looks, restarts and changes, for at most 30 minutes; two must sign.
    Write,
    /// Everything that does not destroy, for at most 15 minutes; two must sign.
    Emergency,
}

impl Level {
    /// Every level.
    pub const ALL: [Self; 4] = [Self::ReadOnly, Self::Debug, Self::Write, Self::Emergency];

    /// The name on the wire and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::ReadOnly => "read_only",
            Self::Debug => "debug",
            Self::Write => "write",
            Self::Emergency => "emergency",
        }
    }

    /// Longest life in minutes.
    pub fn minutes_max(self) -> i64 {
        match self {
            Self::ReadOnly | Self::Write => 30,
            Self::Debug => 60,
            Self::Emergency => 15,
        }
    }

    /// Distinct operators that must sign.
    pub fn signers(self) -> usize {
        match self {
            Self::ReadOnly | Self::Debug => 1,
            Self::Write | Self::Emergency => 2,
        }
    }

    /// Whether it covers an action.
    pub fn may(self, action: Action) -> bool {
        match (self, action.class()) {
            (_, Class::Destroy) => false,
            (_, Class::Read) | (Self::Emergency, Class::Operate | Class::Change) => true,
            (Self::Write, Class::Change) => true,
            (Self::Debug | Self::Write, Class::Operate) => action == Action::RestartN8n,
            (Self::ReadOnly, Class::Operate | Class::Change) | (Self::Debug, Class::Change) => false,
        }
    }
}

/// The document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// The ticket that it is for, for the audit.
    pub ticket: String,
    /// Why, for the audit.
    pub reason: String,
    /// The one tenant.
    pub workspace: WorkspaceId,
    /// How far.
    pub level: Level,
    /// Who may.
    pub support: NamedKey,
    /// When it was signed.
    pub issued_at: Timestamp,
    /// When it ends.
    pub not_after: Timestamp,
}

/// Why a grant is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    /// Not a document correctly signed by operators of the trust root.
    #[error("it is not correctly signed")]
    Jws(#[source] Box<JwsError>),
    /// Fewer distinct operators than its level needs.
    #[error("{level} access needs {needed} distinct operators, {signed} signed", level = .level.name())]
    Signers {
        /// Its level.
        level: Level,
        /// How many that needs.
        needed: usize,
        /// How many signed.
        signed: usize,
    },
    /// A signer that may not grant this level, this tenant, or at this time.
    #[error("key {kid} {why}")]
    Scope {
        /// The signer.
        kid: KeyId,
        /// What it may not.
        why: String,
    },
    /// It contradicts itself or the trust root.
    #[error("{0}")]
    Invalid(String),
}

impl Document for Grant {}

impl Grant {
    /// Verifies a grant against the trust root. Whether it covers what is asked is admission's business.
    ///
    /// # Errors
    /// Every [`GrantError`].
    pub fn verify(bytes: &[u8], root: &TrustRoot) -> Result<Verified<Self>, GrantError> {
        let jws = |error| GrantError::Jws(Box::new(error));
        let parsed = Jws::parse(bytes, TYP, GRANT_BYTES_MAX).map_err(jws)?;
        let verified: Verified<Self> =
            parsed.verify(|kid| root.operator(kid).map(|key| key.public_key)).map_err(jws)?;
        let grant = verified.get();
        grant.check(root)?;
        let (level, signed) = (grant.level, verified.signers().len());
        if signed < level.signers() && Check::A13Signers.holds() {
            return Err(GrantError::Signers { level, needed: level.signers(), signed });
        }
        for kid in verified.signers() {
            let refuse = |why: String| Err(GrantError::Scope { kid: kid.clone(), why });
            let Some(key) = root.operator(kid) else { return refuse("is unknown".into()) };
            if !key.may_grant(level) && Check::A13Level.holds() {
                return refuse(format!("may not grant {} access", level.name()));
            }
            if !key.may_address(grant.workspace) && Check::A13Scope.holds() {
                return refuse(format!("may not address workspace {}", grant.workspace));
            }
            if !key.was_good_at(grant.issued_at) && Check::A13Signed.holds() {
                return refuse(format!("is valid from {} to {} only", key.not_before, key.not_after));
            }
        }
        Ok(verified)
    }

    fn check(&self, root: &TrustRoot) -> Result<(), GrantError> {
        let invalid = |why: String| Err(GrantError::Invalid(why));
        let longest = self.issued_at.plus_millis(self.level.minutes_max() * 60_000);
        if (self.not_after <= self.issued_at || self.not_after > longest) && Check::A13Life.holds() {
            let (name, minutes) = (self.level.name(), self.level.minutes_max());
            return invalid(format!("{name} access lasts at most {minutes} minutes, and some"));
        }
        if (self.ticket.trim().is_empty() || self.reason.trim().is_empty()) && Check::A13Text.holds() {
            return invalid("a ticket and a reason are needed".into());
        }
        if self.ticket.len() + self.reason.len() > GRANT_TEXT_BYTES_MAX {
            return invalid(format!("ticket and reason together have at most {GRANT_TEXT_BYTES_MAX} bytes"));
        }
        // A key that is something else already would be a way around its scope.
        if root.knows(&self.support) && Check::A13Alias.holds() {
            return invalid(format!(
                "{} is a key of the trust root, or its name is; support has its own",
                self.support.kid
            ));
        }
        Ok(())
    }

    /// First moment at which a bundle under it may be valid: clocks differ a little.
    pub fn begins_at(&self) -> Timestamp {
        self.issued_at.plus_millis(-CLOCK_SKEW_S * 1000)
    }
}

impl std::str::FromStr for Level {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|level| level.name() == text);
        found.ok_or_else(|| format!("{text:?} is no level; there are {}", Self::ALL.map(Self::name).join(", ")))
    }
}
