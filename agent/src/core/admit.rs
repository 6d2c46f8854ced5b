//! May this bundle run here? Numbered rules, each of which refuses by its name; what passes is [`Verified`].
//!
//! | rule | refuses |
//! |---|---|
//! | A1 | too large, or not strict JSON and JOSE |
//! | A2 | a signature by a key that the trust root does not know (or has revoked) |
//! | A3 | a signature that does not fit the received bytes, or two by one key |
//! | A4 | a payload that is no bundle, an unknown action, an unacceptable payload of one |
//! | A5 | fewer distinct signers than the class of an action needs |
//! | A6 | an issuer that did not sign, or a signer without scope for an action, this tenant, the queue or the time |
//! | A7 | another target |
//! | A8 | not yet or no longer valid, or valid for longer than 30 days |
//! | A9 | a changing action under an expired trust root |
//! | A10 | a bundle that was already seen |
//! | A11 | a delivery token that is not the hub's, not for this droplet, bundle and poll, or not fresh; a bundle handed over on the droplet needs none |
//! | A12 | an action that this version of the agent cannot run |
//! | A13 | a support grant that does not stand or does not cover the tenant, an action, or the time; it takes the place of A5 and A6 |
//!
//! The time used is never behind the latest signed time seen (the time floor), so that a clock set back opens no
//! window.

use std::collections::BTreeMap;

use genesis_shared::bundle::{Bundle, BundleError};
use genesis_shared::chain::Chain;
use genesis_shared::command::{Action, Class, Command, CommandError, CommandWire};
use genesis_shared::delivery::{self, Expected};
use genesis_shared::grant::Grant;
use genesis_shared::id::{BundleId, Digest, DropletId, JobId, WorkspaceId};
use genesis_shared::jws::{JwsError, Verified};
use genesis_shared::limits::{BUNDLE_VALIDITY_MS_MAX, CLOCK_SKEW_S};
use genesis_shared::mutant::Check;
use genesis_shared::timestamp::Timestamp;
use genesis_shared::trust::TrustRoot;

/// The rules, in the order in which they are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// A1: size and shape.
    A1Shape,
    /// A2: known keys.
    A2UnknownKey,
    /// A3: signatures.
    A3Signature,
    /// A4: content.
    A4Content,
    /// A5: enough distinct signers.
    A5Signers,
    /// A6: scope.
    A6Scope,
    /// A7: target.
    A7Target,
    /// A8: time of the bundle.
    A8Time,
    /// A9: time of the trust root.
    A9TrustRootExpired,
    /// A10: replay.
    A10Replay,
    /// A11: delivery.
    A11Delivery,
    /// A12: capability.
    A12Unsupported,
    /// A13: support access.
    A13Grant,
}

impl Rule {
    /// Every rule, in order.
    pub const ALL: &[Rule] = &[
        Self::A1Shape,
        Self::A2UnknownKey,
        Self::A3Signature,
        Self::A4Content,
        Self::A5Signers,
        Self::A6Scope,
        Self::A7Target,
        Self::A8Time,
        Self::A9TrustRootExpired,
        Self::A10Replay,
        Self::A11Delivery,
        Self::A12Unsupported,
        Self::A13Grant,
    ];

    /// Stable machine-readable name, the `code` of the refusal.
    pub fn code(self) -> &'static str {
        match self {
            Self::A1Shape => "a1_shape",
            Self::A2UnknownKey => "a2_unknown_key",
            Self::A3Signature => "a3_signature",
            Self::A4Content => "a4_content",
            Self::A5Signers => "a5_signers",
            Self::A6Scope => "a6_scope",
            Self::A7Target => "a7_target",
            Self::A8Time => "a8_time",
            Self::A9TrustRootExpired => "a9_trust_root_expired",
            Self::A10Replay => "a10_replay",
            Self::A11Delivery => "a11_delivery",
            Self::A12Unsupported => "a12_unsupported",
            Self::A13Grant => "a13_grant",
        }
    }
}

/// A refusal: the rule and what did not fit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {why}", rule.code())]
pub struct Refusal {
    /// Which rule.
    pub rule: Rule,
    /// What did not fit, for people.
    pub why: String,
    /// The bundle, where its signatures held and so its id can be believed.
    pub bundle_id: Option<BundleId>,
}

