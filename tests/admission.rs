//! Each admission rule refuses what it is there for, and nothing else does; the bytes go through the real decision.
#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test that cannot go on, or meets anything else, fails"
)]

use std::collections::BTreeMap;

use genesis_agent::core::admit::{Admitted, Delivery, Handed, Rule, Seen, Situation, Verdict, admit, job_by_hand};
use genesis_shared::bundle::{Bundle, Force, Targets};
use genesis_shared::command::{Class, CommandWire};
use genesis_shared::delivery::{AUDIENCE, Claims, ISSUER};
use genesis_shared::id::{Digest, DropletId, JobId, WorkspaceId};
use genesis_shared::timestamp::Timestamp;
use genesis_shared::trust::{Allowance, TrustRoot};
use genesis_tests::operator::{Operator, everything, named, now, random, sign_with, signing_key};
use genesisctl::keys::{Kind, PrivateKey};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::json;

const MINUTE_MS: i64 = 60_000;
const NONCE: &str = "0123456789abcdef0123456789abcdef";

/// A droplet, its operators, and its hub's delivery key.
struct Scene {
    operator: Operator,
    root: TrustRoot,
    delivery_seed: [u8; 32],
    workspace: WorkspaceId,
    droplet: DropletId,
    labels: BTreeMap<String, String>,
    now: Timestamp,
    floor: Timestamp,
    seen: Option<Seen>,
    job: JobId,
}

impl Scene {
    fn new() -> Self {
        let delivery_seed: [u8; 32] = random();
        let delivery = PrivateKey::new("hub-1".parse().unwrap(), Kind::Signing, delivery_seed).signing().unwrap();
        let operator = Operator::new(named(&delivery));
        let root = TrustRoot::verify(operator.root_document.as_bytes(), Some(operator.pin)).unwrap().into_inner();
        Self {
            operator,
            root,
            delivery_seed,
            workspace: WorkspaceId::from_random(random()),
            droplet: "412".parse().unwrap(),
            labels: BTreeMap::from([("ring".into(), "canary".into())]),
            now: now(),
            floor: Timestamp::from_millis(0),
            seen: None,
            job: JobId::from_random(random()),
        }
    }

    fn bundle(&self) -> Bundle {
        self.operator.bundle(self.workspace, commands("HEALTH_CHECK"))
    }

    fn claims(&self, bundle: &str) -> Claims {
        let read =
            |text: &str| -> Option<Bundle> { Some(Bundle::verify(text.as_bytes(), &self.root).ok()?.into_inner()) };
        Claims {
            iss: ISSUER.into(),
            sub: self.workspace,
            aud: AUDIENCE.into(),
            iat: self.now.seconds(),
            exp: self.now.seconds() + 300,
            jti: "j".into(),
            action: read(bundle).map_or_else(String::new, |b| b.action_label()),
            droplet_id: self.droplet.clone(),
            bundle: Digest::of(bundle.as_bytes()),
            nonce: NONCE.into(),
        }
    }

