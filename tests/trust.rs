//! The trust root over time: a later root is believed because the one before it is, and a revocation reaches a droplet
//! before its next command does. Rules T1 to T6 of `shared/src/trust.rs` by name.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use genesis_shared::bundle::Bundle;
use genesis_shared::command::CommandWire;
use genesis_shared::jws::JwsError;
use genesis_shared::report::OutcomeState;
use genesis_shared::trust::{self, NamedKey, RootKeys, TrustError, TrustRoot};
use genesis_tests::droplet::Droplet;
use genesis_tests::operator::{Operator, everything, named, sign_with, signing_key};
use genesisctl::keys::SigningKey;
use genesisctl::sign::Document;
use genesisctl::succession::{Change, successor};

/// A first root of three keys, two of which must sign, and its keys.
struct Ceremony {
    keys: Vec<SigningKey>,
    root: TrustRoot,
}

impl Ceremony {
    fn new() -> Self {
        let keys: Vec<_> = ["root-1", "root-2", "root-3"].map(signing_key).into();
        let operator = Operator::new(named(&signing_key("hub-1")));
        let mut root = TrustRoot::reread(operator.root_document.as_bytes()).unwrap();
        root.root = RootKeys { keys: keys.iter().map(named).collect(), threshold: 2 };
        root.version = 5;
        Self { keys, root }
    }

    /// The root that follows with one more operator; tests change it.
    fn next(&self) -> TrustRoot {
        let operators = vec![everything(&signing_key("ops-3"))];
        let now = self.root.issued_at.plus_millis(1000);
        successor(&self.root, Change { operators, ..Change::default() }, now).unwrap()
    }

    fn refusal(&self, root: &TrustRoot, keys: &[&SigningKey]) -> TrustError {
        self.root.verify_successor(signed(root, keys).as_bytes()).unwrap_err()
    }
}

fn signed(root: &TrustRoot, keys: &[&SigningKey]) -> String {
    let mut document = Document::draft(&serde_json::to_vec(root).unwrap());
    for key in keys {
        document.sign(trust::TYP, key).unwrap();
    }
    document.to_text()
}

#[test]
fn a_root_signed_by_both_thresholds_follows() {
    let ceremony = Ceremony::new();
    let [first, second, third] = [0, 1, 2].map(|n| &ceremony.keys[n]);
    let next = ceremony.next();
    let text = signed(&next, &[first, third]);
    assert_eq!(*ceremony.root.verify_successor(text.as_bytes()).unwrap().get(), next);

    // A lost key is replaced: the two that are left sign for the old root, two of the new set for the new one.
    let fourth = signing_key("root-4");
    let keys = [second, third, &fourth].map(named).into();
    let change = Change {
        root: Some(RootKeys { keys, threshold: 2 }),
        revoke: vec!["root-1".parse().unwrap()],
        ..Change::default()
    };
    let rotated = successor(&next, change, next.issued_at).unwrap();
    let text = signed(&rotated, &[second, third]);
    assert_eq!(next.verify_successor(text.as_bytes()).unwrap().get().version, 7);
    // Its own threshold alone shows in a file that nobody can follow further back.
    let with_the_old_key = signed(&rotated, &[first, second, third]);
    assert_eq!(TrustRoot::verify_alone(with_the_old_key.as_bytes()).unwrap().signers().len(), 2);
}

#[test]
fn t1_refuses_every_version_but_the_next() {
    let ceremony = Ceremony::new();
    for version in [1, 4, 5, 7, u64::MAX] {
        let mut next = ceremony.next();
        next.version = version;
        let refusal = ceremony.refusal(&next, &[&ceremony.keys[0], &ceremony.keys[1]]);
        assert_eq!(refusal, TrustError::NotNext { current: 5, actual: version });
    }
}

#[test]
fn t2_refuses_a_root_that_the_former_threshold_did_not_sign() {
    let ceremony = Ceremony::new();
    let (thief, helper) = (signing_key("root-8"), signing_key("root-9"));
    let mut next = ceremony.next();
    next.root.keys = vec![named(&thief), named(&helper), named(&ceremony.keys[0])];
    let refusal = ceremony.refusal(&next, &[&thief, &helper, &ceremony.keys[0]]);
    assert!(matches!(refusal, TrustError::BelowFormerThreshold { signed: 1, threshold: 2, .. }), "{refusal}");
}

#[test]
fn t3_refuses_a_root_that_its_own_threshold_did_not_sign() {
    let ceremony = Ceremony::new();
    let fourth = signing_key("root-4");
    let mut next = ceremony.next();
    next.root = RootKeys { keys: vec![named(&ceremony.keys[0]), named(&fourth)], threshold: 2 };
    let refusal = ceremony.refusal(&next, &[&ceremony.keys[0], &ceremony.keys[1]]);
    assert!(matches!(refusal, TrustError::BelowThreshold { signed: 1, threshold: 2 }), "{refusal}");
}

