//! From a spec, which an operator writes, to a signed bundle, which a droplet runs.

use genesis_shared::bundle::{Bundle, Force, TYP, Targets};
use genesis_shared::command::CommandWire;
use genesis_shared::id::BundleId;
use genesis_shared::limits::{BUNDLE_BYTES_MAX, BUNDLE_VALIDITY_MS_MAX, CLOCK_SKEW_S};
use genesis_shared::timestamp::Timestamp;
use serde::Deserialize;

use crate::access;
use crate::error::Error;
use crate::keys::SigningKey;
use crate::sign::Document;

const HOUR_MS: i64 = 3600 * 1000;

/// What an operator writes; id, issuer and times are filled in when it is signed.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// For whom.
    pub targets: Targets,
    /// The hub's queue; `template` when absent.
    #[serde(default = "default_queue")]
    pub queue: String,
    /// 1 critical to 4 low; 3 when absent.
    #[serde(default = "default_priority")]
    pub priority: u8,
    /// What to do, in order.
    pub commands: Vec<CommandWire>,
    /// Needed where anything is destroyed.
    #[serde(default)]
    pub force: Option<Force>,
    /// Waves, for the hub.
    #[serde(default)]
    pub rollout: Option<serde_json::Value>,
    /// Not to be run before; a minute ago when absent.
    #[serde(default)]
    pub not_before: Option<Timestamp>,
    /// Hours from `not_before` until droplets refuse it; 24 when absent.
    #[serde(default = "default_validity_hours")]
    pub validity_hours: u32,
}

impl Spec {
    /// A spec with nothing but what every spec needs.
    pub fn of(targets: Targets, queue: &str, priority: u8, commands: Vec<CommandWire>) -> Self {
        let (queue, validity_hours) = (queue.to_owned(), default_validity_hours());
        Self { targets, queue, priority, commands, force: None, rollout: None, not_before: None, validity_hours }
    }
}

fn default_queue() -> String {
    "template".to_owned()
}
fn default_priority() -> u8 {
    3
}
fn default_validity_hours() -> u32 {
    24
}

/// Completes a spec and signs it with every key; the first one is the issuer.
///
/// # Errors
/// [`Error::Bundle`] for what `shared` refuses, [`Error::Argument`] for no key, impossible times or too many bytes,
/// [`Error::SignedAlready`] for one key given twice. Nothing is signed then.
pub fn sign(spec: Spec, keys: &[SigningKey], id: BundleId, now: Timestamp) -> Result<(Bundle, Document), Error> {
    let refused = |why: String| Error::Argument { what: "validity_hours".to_owned(), why };
    // A droplet whose clock is a little behind would refuse what begins this very moment.
    let not_before = spec.not_before.unwrap_or(now.plus_millis(-CLOCK_SKEW_S * 1000));
    let not_after = not_before.plus_millis(i64::from(spec.validity_hours) * HOUR_MS);
    if spec.validity_hours == 0 || not_after.millis_since(not_before) > BUNDLE_VALIDITY_MS_MAX {
        return Err(refused(format!("from 1 to {}", BUNDLE_VALIDITY_MS_MAX / HOUR_MS)));
    }
    complete(spec, keys, Terms { id, now, not_before, not_after, grant: None })
}

/// Completes a spec and signs it with the support key that a grant lets in; the bundle ends with the grant.
///
/// # Errors
/// As [`sign`]; and [`Error::Argument`] where the grant is for another key or is over.
pub fn sign_under_grant(
    spec: Spec,
    key: SigningKey,
    grant: &Document,
    id: BundleId,
    now: Timestamp,
) -> Result<(Bundle, Document), Error> {
    let content = access::read_unverified(grant)?;
    let refused = |why: String| Err(Error::Argument { what: "--grant".to_owned(), why });
    if content.support.kid != *key.kid() || content.support.public_key != key.public() {
        return refused(format!("lets {} in, and this is {}", content.support.kid, key.kid()));
    }
    if now > content.not_after {
        return refused(format!("ended at {}; ask for a new one", content.not_after));
    }
    let not_before = now.plus_millis(-CLOCK_SKEW_S * 1000).max(content.begins_at());
    let terms = Terms { id, now, not_before, not_after: content.not_after, grant: Some(grant.to_text()) };
    complete(spec, &[key], terms)
}

/// What is no operator's to write into a spec.
struct Terms {
    id: BundleId,
    now: Timestamp,
    not_before: Timestamp,
    not_after: Timestamp,
    grant: Option<String>,
}