    fn token(&self, claims: &Claims, kid: &str, algorithm: Algorithm) -> String {
        let mut header = Header::new(algorithm);
        header.kid = Some(kid.into());
        let der =
            [b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20", &self.delivery_seed[..]].concat();
        let key = match algorithm {
            Algorithm::HS256 => EncodingKey::from_secret(self.root.delivery[0].public_key.as_bytes()),
            _ => EncodingKey::from_ed_der(&der),
        };
        jsonwebtoken::encode(&header, claims, &key).unwrap()
    }

    fn decide_with(&self, bundle: &str, token: &str) -> Verdict {
        self.decide_handed(bundle, &Handed::ByHub(Delivery { token, nonce: NONCE, job_id: self.job }))
    }

    fn decide_handed(&self, bundle: &str, handed: &Handed<'_>) -> Verdict {
        let situation = Situation {
            root: &self.root,
            workspace_id: self.workspace,
            droplet_id: &self.droplet,
            labels: &self.labels,
            now: self.now,
            time_floor: self.floor,
        };
        admit(bundle.as_bytes(), handed, &situation, |_| self.seen)
    }

    fn decide(&self, bundle: &str) -> Verdict {
        self.decide_with(bundle, &self.token(&self.claims(bundle), "hub-1", Algorithm::EdDSA))
    }

    fn accepts(&self, bundle: &str) -> Admitted {
        match self.decide(bundle) {
            Verdict::Accept(admitted) => *admitted,
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn refuses(&self, rule: Rule, bundle: &str) {
        refused(rule, &self.decide(bundle));
    }
}

fn commands(action: &str) -> Vec<CommandWire> {
    vec![CommandWire { action: action.into(), payload: None }]
}

#[track_caller]
fn refused(rule: Rule, verdict: &Verdict) {
    match verdict {
        Verdict::Reject(refusal) => assert_eq!(refusal.rule, rule, "{refusal}"),
        other => panic!("expected {rule:?}, got {other:?}"),
    }
}

#[test]
fn accepts_what_an_operator_signed_for_this_droplet() {
    let scene = Scene::new();
    let bundle = scene.bundle();
    let admitted = scene.accepts(&scene.operator.sign(&bundle));
    assert_eq!(admitted.bundle.get(), &bundle);
    assert_eq!(admitted.commands.len(), 1);
    assert!(admitted.signed_at >= bundle.issued_at);
}

#[test]
fn a1_refuses_what_is_too_large_or_not_strict_json_and_jose() {
    let scene = Scene::new();
    let good = scene.operator.sign(&scene.bundle());
    let huge = format!("{good}{}", " ".repeat(genesis_shared::limits::BUNDLE_BYTES_MAX));
    let twice = good.replacen('{', "{\"payload\":\"e30\",", 1);
    let member = good.replacen('{', "{\"header\":{},", 1);
    let nested = format!("{{\"payload\":{}{}}}", "[".repeat(70), "]".repeat(70));
    for text in ["", "{}", "[]", "null", &huge, &twice, &member, &nested, &good[..good.len() - 1]] {
        scene.refuses(Rule::A1Shape, text);
    }
}

#[test]
fn a1_refuses_any_protected_header_but_the_one() {
    let scene = Scene::new();
    let document = |header: &str| {
        let encode = |bytes: &[u8]| data_encoding::BASE64URL_NOPAD.encode(bytes);
        let payload = encode(&serde_json::to_vec(&scene.bundle()).unwrap());
        json!({"payload": payload, "signatures": [{"protected": encode(header.as_bytes()), "signature": encode(&[0; 64])}]})
            .to_string()
    };
    for header in [
        r#"{"alg":"none","kid":"ops-1","typ":"genesis-bundle+json"}"#,
        r#"{"alg":"HS256","kid":"ops-1","typ":"genesis-bundle+json"}"#,
        r#"{"alg":"EdDSA","kid":"ops-1","typ":"genesis-root+json"}"#,
        r#"{"alg":"EdDSA","kid":"ops-1"}"#,
        r#"{"alg":"EdDSA","kid":"ops-1","typ":"genesis-bundle+json","crit":["x"]}"#,
        r#"{"alg":"EdDSA","alg":"EdDSA","kid":"ops-1","typ":"genesis-bundle+json"}"#,
        r#"{"alg":"EdDSA","kid":"../ops","typ":"genesis-bundle+json"}"#,
    ] {
        scene.refuses(Rule::A1Shape, &document(header));
    }
}

#[test]
fn a2_refuses_a_key_that_the_root_does_not_know_or_has_revoked() {
    let mut scene = Scene::new();
    let nobody = signing_key("nobody");
    let bundle = scene.bundle();
    scene.refuses(Rule::A2UnknownKey, &sign_with(&bundle, &[&nobody]));
    scene.refuses(Rule::A2UnknownKey, &sign_with(&bundle, &[&scene.operator.key, &nobody]));
    scene.root.revoked.push(scene.operator.key.kid().clone());
    scene.refuses(Rule::A2UnknownKey, &scene.operator.sign(&bundle));
}

#[test]
fn a3_refuses_a_signature_that_does_not_fit_and_one_key_twice() {
    let mut scene = Scene::new();
    let good = scene.operator.sign(&scene.bundle());
    let impostor = signing_key("ops-1");
    scene.refuses(Rule::A3Signature, &sign_with(&scene.bundle(), &[&impostor]));
    let other = scene.operator.sign(&scene.bundle());
    let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    let mut mixed = value(&good);
    mixed["payload"] = value(&other)["payload"].clone();
    scene.refuses(Rule::A3Signature, &mixed.to_string());
    let mut twice = value(&good);
    let signature = twice["signatures"][0].clone();
    twice["signatures"].as_array_mut().unwrap().push(signature);
    scene.refuses(Rule::A3Signature, &twice.to_string());
    // One key under two names is still one key.
    let seed: [u8; 32] = random();
    let key = |kid: &str| PrivateKey::new(kid.parse().unwrap(), Kind::Signing, seed).signing().unwrap();
    let (one, alias) = (key("one"), key("alias"));
    scene.root.operators = vec![everything(&one), everything(&alias)];
    let mut bundle = scene.bundle();
    bundle.issuer = one.kid().clone();
    scene.accepts(&sign_with(&bundle, &[&one]));
    scene.refuses(Rule::A3Signature, &sign_with(&bundle, &[&one, &alias]));
}

#[test]
fn a4_refuses_unknown_actions_and_unacceptable_payloads() {
    let scene = Scene::new();
    let with = |commands| scene.operator.sign(&scene.operator.bundle(scene.workspace, commands));
    scene.refuses(Rule::A4Content, &with(commands("FORMAT_DISK")));
    scene.refuses(Rule::A4Content, &with(vec![]));
    scene.refuses(Rule::A4Content, &with(vec![commands("HEALTH_CHECK")[0].clone(); 65]));
    let payload = Some(json!({"key": "../../etc/passwd"}));
    scene.refuses(Rule::A4Content, &with(vec![CommandWire { action: "ACTIVATE_WORKFLOW".into(), payload }]));
    let mut bundle = scene.bundle();
    bundle.queue = "no-such-queue".into();
    scene.refuses(Rule::A4Content, &scene.operator.sign(&bundle));
    let mut destroy = scene.operator.bundle(scene.workspace, commands("DECOMMISSION"));
    destroy.force = None;
    scene.refuses(Rule::A4Content, &sign_with(&destroy, &[&scene.operator.key, &scene.operator.second]));
}

#[test]
fn a4_refuses_sealed_secrets_for_more_than_one_tenant() {
    let scene = Scene::new();
    let sealed = json!({"recipient": named(&scene.operator.key).public_key, "enc": "", "ciphertext": ""});
    let payload = Some(json!({"name": "mail", "credential_type": "smtp", "sealed_data": sealed}));
    let command = CommandWire { action: "INJECT_CREDENTIAL".into(), payload };
    let mut bundle = scene.operator.bundle(scene.workspace, vec![command]);
    scene.accepts(&scene.operator.sign(&bundle));
    bundle.targets = Targets::All(true);
    scene.refuses(Rule::A4Content, &scene.operator.sign(&bundle));
}

#[test]
fn a5_refuses_too_few_distinct_signers_for_a_class() {
    let scene = Scene::new();
    let mut bundle = scene.operator.bundle(scene.workspace, commands("DECOMMISSION"));
    bundle.force = Some(Force { reason: "test".into(), expect: BTreeMap::new() });
    scene.refuses(Rule::A5Signers, &scene.operator.sign(&bundle));
    // With the second signer it passes this rule and meets the next one that applies.
    scene.refuses(Rule::A12Unsupported, &sign_with(&bundle, &[&scene.operator.key, &scene.operator.second]));
}

#[test]
fn a6_refuses_what_the_key_may_not_ask() {
    let refuses = |change: &dyn Fn(&mut Scene)| {
        let mut scene = Scene::new();
        let bundle = scene.operator.sign(&scene.bundle());
        scene.accepts(&bundle);
        change(&mut scene);
        scene.refuses(Rule::A6Scope, &bundle);
    };
    refuses(&|scene| scene.root.operators[0].allow = vec![Allowance::Class(Class::Change)]);
    refuses(&|scene| scene.root.operators[0].workspaces = Some(vec![]));
    refuses(&|scene| scene.root.operators[0].queues = Some(vec!["security".into()]));
    refuses(&|scene| scene.root.operators[0].not_before = scene.now.plus_millis(MINUTE_MS));
    refuses(&|scene| scene.root.operators[0].not_after = scene.now.plus_millis(-MINUTE_MS));
}

#[test]
fn a6_refuses_a_bundle_whose_issuer_did_not_sign_and_one_backdated_by_an_expired_key() {
    let mut scene = Scene::new();
    let mut bundle = scene.bundle();
    bundle.issuer = scene.operator.second.kid().clone();
    scene.refuses(Rule::A6Scope, &scene.operator.sign(&bundle));

    scene.root.operators[0].not_after = scene.now.plus_millis(-10 * MINUTE_MS);
    let mut backdated = scene.bundle();
    backdated.issued_at = scene.now.plus_millis(-20 * MINUTE_MS);
    scene.refuses(Rule::A6Scope, &scene.operator.sign(&backdated));
}

#[test]
fn a7_refuses_other_targets_and_believes_only_its_own_labels() {
    let mut scene = Scene::new();
    let with = |scene: &Scene, targets: Targets| {
        let mut bundle = scene.bundle();
        bundle.targets = targets;
        scene.operator.sign(&bundle)
    };
    scene.refuses(Rule::A7Target, &with(&scene, Targets::Workspaces(vec![WorkspaceId::from_random(random())])));
    let labels = Targets::Labels(BTreeMap::from([("ring".into(), "canary".into())]));
    let canary = with(&scene, labels);
    scene.accepts(&canary);
    scene.accepts(&with(&scene, Targets::All(true)));
    scene.labels.clear();
    scene.refuses(Rule::A7Target, &canary);
}

#[test]
fn a8_refuses_outside_its_time_and_the_clock_set_back_opens_no_window() {
    let mut scene = Scene::new();
    let bundle = scene.bundle();
    let text = scene.operator.sign(&bundle);
    let claims = scene.claims(&text);
    let at = |scene: &Scene| scene.decide_with(&text, &scene.token(&claims, "hub-1", Algorithm::EdDSA));
    scene.now = bundle.not_after.plus_millis(1);
    refused(Rule::A8Time, &at(&scene));
    scene.floor = scene.now;
    scene.now = Timestamp::from_millis(0);
    refused(Rule::A8Time, &at(&scene));
    scene.floor = Timestamp::from_millis(0);
    refused(Rule::A8Time, &at(&scene));

    let scene = Scene::new();
    let mut long = scene.bundle();
    long.not_after = long.not_before.plus_millis(31 * 24 * 60 * MINUTE_MS);
    scene.refuses(Rule::A8Time, &scene.operator.sign(&long));
    let mut ahead = scene.bundle();
    ahead.issued_at = scene.now.plus_millis(30 * MINUTE_MS);
    scene.refuses(Rule::A8Time, &scene.operator.sign(&ahead));
}

#[test]
fn a9_an_expired_root_refuses_changes_and_nothing_else() {
    let mut scene = Scene::new();
    scene.root.expires_at = scene.now.plus_millis(-MINUTE_MS);
    scene.accepts(&scene.operator.sign(&scene.bundle()));
    let payload = Some(json!({"key": "a"}));
    let change = vec![CommandWire { action: "ACTIVATE_WORKFLOW".into(), payload }];
    scene.refuses(Rule::A9TrustRootExpired, &scene.operator.sign(&scene.operator.bundle(scene.workspace, change)));
}

#[test]
fn a10_refuses_a_bundle_whose_id_was_already_seen() {
    let mut scene = Scene::new();
    let text = scene.operator.sign(&scene.bundle());
    let digest = Digest::of(text.as_bytes());
    let seen = |digest, job_id| Some(Seen { digest, job_id, has_ended: true });
    scene.seen = seen(digest, scene.job);
    assert!(matches!(scene.decide(&text), Verdict::Duplicate(_)), "the same delivery again is only confirmed");
    scene.seen = seen(digest, JobId::from_random(random()));
    scene.refuses(Rule::A10Replay, &text);
    scene.seen = seen(Digest::of(b"other bytes under the same id"), scene.job);
    scene.refuses(Rule::A10Replay, &text);
}

#[test]
fn a10_confirms_to_the_hub_what_was_applied_by_hand_and_by_hand_only_what_is_still_under_way() {
    let mut scene = Scene::new();
    let text = scene.operator.sign(&scene.bundle());
    let digest = Digest::of(text.as_bytes());
    for (has_ended, by_hand) in [(false, "confirmed"), (true, "refused")] {
        scene.seen = Some(Seen { digest, job_id: job_by_hand(&digest), has_ended });
        assert!(matches!(scene.decide(&text), Verdict::Duplicate(_)), "the hub's job is answered");
        match by_hand {
            "confirmed" => assert!(matches!(scene.decide_handed(&text, &Handed::ByHand), Verdict::Duplicate(_))),
            _ => refused(Rule::A10Replay, &scene.decide_handed(&text, &Handed::ByHand)),
        }
    }
    let other = Digest::of(b"other bytes under the same id");
    scene.seen = Some(Seen { digest: other, job_id: job_by_hand(&other), has_ended: false });
    refused(Rule::A10Replay, &scene.decide_handed(&text, &Handed::ByHand));
    scene.refuses(Rule::A10Replay, &text);
}

#[test]
fn a11_asks_for_no_delivery_token_by_hand_and_every_other_rule_holds() {
    let scene = Scene::new();
    let bundle = scene.bundle();
    let text = scene.operator.sign(&bundle);
    match scene.decide_handed(&text, &Handed::ByHand) {
        Verdict::Accept(admitted) => assert_eq!(admitted.signed_at, bundle.issued_at, "no hub moves the time floor"),
        other => panic!("{other:?}"),
    }
    refused(Rule::A11Delivery, &scene.decide_with(&text, ""));

    let signed = |change: &dyn Fn(&mut genesis_shared::bundle::Bundle)| {
        let mut bundle = scene.bundle();
        change(&mut bundle);
        scene.operator.sign(&bundle)
    };
    let destroy = signed(&|b| {
        b.commands = commands("DECOMMISSION");
        b.force = Some(Force { reason: "test".into(), expect: BTreeMap::new() });
    });
    let mut unsupported = scene.operator.bundle(scene.workspace, commands("DECOMMISSION"));
    unsupported.force = Some(Force { reason: "test".into(), expect: BTreeMap::new() });
    let unsupported = sign_with(&unsupported, &[&scene.operator.key, &scene.operator.second]);
    for (rule, text) in [
        (Rule::A1Shape, "{}".to_owned()),
        (Rule::A2UnknownKey, sign_with(&scene.bundle(), &[&signing_key("nobody")])),
        (Rule::A3Signature, sign_with(&scene.bundle(), &[&signing_key("ops-1")])),
        (Rule::A4Content, signed(&|b| b.commands = commands("FORMAT_DISK"))),
        (Rule::A5Signers, destroy),
        (Rule::A6Scope, signed(&|b| b.issuer = scene.operator.second.kid().clone())),
        (Rule::A7Target, signed(&|b| b.targets = Targets::Workspaces(vec![WorkspaceId::from_random(random())]))),
        (Rule::A8Time, signed(&|b| b.not_after = scene.now.plus_millis(-1))),
        (Rule::A12Unsupported, unsupported),
    ] {
        refused(rule, &scene.decide_handed(&text, &Handed::ByHand));
    }
    let mut scene = scene;
    scene.root.expires_at = scene.now.plus_millis(-MINUTE_MS);
    let change = CommandWire { action: "ACTIVATE_WORKFLOW".into(), payload: Some(json!({"key": "a"})) };
    let change = scene.operator.sign(&scene.operator.bundle(scene.workspace, vec![change]));
    refused(Rule::A9TrustRootExpired, &scene.decide_handed(&change, &Handed::ByHand));
}

#[test]
fn a11_refuses_a_delivery_token_with_any_claim_that_does_not_fit() {
    let scene = Scene::new();
    let text = scene.operator.sign(&scene.bundle());
    let good = scene.claims(&text);
    type Change = (&'static str, fn(&mut Claims));
    let changes: [Change; 10] = [
        ("iss", |c| c.iss = "other".into()),
        ("aud", |c| c.aud = "dashboard".into()),
        ("sub", |c| c.sub = WorkspaceId::from_random([1; 16])),
        ("droplet", |c| c.droplet_id = "413".parse().unwrap()),
        ("bundle", |c| c.bundle = Digest::of(b"x")),
        ("action", |c| c.action = "DECOMMISSION".into()),
        ("nonce", |c| c.nonce = "stale".into()),
        ("expired", |c| (c.iat, c.exp) = (c.iat - 700, c.exp - 700)),
        ("from the future", |c| (c.iat, c.exp) = (c.iat + 400, c.exp + 400)),
        ("too long", |c| c.exp += 1),
    ];
    for (what, change) in changes {
        let mut claims = good.clone();
        change(&mut claims);
        let verdict = scene.decide_with(&text, &scene.token(&claims, "hub-1", Algorithm::EdDSA));
        assert!(matches!(&verdict, Verdict::Reject(r) if r.rule == Rule::A11Delivery), "{what}: {verdict:?}");
    }
}

#[test]
fn a11_refuses_a_token_by_another_key_or_algorithm() {
    let scene = Scene::new();
    let text = scene.operator.sign(&scene.bundle());
    let good = scene.token(&scene.claims(&text), "hub-1", Algorithm::EdDSA);
    let unsigned = format!("{}.", good.rsplit_once('.').unwrap().0);
    let confused = scene.token(&scene.claims(&text), "hub-1", Algorithm::HS256);
    let unknown = scene.token(&scene.claims(&text), "hub-2", Algorithm::EdDSA);
    // An operator's key is no delivery key.
    let operators = scene.token(&scene.claims(&text), "ops-1", Algorithm::EdDSA);
    for token in ["", "x", &unsigned, &confused, &unknown, &operators] {
        refused(Rule::A11Delivery, &scene.decide_with(&text, token));
    }
}

#[test]
fn a12_refuses_an_action_that_this_version_cannot_run() {
    let scene = Scene::new();
    let mut bundle = scene.operator.bundle(scene.workspace, commands("DECOMMISSION"));
    bundle.force = Some(Force { reason: "test".into(), expect: BTreeMap::new() });
    scene.refuses(Rule::A12Unsupported, &sign_with(&bundle, &[&scene.operator.key, &scene.operator.second]));
}

#[test]
fn a_flip_of_any_byte_is_refused() {
    let scene = Scene::new();
    let text = scene.operator.sign(&scene.bundle());
    let token = scene.token(&scene.claims(&text), "hub-1", Algorithm::EdDSA);
    for at in 0..text.len() {
        let mut bytes = text.clone().into_bytes();
        bytes[at] ^= 1;
        let Ok(flipped) = String::from_utf8(bytes) else { continue };
        assert!(matches!(scene.decide_with(&flipped, &token), Verdict::Reject(_)), "byte {at}");
    }
}
