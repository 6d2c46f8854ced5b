//! From the trust root in force to the draft of the one that follows: one change at a time, the rest stays.

use genesis_shared::id::KeyId;
use genesis_shared::timestamp::Timestamp;
use genesis_shared::trust::{NamedKey, OperatorKey, RootKeys, TrustRoot};

use crate::error::Error;

/// What is to change. Whatever is absent stays.
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// Operators to add; one whose name is known already is replaced, for a new scope or a longer life.
    pub operators: Vec<OperatorKey>,
    /// Keys that may do nothing any more: operators, root keys, delivery keys.
    pub revoke: Vec<KeyId>,
    /// All root keys of the new root, and how many of them must sign.
    pub root: Option<RootKeys>,
    /// The hub's new delivery key; the one in force stays beside it until it is revoked.
    pub delivery: Option<NamedKey>,
    /// The new recovery key.
    pub recovery: Option<NamedKey>,
    /// When the new root expires.
    pub expires_at: Option<Timestamp>,
}

/// The root that follows `current`.
///
/// # Errors
/// [`Error::Argument`] for a key to revoke that the root does not have, and for a change that leaves a rule without
/// anybody to meet it.
pub fn successor(current: &TrustRoot, change: Change, now: Timestamp) -> Result<TrustRoot, Error> {
    let mut next = current.clone();
    next.version += 1;
    next.issued_at = now;
    next.expires_at = change.expires_at.unwrap_or(current.expires_at);
    for operator in change.operators {
        next.operators.retain(|known| known.kid != operator.kid);
        next.operators.push(operator);
    }
    next.root = change.root.unwrap_or(next.root);
    next.delivery.extend(change.delivery);
    next.recovery = change.recovery.unwrap_or(next.recovery);
    for kid in change.revoke {
        revoke(&mut next, current, kid)?;
    }
    Ok(next)
}

/// Takes a key out of every list and notes its name, so that no later root brings it back.
fn revoke(next: &mut TrustRoot, current: &TrustRoot, kid: KeyId) -> Result<(), Error> {
    let refused = |why: &str| Err(Error::Argument { what: format!("--revoke {kid}"), why: why.to_owned() });
    let is_known = |root: &TrustRoot| {
        let named = root.root.keys.iter().chain(&root.delivery).map(|key| &key.kid);
        named.chain(root.operators.iter().map(|key| &key.kid)).any(|known| *known == kid)
    };
    if next.revoked.contains(&kid) {
        return refused("is revoked already");
    }
    if !is_known(next) && !is_known(current) {
        return refused("is no key of this trust root");
    }
    next.operators.retain(|key| key.kid != kid);
    next.delivery.retain(|key| key.kid != kid);
    next.root.keys.retain(|key| key.kid != kid);
    if next.root.keys.len() < next.root.threshold {
        return refused("leaves fewer root keys than must sign; give the new set with `trust rotate --root-key …`");
    }
    if next.delivery.is_empty() {
        return refused(
            "leaves no delivery key, so no droplet would take a command; give the new one in the same root",
        );
    }
    next.revoked.push(kid);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use genesis_shared::id::PublicKey;
    use serde_json::json;

    fn named(kid: &str, seed: u8) -> serde_json::Value {
        json!({"kid": kid, "public_key": PublicKey::from_bytes([seed; 32])})
    }
    fn root() -> TrustRoot {
        serde_json::from_value(json!({
            "version": 4, "issued_at": "2026-01-01T00:00:00Z", "expires_at": "2027-01-01T00:00:00Z",
            "root": {"keys": [named("root-1", 1), named("root-2", 2)], "threshold": 2},
            "operators": [{"kid": "ops-1", "public_key": PublicKey::from_bytes([3; 32]), "allow": [{"class": "read"}],
                "not_before": "2026-01-01T00:00:00Z", "not_after": "2027-01-01T00:00:00Z"}],
            "signers": {"read": 1, "operate": 1, "change": 1, "destroy": 2},
            "delivery": [named("hub-1", 4)], "recovery": named("rec-1", 5),
        }))
        .unwrap()
    }
    fn kids(list: &[&str]) -> Vec<KeyId> {
        list.iter().map(|kid| kid.parse().unwrap()).collect()
    }
    fn now() -> Timestamp {
        "2026-06-01T00:00:00Z".parse().unwrap()
    }

    #[test]
    fn a_revoked_operator_is_gone_and_named() {
        let next = successor(&root(), Change { revoke: kids(&["ops-1"]), ..Change::default() }, now()).unwrap();
        assert_eq!((next.version, next.operators.len()), (5, 0));
        assert_eq!(next.revoked, kids(&["ops-1"]));
    }

    #[test]
    fn refuses_to_revoke_what_is_unknown_or_cannot_be_missed() {
        for kid in ["nobody", "root-1", "hub-1"] {
            let change = Change { revoke: kids(&[kid]), ..Change::default() };
            assert!(successor(&root(), change, now()).is_err(), "{kid}");
        }
        let delivery = serde_json::from_value(named("hub-2", 6)).unwrap();
        let change = Change { revoke: kids(&["hub-1"]), delivery: Some(delivery), ..Change::default() };
        assert_eq!(successor(&root(), change, now()).unwrap().delivery.len(), 1);
    }
}
