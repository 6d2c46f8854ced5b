//! The delivery token: the hub's word that it handed this bundle to this droplet just now (protocol.md).
//!
//! A JWT (RFC 7519) with EdDSA. It cannot make a command; it keeps a stolen bundle from being run by anyone else or at
//! any other time than the hub handed it out.

use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::{Deserialize, Serialize};

use crate::id::{Digest, DropletId, KeyId, WorkspaceId};
use crate::limits::{CLOCK_SKEW_S, DELIVERY_TOKEN_TTL_S};
use crate::mutant::Check;
use crate::timestamp::Timestamp;
use crate::trust::TrustRoot;

/// `iss` of every token.
pub const ISSUER: &str = "genesis-hub";
/// `aud` of every token.
pub const AUDIENCE: &str = "sidecar";

/// The claims.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claims {
    /// [`ISSUER`].
    pub iss: String,
    /// The tenant.
    pub sub: WorkspaceId,
    /// [`AUDIENCE`].
    pub aud: String,
    /// Issued at, seconds since the epoch.
    pub iat: i64,
    /// Expires at, seconds since the epoch; `iat` + 300.
    pub exp: i64,
    /// Unique per token.
    pub jti: String,
    /// The bundle's action names, joined by commas.
    pub action: String,
    /// The droplet.
    pub droplet_id: DropletId,
    /// Digest of the bundle's bytes as delivered.
    pub bundle: Digest,
    /// The nonce of the poll that this answers.
    pub nonce: String,
}

/// What a token must say to be accepted.
#[derive(Debug, Clone)]
pub struct Expected<'a> {
    /// This droplet's tenant.
    pub workspace_id: WorkspaceId,
    /// This droplet.
    pub droplet_id: &'a DropletId,
    /// Digest of the bundle's bytes as received.
    pub bundle: Digest,
    /// The bundle's [`crate::bundle::Bundle::action_label`].
    pub action: &'a str,
    /// The nonce that this droplet sent with its poll.
    pub nonce: &'a str,
}

/// Why a token is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeliveryError {
    /// Not a JWT, wrong algorithm, unknown key or bad signature.
    #[error("not a token by a delivery key of the trust root: {0}")]
    Signature(String),
    /// A claim that does not fit.
    #[error("claim {claim} is {actual}, expected {expected}")]
    Claim {
        /// Which claim.
        claim: &'static str,
        /// What the token says.
        actual: String,
        /// What this droplet expects.
        expected: String,
    },
    /// Too old, from the future, or valid for longer than allowed.
    #[error("not valid at {now}: issued {iat}, expires {exp} (seconds since 1970)")]
    Time {
        /// The droplet's time.
        now: i64,
        /// As claimed.
        iat: i64,
        /// As claimed.
        exp: i64,
    },
}

/// Verifies a token against the delivery keys of `root`.
///
/// # Errors
/// Every [`DeliveryError`].
pub fn verify(token: &str, root: &TrustRoot, expected: &Expected<'_>, now: Timestamp) -> Result<Claims, DeliveryError> {
    let signature = |e: jsonwebtoken::errors::Error| DeliveryError::Signature(e.to_string());
    let header = jsonwebtoken::decode_header(token).map_err(signature)?;
    let kid = header.kid.ok_or_else(|| DeliveryError::Signature("no kid".into()))?;
    let kid: KeyId = kid.parse().map_err(|_| DeliveryError::Signature("kid is not a key id".into()))?;
    let key = root.delivery_key(&kid).ok_or_else(|| DeliveryError::Signature(format!("unknown key {kid}")))?;

    let mut validation = Validation::new(Algorithm::EdDSA);
    // Time and audience are checked below: the library would ask the system clock.
    validation.validate_exp = false;
    validation.validate_aud = false;
    validation.required_spec_claims.clear();
    if !Check::A11Signature.holds() {
        validation.insecure_disable_signature_validation();
    }
    let claims = jsonwebtoken::decode::<Claims>(token, &DecodingKey::from_ed_der(key.as_bytes()), &validation)
        .map_err(signature)?
        .claims;
    check(&claims, expected, now)?;
    Ok(claims)
}

fn check(claims: &Claims, expected: &Expected<'_>, now: Timestamp) -> Result<(), DeliveryError> {
    let pairs: [(&'static str, Check, String, String); 7] = [
        ("iss", Check::A11Issuer, claims.iss.clone(), ISSUER.to_owned()),
        ("aud", Check::A11Audience, claims.aud.clone(), AUDIENCE.to_owned()),
        ("sub", Check::A11Tenant, claims.sub.to_string(), expected.workspace_id.to_string()),
        ("droplet_id", Check::A11Droplet, claims.droplet_id.to_string(), expected.droplet_id.to_string()),
        ("bundle", Check::A11Bundle, claims.bundle.to_string(), expected.bundle.to_string()),
        ("action", Check::A11Action, claims.action.clone(), expected.action.to_owned()),
        ("nonce", Check::A11Nonce, claims.nonce.clone(), expected.nonce.to_owned()),
    ];
    for (claim, check, actual, expected) in pairs {
        if actual != expected && check.holds() {
            return Err(DeliveryError::Claim { claim, actual, expected });
        }
    }
    let (now, iat, exp) = (now.seconds(), claims.iat, claims.exp);
    let lifetime_fits = exp > iat && exp.saturating_sub(iat) <= DELIVERY_TOKEN_TTL_S;
    let is_early = iat > now.saturating_add(CLOCK_SKEW_S);
    let is_late = exp.saturating_add(CLOCK_SKEW_S) <= now;
    if (!lifetime_fits && Check::A11Life.holds())
        || (is_early && Check::A11Early.holds())
        || (is_late && Check::A11Late.holds())
    {
        return Err(DeliveryError::Time { now, iat, exp });
    }
    Ok(())
}