/// How a bundle came here.
#[derive(Debug, Clone)]
pub enum Handed<'a> {
    /// In the answer to a poll.
    ByHub(Delivery<'a>),
    /// From somebody on the droplet: whoever may use its data folder needs no hub's word. Every other rule holds.
    ByHand,
}

/// A hand-out by the hub.
#[derive(Debug, Clone)]
pub struct Delivery<'a> {
    /// The delivery token.
    pub token: &'a str,
    /// The nonce of that poll.
    pub nonce: &'a str,
    /// The hub's job.
    pub job_id: JobId,
}

/// What the journal knows of a bundle of this id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Digest of the bytes that were accepted.
    pub digest: Digest,
    /// The job they came with.
    pub job_id: JobId,
    /// Whether they have an outcome.
    pub has_ended: bool,
}

/// The job of a bundle that was handed over on the droplet, where no hub made one: it follows from the bytes, so that
/// it is known again when the hub hands out the same bundle later.
pub fn job_by_hand(bundle: &Digest) -> JobId {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&bundle.as_bytes()[..16]);
    JobId::from_random(bytes)
}

/// Who is asked, and when.
#[derive(Debug, Clone)]
pub struct Situation<'a> {
    /// The verified trust root.
    pub root: &'a TrustRoot,
    /// This tenant.
    pub workspace_id: WorkspaceId,
    /// This droplet.
    pub droplet_id: &'a DropletId,
    /// This droplet's own labels.
    pub labels: &'a BTreeMap<String, String>,
    /// The clock.
    pub now: Timestamp,
    /// The latest signed time seen.
    pub time_floor: Timestamp,
}

/// What passed.
#[derive(Debug, Clone)]
pub struct Admitted {
    /// The bundle and who signed it.
    pub bundle: Verified<Bundle>,
    /// Its commands, understood.
    pub commands: Vec<Command>,
    /// The latest signed time in bundle and token: the new time floor, if it is later.
    pub signed_at: Timestamp,
}

/// The verdict.
#[derive(Debug, Clone)]
pub enum Verdict {
    /// Run it.
    Accept(Box<Admitted>),
    /// What was accepted before, again, and rightly so: confirm it once more, run nothing. By the hub the same job, or a
    /// bundle that was applied by hand meanwhile; by hand one that is still under way.
    Duplicate(BundleId),
    /// Refuse it.
    Reject(Refusal),
}

/// Decides on received bytes. `seen` looks up a bundle id among those accepted before.
pub fn admit(
    bytes: &[u8],
    handed: &Handed<'_>,
    situation: &Situation<'_>,
    seen: impl FnOnce(BundleId) -> Option<Seen>,
) -> Verdict {
    match check(bytes, handed, situation, seen) {
        Ok(verdict) => verdict,
        Err(refusal) => Verdict::Reject(refusal),
    }
}