#[test]
fn t4_refuses_strangers_wrong_signatures_and_one_key_twice() {
    let ceremony = Ceremony::new();
    let [first, second] = [0, 1].map(|n| &ceremony.keys[n]);
    let next = ceremony.next();
    let stranger = ceremony.refusal(&next, &[first, second, &signing_key("nobody")]);
    assert!(matches!(stranger, TrustError::Jws(JwsError::UnknownKey(_))), "{stranger}");
    let impostor = ceremony.refusal(&next, &[first, &signing_key("root-2")]);
    assert!(matches!(impostor, TrustError::Jws(JwsError::BadSignature(_))), "{impostor}");
    let once: serde_json::Value = serde_json::from_str(&signed(&next, &[first])).unwrap();
    let mut twice = once.clone();
    twice["signatures"].as_array_mut().unwrap().push(once["signatures"][0].clone());
    let refusal = ceremony.root.verify_successor(twice.to_string().as_bytes()).unwrap_err();
    assert!(matches!(refusal, TrustError::Jws(JwsError::SameKeyTwice(_))), "{refusal}");
}

#[test]
fn t5_refuses_a_root_that_takes_a_revocation_back_or_is_older() {
    let mut ceremony = Ceremony::new();
    ceremony.root.revoked = vec!["ops-9".parse().unwrap()];
    let keys = [0, 1].map(|n| &ceremony.keys[n]);
    let mut forgiving = ceremony.next();
    forgiving.revoked.clear();
    let refusal = ceremony.refusal(&forgiving, &keys);
    assert!(refusal.to_string().contains("ops-9 was revoked"), "{refusal}");
    let mut old = ceremony.next();
    old.issued_at = ceremony.root.issued_at.plus_millis(-1);
    assert_eq!(ceremony.refusal(&old, &keys).code(), "trust_root_contradicts");
}

#[test]
fn t6_refuses_a_known_name_with_another_key_and_a_known_key_with_another_name() {
    let ceremony = Ceremony::new();
    let keys = [0, 1].map(|n| &ceremony.keys[n]);
    let mut swapped = ceremony.next();
    swapped.operators[0].public_key = signing_key("other").public();
    assert_eq!(ceremony.refusal(&swapped, &keys).code(), "trust_root_contradicts");
    let mut renamed = ceremony.next();
    renamed.operators[0].kid = "ops-7".parse().unwrap();
    assert_eq!(ceremony.refusal(&renamed, &keys).code(), "trust_root_contradicts");
}

#[test]
fn an_expired_root_can_still_be_followed() {
    let mut ceremony = Ceremony::new();
    ceremony.root.expires_at = ceremony.root.issued_at;
    let text = signed(&ceremony.next(), &[&ceremony.keys[0], &ceremony.keys[1]]);
    assert!(ceremony.root.verify_successor(text.as_bytes()).is_ok());
}

#[test]
fn a_chain_begins_at_the_pinned_root_wherever_it_stands() {
    let ceremony = Ceremony::new();
    let keys = [&ceremony.keys[0], &ceremony.keys[1]];
    let (first, second) = (signed(&ceremony.root, &keys), signed(&ceremony.next(), &keys));
    let stray = signed(&ceremony.next(), &[&ceremony.keys[1], &ceremony.keys[2]]);
    let pin = TrustRoot::verify(first.as_bytes(), None).unwrap().digest();
    let chain = |documents: &[&str]| {
        let documents: Vec<&[u8]> = documents.iter().map(|text| text.as_bytes()).collect();
        TrustRoot::verify_chain(&documents, pin).map(|chain| chain.last().unwrap().1.version)
    };
    assert_eq!(chain(&[&first]), Ok(5));
    assert_eq!(chain(&[&stray, &first, &second]), Ok(6));
    assert!(matches!(chain(&[&second]), Err(TrustError::NotPinned { .. })));
    assert!(matches!(chain(&[]), Err(TrustError::NotPinned { .. })));
    assert!(chain(&[&first, &first]).is_err(), "a broken chain is refused as a whole");
}

/// A droplet whose root keys the test holds, and what follows its root.
fn look() -> Vec<CommandWire> {
    vec![CommandWire { action: "HEALTH_CHECK".into(), payload: None }]
}