fn complete(spec: Spec, keys: &[SigningKey], terms: Terms) -> Result<(Bundle, Document), Error> {
    let refused = |what: &str, why: String| Error::Argument { what: what.to_owned(), why };
    let issuer = keys.first().ok_or_else(|| refused("--key", "at least one key signs a bundle".into()))?.kid().clone();
    let bundle = Bundle {
        id: terms.id,
        issuer,
        issued_at: terms.now,
        not_before: terms.not_before,
        not_after: terms.not_after,
        targets: spec.targets,
        queue: spec.queue,
        priority: spec.priority,
        rollout: spec.rollout,
        commands: spec.commands,
        force: spec.force,
        grant: terms.grant,
    };
    bundle.check()?;
    let mut document = Document::draft(&serde_json::to_vec(&bundle).expect("a bundle has a JSON form"));
    for key in keys {
        document.sign(TYP, key)?;
    }
    check_size(&document)?;
    Ok((bundle, document))
}

/// Adds one more operator's signature to a bundle that another one signed.
///
/// # Errors
/// As [`sign`]; and [`Error::Json`] where the file holds no bundle.
pub fn add_signature(document: &mut Document, key: &SigningKey) -> Result<Bundle, Error> {
    let bundle = read_unverified(document)?;
    bundle.check()?;
    document.sign(TYP, key)?;
    check_size(document)?;
    Ok(bundle)
}

/// Reads a bundle without verifying it: for showing what one is about to sign or push.
///
/// # Errors
/// [`Error::Json`].
pub fn read_unverified(document: &Document) -> Result<Bundle, Error> {
    let what = || "the bundle".to_owned();
    genesis_shared::json::parse_as(&document.payload()?).map_err(|source| Error::Json { what: what(), source })
}

fn check_size(document: &Document) -> Result<(), Error> {
    let bytes = document.to_text().len();
    if bytes > BUNDLE_BYTES_MAX {
        let why = format!("{bytes} bytes when signed, at most {BUNDLE_BYTES_MAX} are accepted; split it");
        return Err(Error::Argument { what: "the bundle".into(), why });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::{Kind, PrivateKey};
    use serde_json::json;

    fn key(kid: &str, seed: u8) -> SigningKey {
        PrivateKey::new(kid.parse().unwrap(), Kind::Signing, [seed; 32]).signing().unwrap()
    }
    fn spec(value: serde_json::Value) -> Spec {
        serde_json::from_value(value).unwrap()
    }
    fn now() -> Timestamp {
        "2026-11-24T22:00:00Z".parse().unwrap()
    }
    fn id() -> BundleId {
        BundleId::from_random([5; 16])
    }

    #[test]
    fn fills_in_issuer_times_and_defaults() {
        let spec = spec(json!({"targets": {"all": true}, "commands": [{"action": "HEALTH_CHECK"}]}));
        let (bundle, document) = sign(spec, &[key("ops-1", 1), key("ops-2", 2)], id(), now()).unwrap();
        assert_eq!(bundle.issuer.as_str(), "ops-1");
        assert_eq!(bundle.not_after.millis_since(bundle.not_before), 24 * HOUR_MS);
        assert_eq!((bundle.queue.as_str(), bundle.priority), ("template", 3));
        assert_eq!(document.claimed_signers().len(), 2);
    }

    #[test]
    fn refuses_to_sign_what_no_droplet_would_run() {
        let bad = [
            json!({"targets": {"all": true}, "commands": []}),
            json!({"targets": {"all": false}, "commands": [{"action": "HEALTH_CHECK"}]}),
            json!({"targets": {"all": true}, "commands": [{"action": "FORMAT_DISK"}]}),
            json!({"targets": {"all": true}, "commands": [{"action": "HEALTH_CHECK", "payload": {"x": 1}}]}),
            json!({"targets": {"all": true}, "commands": [{"action": "DECOMMISSION"}]}),
            json!({"targets": {"all": true}, "commands": [{"action": "HEALTH_CHECK"}], "queue": "fast"}),
        ];
        for value in bad {
            let result = sign(spec(value.clone()), &[key("ops-1", 1)], id(), now());
            assert!(matches!(result, Err(Error::Bundle(_))), "{value}");
        }
    }

    #[test]
    fn refuses_times_that_are_too_long_and_the_same_key_twice() {
        let hours = |h: u32| {
            spec(json!({"targets": {"all": true}, "commands": [{"action": "HEALTH_CHECK"}], "validity_hours": h}))
        };
        for h in [0, 721] {
            assert!(matches!(sign(hours(h), &[key("a", 1)], id(), now()), Err(Error::Argument { .. })), "{h}");
        }
        assert!(sign(hours(720), &[key("a", 1)], id(), now()).is_ok());
        assert!(matches!(sign(hours(1), &[key("a", 1), key("a", 1)], id(), now()), Err(Error::SignedAlready(_))));
        assert!(matches!(sign(hours(1), &[], id(), now()), Err(Error::Argument { .. })));
    }
}
