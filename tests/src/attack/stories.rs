//! Attacks in several moves: replays, rollbacks, clocks, stolen tokens, clones.

use std::time::Duration;

use genesis_agent::sim::forge::ForgedRoots;
use genesis_shared::trust::TrustRoot;

use super::stage::{HOUR_MS, MINUTE_MS, Stage, follow, key, sign_root};
use super::{Case, story};

const REPLAY: &str = "a10_replay";
const DELIVERY: &str = "a11_delivery";
const QUARANTINED: &str = "quarantined";

/// Puts a rightful second root in force.
async fn adopt(stage: &Stage, change: impl FnOnce(&mut TrustRoot)) -> TrustRoot {
    let second = stage.next(change);
    stage.hub().put_root(2, &sign_root(&second, &["root-1", "root-2"].map(key)));
    stage.lawful(&stage.signed(&["ops-2"], |b| b.commands = activate())).await;
    second
}

fn activate() -> Vec<genesis_shared::command::CommandWire> {
    vec![super::stage::command("ACTIVATE_WORKFLOW", serde_json::json!({"key": "hook"}))]
}

pub fn cases() -> Vec<Case> {
    let mut cases = replays();
    cases.extend(rollbacks());
    cases.extend(clocks());
    cases.extend(identities());
    cases
}

fn replays() -> Vec<Case> {
    vec![
        story("same-device replay under a new job", REPLAY, |s| {
            Box::pin(async move {
                let text = s.signed(&["ops-1"], |b| b.commands = activate());
                s.lawful(&text).await;
                s.refuses(REPLAY, &text).await;
            })
        }),
        story("same-device replay after a restart", REPLAY, |s| {
            Box::pin(async move { s.refuses(REPLAY, &s.first_bundle).await })
        }),
        story("same-device replay hours later", REPLAY, |s| {
            Box::pin(async move {
                tokio::time::sleep(Duration::from_secs(20 * 3600)).await;
                s.refuses(REPLAY, &s.first_bundle).await;
            })
        }),
        story("another bundle under a used id", REPLAY, |s| {
            Box::pin(async move {
                let id = genesis_shared::bundle::Bundle::reread(s.first_bundle.as_bytes()).unwrap().id;
                s.refuses(REPLAY, &s.signed(&["ops-1"], |b| b.id = id)).await;
            })
        }),
        story("the same bundle written otherwise", REPLAY, |s| {
            Box::pin(async move { s.refuses(REPLAY, &format!(" {}\n", s.first_bundle)).await })
        }),
        story("another bundle under a used id and a used job", REPLAY, |s| {
            Box::pin(async move {
                let bundle = s.signed(&["ops-1"], |b| b.commands = activate());
                s.lawful(&bundle).await;
                let id = genesis_shared::bundle::Bundle::reread(bundle.as_bytes()).unwrap().id;
                s.refuses(REPLAY, &s.signed(&["ops-1"], |b| b.id = id)).await;
            })
        }),
    ]
}

fn rollbacks() -> Vec<Case> {
    vec![
        story("root rollback: the first root again, after it had lost an operator", "T1", |s| {
            Box::pin(async move {
                adopt(s, |root| root.operators.retain(|key| key.kid.as_str() != "ops-1")).await;
                let documents = vec![s.droplet.operator.root_document.clone()];
                s.refuses_roots("T1", ForgedRoots { version: 3, documents }, &s.signed(&["ops-1"], |_| {})).await;
            })
        }),
        story("root rollback by a replayed handshake", "a2_unknown_key", |s| {
            Box::pin(async move {
                adopt(s, |root| root.revoked.push("ops-1".parse().unwrap())).await;
                let documents = vec![s.droplet.operator.root_document.clone()];
                s.hub().forge_roots(Some(ForgedRoots { version: 1, documents }));
                s.hub().forget();
                s.droplet.new_token();
                s.refuses("a2_unknown_key", &s.signed(&["ops-1"], |_| {})).await;
                s.hub().forge_roots(None);
            })
        }),
        story("a chain by a handshake that begins with the thief's root", "trust_root_not_pinned", |s| {
            Box::pin(async move {
                let forged = follow(&s.root(), |root| {
                    super::roots::with_thief(s, root);
                    root.version = 9;
                });
                let documents = vec![sign_root(&forged, &["root-1", "root-2"].map(key))];
                s.hub().forget();
                s.droplet.new_token();
                let roots = ForgedRoots { version: 1, documents };
                s.refuses_roots("trust_root_not_pinned", roots, &s.signed(&["thief"], |_| {})).await;
            })
        }),
        story("freeze: a revoking root is kept from the droplet", "nothing", |s| {
            Box::pin(async move {
                // The hub says nothing of the second root. Nothing is carried out that no operator asks; what a stolen
                // key may still do ends with the root in force (A9).
                let beats = s.hub().beats();
                tokio::time::sleep(Duration::from_secs(24 * 3600)).await;
                if s.hub().beats() < beats + 24 * 50 {
                    s.unexplained("heartbeats have stopped");
                }
            })
        }),
        story("a change after the trust root has expired", "a9_trust_root_expired", |s| {
            Box::pin(async move {
                adopt(s, |root| root.expires_at = s.now().plus_millis(HOUR_MS)).await;
                tokio::time::sleep(Duration::from_secs(2 * 3600)).await;
                s.refuses("a9_trust_root_expired", &s.signed(&["ops-1"], |_| {})).await;
            })
        }),
        story("a revoked operator's bundle that was queued before", "a2_unknown_key", |s| {
            Box::pin(async move {
                let queued = s.signed(&["ops-1"], |_| {});
                adopt(s, |root| root.revoked.push("ops-1".parse().unwrap())).await;
                s.refuses("a2_unknown_key", &queued).await;
            })
        }),
    ]
}