fn check(
    bytes: &[u8],
    handed: &Handed<'_>,
    situation: &Situation<'_>,
    seen: impl FnOnce(BundleId) -> Option<Seen>,
) -> Result<Verdict, Refusal> {
    // A1 to A3, and that the payload has a bundle's shape (A4).
    let verified = Bundle::verify(bytes, situation.root).map_err(refuse_jws)?;
    let bundle = verified.get();
    let refuse = |rule: Rule, why: String| Refusal { rule, why, bundle_id: Some(bundle.id) };

    // A4.
    let read = if Check::A4Content.holds() {
        bundle.checked()
    } else {
        Ok(bundle.commands.iter().map(CommandWire::parse).collect())
    };
    let commands = read.map_err(|e| refuse(Rule::A4Content, Chain(&e).to_string()))?;
    let actions = bundle.actions().map_err(|e: BundleError| refuse(Rule::A4Content, Chain(&e).to_string()))?;
    // A root that verified was signed no later than now, whatever the clock says.
    let floor = if Check::A8Floor.holds() { situation.time_floor.max(situation.root.issued_at) } else { situation.now };
    let now = situation.now.max(floor);
    match bundle.support().map_err(|e| refuse(Rule::A13Grant, Chain(&e).to_string()))? {
        Some(grant) => check_grant(&grant, bundle, &actions, now).map_err(|why| refuse(Rule::A13Grant, why))?,
        None => check_signers(&verified, &actions, situation, now).map_err(|(rule, why)| refuse(rule, why))?,
    }

    // A7.
    if !bundle.targets.include(situation.workspace_id, situation.labels) && Check::A7Target.holds() {
        return Err(refuse(Rule::A7Target, format!("not for workspace {}", situation.workspace_id)));
    }
    check_time(bundle, now).map_err(|why| refuse(Rule::A8Time, why))?;

    // A9: only what changes something; reads go on, and so does the workload.
    let changes = actions.iter().any(|action| action.class() != Class::Read);
    if now > situation.root.expires_at && changes && Check::A9Root.holds() {
        let why = format!("the trust root expired at {}; push a newer one", situation.root.expires_at);
        return Err(refuse(Rule::A9TrustRootExpired, why));
    }

    // A10.
    let digest = Digest::of(bytes);
    if let Some(seen) = seen(bundle.id)
        && Check::A10Replay.holds()
    {
        if seen.digest == digest && is_again(handed, seen, &digest) {
            return Ok(Verdict::Duplicate(bundle.id));
        }
        return Err(refuse(Rule::A10Replay, format!("bundle {} was accepted before; sign a new one", bundle.id)));
    }

    // A11.
    let mut signed_at = bundle.issued_at;
    if let Handed::ByHub(delivery) = handed {
        let delivered_at = check_delivery(delivery, bundle, digest, situation, now);
        signed_at = signed_at.max(delivered_at.map_err(|why| refuse(Rule::A11Delivery, why))?);
    }

    // A12.
    let known = commands.into_iter().filter(|command| command.is_ok() || Check::A12Unsupported.holds());
    let commands = known.collect::<Result<_, CommandError>>();
    let commands = commands.map_err(|e| refuse(Rule::A12Unsupported, e.to_string()))?;
    Ok(Verdict::Accept(Box::new(Admitted { bundle: verified, commands, signed_at })))
}

/// A10: whether the very bytes that were accepted before are no replay.
fn is_again(handed: &Handed<'_>, seen: Seen, digest: &Digest) -> bool {
    match handed {
        Handed::ByHub(delivery) => seen.job_id == delivery.job_id || seen.job_id == job_by_hand(digest),
        Handed::ByHand => !seen.has_ended,
    }
}

/// A11: when the hub handed it out.
fn check_delivery(
    delivery: &Delivery<'_>,
    bundle: &Bundle,
    digest: Digest,
    situation: &Situation<'_>,
    now: Timestamp,
) -> Result<Timestamp, String> {
    let action = bundle.action_label();
    let expected = Expected {
        workspace_id: situation.workspace_id,
        droplet_id: situation.droplet_id,
        bundle: digest,
        action: &action,
        nonce: delivery.nonce,
    };
    let claims = delivery::verify(delivery.token, situation.root, &expected, now).map_err(|e| e.to_string())?;
    // The hub's word moves the floor no further than the clock: it could push it on and on otherwise.
    Ok(Timestamp::from_millis(claims.iat.saturating_mul(1000)).min(now))
}

