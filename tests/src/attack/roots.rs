//! Attacks with trust roots: forged, half signed, careless (T1 to T6). The hub cannot sign one; some of its accomplices
//! can, up to below the threshold.

use genesis_agent::sim::forge::ForgedRoots;
use genesis_shared::trust::{RootKeys, TrustRoot};
use genesisctl::keys::SigningKey;

use super::stage::{Stage, key, key_as, sign_root};
use super::{Case, forged};
use crate::operator::{everything_at, named, sign_with};

/// A root with one operator more, the thief.
pub fn with_thief(stage: &Stage, root: &mut TrustRoot) {
    root.operators.push(everything_at(&key("thief"), stage.now()));
}

/// The hub speaks of this version and gives these documents; the thief asks.
fn thief(stage: &Stage, version: u64, documents: Vec<String>) -> (ForgedRoots, String) {
    (ForgedRoots { version, documents }, stage.signed(&["thief"], |_| {}))
}

fn next(stage: &Stage, keys: &[SigningKey], change: fn(&mut TrustRoot)) -> (ForgedRoots, String) {
    let next = stage.next(|root| {
        with_thief(stage, root);
        change(root);
    });
    thief(stage, next.version.max(2), vec![sign_root(&next, keys)])
}

fn holders() -> [SigningKey; 2] {
    ["root-1", "root-2"].map(key)
}

fn thieves(root: &mut TrustRoot) {
    root.root = RootKeys { keys: vec![named(&key("root-8")), named(&key("root-9"))], threshold: 2 };
}

pub fn cases() -> Vec<Case> {
    let mut cases = thresholds();
    cases.extend(versions());
    cases.extend(careless());
    cases.extend(documents());
    cases
}

fn thresholds() -> Vec<Case> {
    vec![
        forged("root by the thief's own keys", "T2", |s| next(s, &["root-8", "root-9"].map(key), thieves)),
        forged("root by one stolen root key", "T2", |s| next(s, &[key("root-1")], |root| root.root.threshold = 1)),
        forged("root by one stolen root key and the thief's", "T2", |s| {
            next(s, &["root-1", "root-8", "root-9"].map(key), |root| {
                thieves(root);
                root.root.keys.push(named(&key("root-1")));
            })
        }),
        forged("root that the new holders have not signed yet", "T3", |s| next(s, &holders(), thieves)),
        forged("root with the holders' names and the thief's signatures", "T4", |s| {
            next(s, &[key_as("root-1", "thief-1"), key_as("root-2", "thief-2")], |_| {})
        }),
        forged("root with a stranger's signature more", "T4", |s| {
            next(s, &["root-1", "root-2", "nobody"].map(key), |_| {})
        }),
        forged("root by operators: key confusion", "T4", |s| next(s, &["ops-1", "ops-2"].map(key), |_| {})),
        forged("root with one signature twice", "T4", |s| {
            let (mut roots, bundle) = next(s, &[key("root-1")], |_| {});
            let mut document: serde_json::Value = serde_json::from_str(&roots.documents[0]).unwrap();
            let signature = document["signatures"][0].clone();
            document["signatures"].as_array_mut().unwrap().push(signature);
            roots.documents = vec![document.to_string()];
            (roots, bundle)
        }),
        forged("root changed after it was signed", "T4", |s| {
            let honest = sign_root(&s.next(|_| {}), &holders());
            let (mut roots, bundle) = next(s, &[], |_| {});
            let mut document: serde_json::Value = serde_json::from_str(&honest).unwrap();
            let wide: serde_json::Value = serde_json::from_str(&roots.documents[0]).unwrap();
            document["payload"] = wide["payload"].clone();
            roots.documents = vec![document.to_string()];
            (roots, bundle)
        }),
    ]
}

fn versions() -> Vec<Case> {
    vec![
        forged("root fast-forward by one", "T1", |s| next(s, &holders(), |root| root.version = 3)),
        forged("root fast-forward to the end", "T1", |s| next(s, &holders(), |root| root.version = u64::MAX)),
        forged("root of the same version with another content", "T1", |s| {
            let (mut roots, bundle) = next(s, &holders(), |root| root.version = 1);
            roots.version = 2;
            (roots, bundle)
        }),
    ]
}

/// Signed by those who may, and yet refused.
fn careless() -> Vec<Case> {
    vec![
        forged("root that takes a revocation back", "T5", |s| next(s, &holders(), |root| root.revoked.clear())),
        forged("root from before the one in force", "T5", |s| {
            next(s, &holders(), |root| root.issued_at = root.issued_at.plus_millis(-1))
        }),
        forged("root with another key under an operator's name", "T6", |s| {
            let next = s.next(|root| root.operators[0].public_key = key("thief").public());
            let bundle = sign_with(&s.bundle(super::stage::stop()), &[&key_as("ops-1", "thief")]);
            (ForgedRoots { version: 2, documents: vec![sign_root(&next, &holders())] }, bundle)
        }),
        forged("root with an operator's key under another name", "T6", |s| {
            next(s, &holders(), |root| root.operators[0].kid = "ops-7".parse().unwrap())
        }),
        forged("root that nobody need sign", "trust_root_inconsistent", |s| {
            next(s, &holders(), |root| root.root.threshold = 0)
        }),
        forged("root with one key under two names", "trust_root_inconsistent", |s| {
            next(s, &holders(), |root| {
                let mut twice = root.operators[0].clone();
                twice.kid = "ops-7".parse().unwrap();
                root.operators.push(twice);
            })
        }),
    ]
}

fn documents() -> Vec<Case> {
    vec![
        forged("a bundle in the place of a root", "T4", |s| thief(s, 2, vec![s.signed(&["ops-1", "ops-2"], |_| {})])),
        forged("no document as a root", "T4", |s| thief(s, 2, vec![String::new()])),
        forged("a deep document as a root", "T4", |s| thief(s, 2, vec!["[".repeat(100_000)])),
        forged("an oversized root", "T4", |s| thief(s, 2, vec![" ".repeat(300_000)])),
        forged("a rightful root and a forged one behind it", "T2", |s| {
            let second = s.next(|_| {});
            let third = super::stage::follow(&second, |root| {
                with_thief(s, root);
                thieves(root);
            });
            let documents = vec![sign_root(&second, &holders()), sign_root(&third, &["root-8", "root-9"].map(key))];
            thief(s, 3, documents)
        }),
        forged("freeze: a newer root is spoken of and withheld", "trust_root_withheld", |s| {
            (ForgedRoots { version: 2, documents: vec![] }, s.signed(&["thief"], |_| {}))
        }),
    ]
}