fn clocks() -> Vec<Case> {
    vec![
        story("an expired bundle after the clock was set back", "a8_time", |s| {
            Box::pin(async move {
                let old = s.now();
                let kept = s.signed(&["ops-1"], |b| b.not_after = old.plus_millis(30 * MINUTE_MS));
                tokio::time::sleep(Duration::from_secs(3 * 3600)).await;
                s.lawful(&s.signed(&["ops-1"], |b| b.commands = activate())).await;
                s.droplet.outside.clock.set_skew_ms(old.millis_since(s.now()));
                s.refuses("a8_time", &kept).await;
            })
        }),
        story("an expired bundle with the clock at 1970", "a8_time", |s| {
            Box::pin(async move {
                let kept = s.signed(&["ops-1"], |b| {
                    (b.not_before, b.not_after) = (b.issued_at.plus_millis(-3 * HOUR_MS), b.issued_at);
                });
                tokio::time::sleep(Duration::from_secs(3600)).await;
                s.lawful(&s.signed(&["ops-1"], |b| b.commands = activate())).await;
                s.droplet.outside.clock.set_skew_ms(-s.now().seconds() * 1000);
                s.refuses("a8_time", &kept).await;
            })
        }),
    ]
}

fn identities() -> Vec<Case> {
    vec![
        story("stolen sidecar token: what its thief polled is handed on", DELIVERY, |s| {
            Box::pin(async move {
                // The token in the thief's hands answers the nonce of the thief's poll.
                let thief = |hub: &genesis_agent::sim::SimHub, mut claims: genesis_shared::delivery::Claims| {
                    claims.nonce = "5".repeat(32);
                    hub.sign_claims(&claims)
                };
                s.refuses_token(DELIVERY, &s.signed(&["ops-1"], |_| {}), thief).await;
            })
        }),
        story("a token of an earlier poll, kept", DELIVERY, |s| {
            Box::pin(async move {
                use std::cell::RefCell;
                let kept: RefCell<Option<String>> = RefCell::default();
                let first_only = move |hub: &genesis_agent::sim::SimHub, claims: genesis_shared::delivery::Claims| {
                    kept.borrow_mut().get_or_insert_with(|| hub.sign_claims(&claims)).clone()
                };
                // The first look at the queue is made for the droplet's poll and not handed out; the second is.
                s.refuses_token(DELIVERY, &s.signed(&["ops-1"], |_| {}), move |hub, mut claims| {
                    claims.nonce.insert(0, '0');
                    first_only(hub, claims)
                })
                .await;
            })
        }),
        story("clone: what was handed to a copy of this disk", DELIVERY, |s| {
            Box::pin(async move {
                s.refuses_token(DELIVERY, &s.signed(&["ops-1"], |_| {}), |hub, mut claims| {
                    claims.nonce = data_encoding::HEXLOWER.encode(&[0xc1; 16]);
                    hub.sign_claims(&claims)
                })
                .await;
            })
        }),
        story("clone: a hub that says so and hands out a change all the same", QUARANTINED, |s| {
            Box::pin(async move {
                s.hub().betray_quarantine(true);
                s.hub().set_quarantined(true);
                s.refuses(QUARANTINED, &s.signed(&["ops-1"], |_| {})).await;
                s.hub().set_quarantined(false);
                s.hub().betray_quarantine(false);
            })
        }),
        story("clone: this disk in another droplet", QUARANTINED, |s| {
            Box::pin(async move {
                let host = &s.droplet.outside.host_says;
                host.replace(Some("413".parse().unwrap()));
                s.refuses(QUARANTINED, &s.signed(&["ops-1"], |_| {})).await;
                host.replace(None);
            })
        }),
        story("replayed handshake: an old answer with another sidecar token", "nothing", |s| {
            Box::pin(async move {
                let documents = vec![s.droplet.operator.root_document.clone()];
                s.hub().forge_roots(Some(ForgedRoots { version: 1, documents }));
                s.hub().forget();
                s.droplet.new_token();
                tokio::time::sleep(Duration::from_secs(1800)).await;
                s.hub().forge_roots(None);
            })
        }),
        story("mix-and-match: what was sealed for one credential, under another one's name", "nothing", |s| {
            Box::pin(async move {
                let to = crate::scenario::recipient(&s.droplet).await;
                let mut moved = crate::scenario::inject(to, "other");
                moved.payload.as_mut().unwrap()["name"] = serde_json::json!("another");
                s.fails("a secret under another name", &s.signed(&["ops-1"], |b| b.commands = vec![moved])).await;
            })
        }),
        story("sealed to a key of another droplet", "nothing", |s| {
            Box::pin(async move {
                // Rightly signed, so admitted; what is sealed does not open here, and nothing is done.
                let key = genesis_shared::seal::SealingKey::from_private(genesis_shared::secret::Secret::new([7; 32]));
                let to = genesisctl::sealing::Recipient { workspace: s.droplet.workspace, key: key.unwrap().public() };
                let text = s.signed(&["ops-1"], |b| b.commands = vec![crate::scenario::inject(to, "other")]);
                s.fails("a secret of another droplet", &text).await;
            })
        }),
    ]
}