/// A5 and A6.
fn check_signers(
    verified: &Verified<Bundle>,
    actions: &[Action],
    situation: &Situation<'_>,
    now: Timestamp,
) -> Result<(), (Rule, String)> {
    let (bundle, signers) = (verified.get(), verified.signers());
    for action in actions {
        let needed = situation.root.signers.needed(action.class());
        if signers.len() < needed && Check::A5Signers.holds() {
            return Err((
                Rule::A5Signers,
                format!("{action} needs {needed} distinct signers, {} signed", signers.len()),
            ));
        }
    }
    if !signers.contains(&bundle.issuer) && Check::A6Issuer.holds() {
        return Err((Rule::A6Scope, format!("issuer {} did not sign", bundle.issuer)));
    }
    for kid in signers {
        let scope = |why: String| (Rule::A6Scope, format!("key {kid} {why}"));
        let key = situation.root.operator(kid).ok_or_else(|| scope("is unknown".into()))?;
        if let Some(action) = actions.iter().find(|action| !key.may(**action))
            && Check::A6Action.holds()
        {
            return Err(scope(format!("may not ask {action}")));
        }
        if !key.may_address(situation.workspace_id) && Check::A6Tenant.holds() {
            return Err(scope(format!("may not address workspace {}", situation.workspace_id)));
        }
        if !key.may_use_queue(&bundle.queue) && Check::A6Queue.holds() {
            return Err(scope(format!("may not use queue {}", bundle.queue)));
        }
        // At both moments: the time of signing is the signer's own word, and a stolen old key would set it back.
        if let Some(at) = [bundle.issued_at, now].into_iter().find(|at| !key.was_good_at(*at))
            && Check::A6Time.holds()
        {
            return Err(scope(format!("is valid from {} to {}, not at {at}", key.not_before, key.not_after)));
        }
    }
    Ok(())
}

/// A13, on a grant whose signatures were verified with the bundle's.
fn check_grant(grant: &Grant, bundle: &Bundle, actions: &[Action], now: Timestamp) -> Result<(), String> {
    let ticket = &grant.ticket;
    if bundle.issuer != grant.support.kid && Check::A13Issuer.holds() {
        return Err(format!("issuer {} is not {}, whom {ticket} lets in", bundle.issuer, grant.support.kid));
    }
    if bundle.targets.single() != Some(grant.workspace) && Check::A13Tenant.holds() {
        return Err(format!("{ticket} is for workspace {} alone", grant.workspace));
    }
    if let Some(action) = actions.iter().find(|action| !grant.level.may(**action))
        && Check::A13Action.holds()
    {
        return Err(format!("{ticket} gives {} access, which does not cover {action}", grant.level.name()));
    }
    if (bundle.not_before < grant.begins_at() || bundle.not_after > grant.not_after) && Check::A13Span.holds() {
        return Err(format!("{ticket} lasts from {} to {}, and so must the bundle", grant.issued_at, grant.not_after));
    }
    // Also by the time of signing: nobody signs under a grant before there is one.
    let outside = |at: Timestamp| at < grant.begins_at() || at > grant.not_after;
    if [bundle.issued_at, now].into_iter().any(outside) && Check::A13Time.holds() {
        return Err(format!("{ticket} lasts from {} to {}; ask for a new grant", grant.issued_at, grant.not_after));
    }
    Ok(())
}

/// A8.
fn check_time(bundle: &Bundle, now: Timestamp) -> Result<(), String> {
    let (from, to) = (bundle.not_before, bundle.not_after);
    if (to.millis_since(from) > BUNDLE_VALIDITY_MS_MAX || to <= from) && Check::A8Span.holds() {
        return Err(format!("valid from {from} to {to}; the span must be positive and at most 30 days"));
    }
    // A time of signing far ahead would carry the time floor with it and shut this droplet for good.
    if bundle.issued_at > now.plus_millis(CLOCK_SKEW_S * 1000) && Check::A8Ahead.holds() {
        return Err(format!("signed at {}, which is ahead of this droplet's time {now}", bundle.issued_at));
    }
    if now < from && Check::A8Early.holds() {
        return Err(format!("not valid before {from}; this droplet's time is {now}"));
    }
    if now > to && Check::A8Late.holds() {
        return Err(format!("expired at {to}; this droplet's time is {now}; sign a new one"));
    }
    Ok(())
}

fn refuse_jws(error: JwsError) -> Refusal {
    let rule = match &error {
        JwsError::TooLarge { .. }
        | JwsError::Malformed(_)
        | JwsError::Encoding(_)
        | JwsError::SignatureCount(_)
        | JwsError::Header(_) => Rule::A1Shape,
        JwsError::UnknownKey(_) => Rule::A2UnknownKey,
        JwsError::BadSignature(_) | JwsError::SameKeyTwice(_) => Rule::A3Signature,
        JwsError::Payload(_) => Rule::A4Content,
        JwsError::Grant(_) => Rule::A13Grant,
    };
    Refusal { rule, why: Chain(&error).to_string(), bundle_id: None }
}