/// The root that follows the droplet's own, without the first operator's key.
fn without_first_operator(droplet: &Droplet) -> TrustRoot {
    let current = TrustRoot::reread(droplet.operator.root_document.as_bytes()).unwrap();
    let change = Change { revoke: vec![droplet.operator.key.kid().clone()], ..Change::default() };
    successor(&current, change, current.issued_at).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_revocation_reaches_a_droplet_before_its_next_command() {
    let droplet = Droplet::new(3);
    assert_eq!(droplet.run(look()).await.state, OutcomeState::Succeeded);
    let text = signed(&without_first_operator(&droplet), &[&droplet.operator.root]);
    // Signed before the revocation became known, queued before it, too.
    let job = droplet.push(look());
    droplet.outside.hub.put_root(2, &text);
    let result = droplet.while_running(droplet.result(job)).await;
    assert_eq!((result.state, result.code.as_str()), (OutcomeState::Rejected, "a2_unknown_key"));
    // The other operator goes on, and so does a new life of the agent.
    let bundle = droplet.operator.bundle_at(droplet.workspace, look(), {
        use genesis_agent::ports::Clock;
        droplet.outside.clock.now()
    });
    let bundle = Bundle { issuer: droplet.operator.second.kid().clone(), ..bundle };
    let job = droplet.outside.hub.push(&sign_with(&bundle, &[&droplet.operator.second]));
    assert_eq!(droplet.while_running(droplet.result(job)).await.state, OutcomeState::Succeeded);
}

#[tokio::test(start_paused = true)]
async fn the_one_root_that_an_older_agent_kept_is_where_the_chain_begins() {
    let droplet = Droplet::new(3);
    assert_eq!(droplet.run(look()).await.state, OutcomeState::Succeeded);
    droplet.execute("UPDATE meta SET key = 'trust_root', value = (SELECT CAST(value ->> 0 AS BLOB) FROM meta WHERE key = 'trust_chain') WHERE key = 'trust_chain'");
    droplet.outside.hub.put_root(2, &signed(&without_first_operator(&droplet), &[&droplet.operator.root]));
    let result = droplet.run(look()).await;
    assert_eq!(result.code, "a2_unknown_key", "the successor was taken in: {}", result.message);
}

#[tokio::test(start_paused = true)]
async fn a_forged_root_is_refused_and_nothing_is_admitted_while_the_hub_insists_on_it() {
    let droplet = Droplet::new(3);
    assert_eq!(droplet.run(look()).await.state, OutcomeState::Succeeded);
    let thief = signing_key("root-9");
    let mut forged = without_first_operator(&droplet);
    forged.root.keys = vec![named(&thief)];
    forged.operators.push(everything(&signing_key("thief")));
    droplet.outside.hub.put_root(2, &signed(&forged, &[&thief]));
    let job = droplet.push(look());
    droplet.while_running(tokio::time::sleep(std::time::Duration::from_secs(600))).await;
    assert!(droplet.outside.hub.results(job).is_empty(), "no command passes under doubt about the root");
    assert!(droplet.outside.hub.beats() > 5, "heartbeats go on");
}

#[tokio::test(start_paused = true)]
async fn a_new_delivery_key_works_beside_the_old_one_and_the_old_one_not_after_its_revocation() {
    let droplet = Droplet::new(3);
    assert_eq!(droplet.run(look()).await.state, OutcomeState::Succeeded);
    let current = TrustRoot::reread(droplet.operator.root_document.as_bytes()).unwrap();
    let delivery = NamedKey { kid: "hub-2".parse().unwrap(), public_key: signing_key("hub-2").public() };
    let change = Change { delivery: Some(delivery), ..Change::default() };
    let second = successor(&current, change, current.issued_at).unwrap();
    droplet.outside.hub.put_root(2, &signed(&second, &[&droplet.operator.root]));
    assert_eq!(droplet.run(look()).await.state, OutcomeState::Succeeded, "the old key is still good");
    let change = Change { revoke: vec!["hub-1".parse().unwrap()], ..Change::default() };
    let third = successor(&second, change, second.issued_at).unwrap();
    droplet.outside.hub.put_root(3, &signed(&third, &[&droplet.operator.root]));
    let result = droplet.run(look()).await;
    assert_eq!((result.state, result.code.as_str()), (OutcomeState::Rejected, "a11_delivery"), "{}", result.message);
}

mod stand_in {
    use super::{Change, look, signed, successor};
    use genesis_shared::trust::TrustRoot;
    use genesis_tests::n8n::Kind;
    use genesis_tests::rig::Rig;

    #[tokio::test]
    async fn a_bundle_that_waits_at_the_hub_is_refused_once_its_signer_was_revoked() {
        let mut rig = Rig::new(Kind::StandIn).await;
        rig.agent.kill();
        let bundle = rig.operator.bundle(rig.workspace, look());
        let job = rig.push(&rig.operator.sign(&bundle)).await;
        let current = TrustRoot::reread(rig.operator.root_document.as_bytes()).unwrap();
        let change = Change { revoke: vec![rig.operator.key.kid().clone()], ..Change::default() };
        let next = successor(&current, change, genesis_tests::operator::now()).unwrap();
        rig.client.put_trust_root(signed(&next, &[&rig.operator.root]).as_bytes()).await.unwrap();
        rig.start_agent();
        let result = rig.finished(job).await.result.unwrap();
        assert_eq!(result.code, "a2_unknown_key", "{}\n{}", result.message, rig.agent.log());
        // It starts with the newer root the next time.
        rig.crash_agent();
        rig.enrolled().await;
        assert!(rig.agent.is_running(), "{}", rig.agent.log());
    }
}
