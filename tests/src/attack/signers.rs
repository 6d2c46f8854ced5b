//! Attacks with single keys of operators: thresholds and scopes (A5, A6).

use genesis_shared::bundle::Bundle;
use genesis_shared::command::CommandWire;
use serde_json::json;

use super::stage::{HOUR_MS, MINUTE_MS, command, force, stop};
use super::{Case, bundle, story};

const SIGNERS: &str = "a5_signers";
const SCOPE: &str = "a6_scope";

fn delete(bundle: &mut Bundle) {
    bundle.commands = vec![command("DELETE_WORKFLOW", json!({"key": "hook"}))];
    bundle.force = force(1);
}

pub fn cases() -> Vec<Case> {
    vec![
        bundle("below threshold: destruction by one", SIGNERS, |s| s.signed(&["ops-1"], delete)),
        bundle("below threshold: destruction among harmless commands", SIGNERS, |s| {
            s.signed(&["ops-1"], |b| {
                delete(b);
                b.commands.splice(0..0, stop());
            })
        }),
        bundle("below threshold: the second signer's scope does not cover it", SCOPE, |s| {
            s.signed(&["ops-1", "reader"], delete)
        }),
        bundle("below threshold: the second signer's key has expired", SCOPE, |s| s.signed(&["ops-1", "late"], delete)),
        bundle("the issuer did not sign", SCOPE, |s| s.signed(&["ops-1"], |b| b.issuer = "ops-2".parse().unwrap())),
        bundle("the issuer is nobody", SCOPE, |s| s.signed(&["ops-1"], |b| b.issuer = "nobody".parse().unwrap())),
        bundle("an action outside the scope", SCOPE, |s| s.signed(&["reader"], |_| {})),
        bundle("an action outside the scope behind one within", SCOPE, |s| {
            s.signed(&["reader"], |b| {
                b.commands.insert(0, CommandWire { action: "HEALTH_CHECK".into(), payload: None });
            })
        }),
        bundle("a tenant outside the scope", SCOPE, |s| s.signed(&["elsewhere"], |_| {})),
        bundle("a queue outside the scope", SCOPE, |s| s.signed(&["guard"], |_| {})),
        bundle("a key that is not valid yet", SCOPE, |s| s.signed(&["early"], |_| {})),
        bundle("a key that is not valid yet, signing ahead", SCOPE, |s| {
            s.signed(&["early"], |b| b.issued_at = b.issued_at.plus_millis(4 * MINUTE_MS))
        }),
        bundle("an expired key", SCOPE, |s| s.signed(&["late"], |_| {})),
        bundle("an expired key, backdated", SCOPE, |s| {
            s.signed(&["late"], |b| {
                b.issued_at = b.issued_at.plus_millis(-45 * MINUTE_MS);
                b.not_before = b.issued_at;
            })
        }),
        story("held back until the signer's key had expired", SCOPE, |s| {
            Box::pin(async move {
                let kept = s.signed(&["soon"], |_| {});
                tokio::time::sleep(std::time::Duration::from_millis(2 * HOUR_MS.unsigned_abs())).await;
                s.refuses(SCOPE, &kept).await;
            })
        }),
    ]
}
