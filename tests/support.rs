//! Support access: a grant lets one key ask some things of one tenant for minutes, and nothing beyond (A13).
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::time::Duration;

use genesis_agent::ports::Clock;
use genesis_shared::command::{Action, Class, CommandWire};
use genesis_shared::grant::{Grant, GrantError, Level};
use genesis_shared::id::WorkspaceId;
use genesis_shared::report::{CommandResult, OutcomeState};
use genesis_shared::timestamp::Timestamp;
use genesis_shared::trust::{self, Allowance, NamedKey, TrustRoot};
use genesis_tests::droplet::Droplet;
use genesis_tests::operator::{named, random, signing_key};
use genesis_tests::scenario::{recipient, rotate, small_tenant};
use genesisctl::access::{self, Wish};
use genesisctl::keys::{Kind, PrivateKey, SigningKey};
use genesisctl::orders::{self, Spec};
use genesisctl::sign::Document;
use genesisctl::succession::{Change, successor};
use serde_json::json;

/// A droplet with a small tenant, and a support engineer's key.
struct Scene {
    droplet: Droplet,
    seed: [u8; 32],
    support: SigningKey,
}

/// The support engineer's key, as often as it is asked for.
fn support_key(seed: [u8; 32]) -> SigningKey {
    PrivateKey::new("sup-1".parse().unwrap(), Kind::Signing, seed).signing().unwrap()
}

impl Scene {
    async fn new() -> Self {
        let droplet = Droplet::new(9);
        let to = recipient(&droplet).await;
        assert_eq!(droplet.run(small_tenant(to)).await.state, OutcomeState::Succeeded);
        let seed = random();
        Self { droplet, seed, support: support_key(seed) }
    }

    fn now(&self) -> Timestamp {
        self.droplet.outside.clock.now()
    }

    fn root(&self) -> TrustRoot {
        TrustRoot::reread(self.droplet.operator.root_document.as_bytes()).unwrap()
    }

    fn wish(&self, level: Level) -> Wish {
        let (ticket, reason) = ("SUP-7".into(), "leads stuck".into());
        let support = named(&self.support);
        Wish { ticket, reason, workspace: self.droplet.workspace, level, support, minutes: None }
    }

    /// A grant by as many operators as its level needs.
    fn grant(&self, level: Level) -> Document {
        let operator = &self.droplet.operator;
        let (_, mut document) = access::grant(self.wish(level), &[], self.now()).unwrap();
        for key in [&operator.key, &operator.second].into_iter().take(level.signers()) {
            access::add_signature(&mut document, key).unwrap();
        }
        document
    }

    /// What the support key asks under a grant, run by the droplet.
    async fn ask(&self, grant: &Document, commands: Vec<CommandWire>) -> CommandResult {
        let targets = genesis_shared::bundle::Targets::Workspaces(vec![self.droplet.workspace]);
        let spec = Spec::of(targets, "security", 1, commands);
        let id = genesis_shared::id::BundleId::from_random(random());
        let signed = orders::sign_under_grant(spec, support_key(self.seed), grant, id, self.now());
        self.send(&signed.unwrap().1.to_text()).await
    }

    async fn send(&self, bundle: &str) -> CommandResult {
        let job = self.droplet.outside.hub.push(bundle);
        self.droplet.while_running(self.droplet.result(job)).await
    }
}

fn look() -> Vec<CommandWire> {
    vec![CommandWire { action: "HEALTH_CHECK".into(), payload: None }]
}
fn stop() -> Vec<CommandWire> {
    vec![CommandWire { action: "DEACTIVATE_WORKFLOW".into(), payload: Some(json!({"key": "hook"})) }]
}

#[track_caller]
fn refused(result: &CommandResult, why: &str) {
    assert_eq!((result.state, result.code.as_str()), (OutcomeState::Rejected, "a13_grant"), "{}", result.message);
    assert!(result.message.contains(why), "{}", result.message);
}

#[test]
fn no_level_destroys_and_each_covers_what_it_says() {
    let count = |level: Level| Action::ALL.iter().filter(|action| level.may(**action)).count();
    for level in Level::ALL {
        assert!(Action::ALL.iter().all(|action| action.class() != Class::Destroy || !level.may(*action)));
        assert!(level.may(Action::HealthCheck));
    }
    assert!(!Level::ReadOnly.may(Action::RestartN8n) && Level::Debug.may(Action::RestartN8n));
    assert!(!Level::Debug.may(Action::UpdateWorkflow) && Level::Write.may(Action::UpdateWorkflow));
    assert!(!Level::Write.may(Action::SwapContainer) && Level::Emergency.may(Action::SwapContainer));
    assert!(count(Level::ReadOnly) < count(Level::Debug) && count(Level::Write) < count(Level::Emergency));
}

#[tokio::test(start_paused = true)]
async fn a_grant_lets_the_support_key_do_what_its_level_says_and_no_more() {
    let scene = Scene::new().await;
    assert_eq!(scene.ask(&scene.grant(Level::ReadOnly), look()).await.state, OutcomeState::Succeeded);
    refused(&scene.ask(&scene.grant(Level::ReadOnly), stop()).await, "DEACTIVATE_WORKFLOW");
    refused(&scene.ask(&scene.grant(Level::Debug), stop()).await, "DEACTIVATE_WORKFLOW");
    assert_eq!(scene.ask(&scene.grant(Level::Write), stop()).await.state, OutcomeState::Succeeded);
    let to = recipient(&scene.droplet).await;
    assert_eq!(scene.ask(&scene.grant(Level::Emergency), vec![rotate(to, "two")]).await.state, OutcomeState::Succeeded);
}

#[tokio::test(start_paused = true)]
async fn access_ends_by_itself_also_while_the_hub_is_away() {
    let scene = Scene::new().await;
    let grant = scene.grant(Level::ReadOnly);
    let targets = genesis_shared::bundle::Targets::Workspaces(vec![scene.droplet.workspace]);
    let sign = |commands| {
        let id = genesis_shared::id::BundleId::from_random(random());
        let spec = Spec::of(targets.clone(), "security", 1, commands);
        orders::sign_under_grant(spec, support_key(scene.seed), &grant, id, scene.now()).unwrap().1.to_text()
    };
    let bundle = sign(look());
    scene.droplet.outside.hub.set_away(true);
    scene.droplet.while_running(tokio::time::sleep(Duration::from_secs(31 * 60))).await;
    scene.droplet.outside.hub.set_away(false);
    let late = scene.send(&bundle).await;
    assert_eq!(late.state, OutcomeState::Rejected, "{}", late.message);
    // A clock that is set back brings it not back: the droplet has seen a later signed time.
    assert_eq!(scene.droplet.run(look()).await.state, OutcomeState::Succeeded);
    scene.droplet.outside.clock.set_skew_ms(-40 * 60_000);
    assert_eq!(scene.send(&bundle).await.state, OutcomeState::Rejected);
}

#[tokio::test(start_paused = true)]
async fn a_bundle_may_not_outlast_its_grant_nor_name_another_tenant() {
    let scene = Scene::new().await;
    let grant = scene.grant(Level::ReadOnly);
    let mut bundle = scene.droplet.operator.bundle_at(scene.droplet.workspace, look(), scene.now());
    bundle.issuer = scene.support.kid().clone();
    bundle.grant = Some(grant.to_text());
    let signed =
        |bundle: &genesis_shared::bundle::Bundle| genesis_tests::operator::sign_with(bundle, &[&scene.support]);
    refused(&scene.send(&signed(&bundle)).await, "so must the bundle");
    let mut wide = bundle.clone();
    wide.targets = genesis_shared::bundle::Targets::All(true);
    refused(&scene.send(&signed(&wide)).await, "alone");
    let mut lent = bundle;
    lent.issuer = scene.droplet.operator.key.kid().clone();
    refused(&scene.send(&signed(&lent)).await, "is not sup-1");
}

#[tokio::test(start_paused = true)]
async fn a_stolen_grant_is_of_no_use_without_its_key() {
    let scene = Scene::new().await;
    let mut bundle = scene.droplet.operator.bundle_at(scene.droplet.workspace, look(), scene.now());
    bundle.grant = Some(scene.grant(Level::ReadOnly).to_text());
    for (thief, code) in [(signing_key("thief"), "a2_unknown_key"), (signing_key("sup-1"), "a3_signature")] {
        bundle.id = genesis_shared::id::BundleId::from_random(random());
        bundle.issuer = thief.kid().clone();
        let result = scene.send(&genesis_tests::operator::sign_with(&bundle, &[&thief])).await;
        assert_eq!((result.state, result.code.as_str()), (OutcomeState::Rejected, code), "{}", result.message);
    }
}

/// The grant of a bundle that operators signed was once read without a check, and took the place of their scope.
#[tokio::test(start_paused = true)]
async fn an_operator_cannot_let_himself_in_by_a_grant_that_nobody_checked() {
    let scene = Scene::new().await;
    let operator = &scene.droplet.operator;
    let mut wish = scene.wish(Level::Emergency);
    wish.support = named(&operator.key);
    // Below its threshold of two, for a key of the root: refused where it is checked.
    let (_, mut own) = access::grant(wish, &[], scene.now()).unwrap();
    access::add_signature(&mut own, &operator.key).unwrap();
    assert!(Grant::verify(own.to_text().as_bytes(), &scene.root()).is_err());
    let mut bundle = operator.bundle_at(scene.droplet.workspace, stop(), scene.now());
    bundle.not_after = scene.now().plus_millis(10 * 60_000);
    bundle.grant = Some(own.to_text());
    refused(&scene.send(&genesis_tests::operator::sign_with(&bundle, &[&operator.key])).await, "in their own name");
}

#[tokio::test(start_paused = true)]
async fn a_grant_needs_its_signers_their_scope_and_a_short_life() {
    let scene = Scene::new().await;
    let operator = &scene.droplet.operator;
    let verify =
        |root: &TrustRoot, document: &Document| Grant::verify(document.to_text().as_bytes(), root).unwrap_err();
    let root = scene.root();

    let (_, mut alone) = access::grant(scene.wish(Level::Write), &[], scene.now()).unwrap();
    access::add_signature(&mut alone, &operator.key).unwrap();
    assert!(matches!(verify(&root, &alone), GrantError::Signers { needed: 2, signed: 1, .. }));

    let mut narrow = root.clone();
    narrow.operators[0].allow.retain(|allowance| !matches!(allowance, Allowance::Support(_)));
    assert!(matches!(verify(&narrow, &scene.grant(Level::ReadOnly)), GrantError::Scope { .. }));
    let mut elsewhere = root.clone();
    elsewhere.operators[0].workspaces = Some(vec![WorkspaceId::from_random(random())]);
    assert!(matches!(verify(&elsewhere, &scene.grant(Level::ReadOnly)), GrantError::Scope { .. }));

    for level in Level::ALL {
        let (mut grant, _) = access::grant(scene.wish(level), &[], scene.now()).unwrap();
        grant.not_after = grant.not_after.plus_millis(1);
        let mut long = Document::draft(&serde_json::to_vec(&grant).unwrap());
        for key in [&operator.key, &operator.second] {
            long.sign(genesis_shared::grant::TYP, key).unwrap();
        }
        assert!(matches!(verify(&root, &long), GrantError::Invalid(_)), "{}", level.name());
    }
    // An operator's own key under another name would be a way around its scope.
    let support = NamedKey { kid: "sup-2".parse().unwrap(), public_key: operator.second.public() };
    let wish = Wish { support, ..scene.wish(Level::ReadOnly) };
    let (_, mut borrowed) = access::grant(wish, &[], scene.now()).unwrap();
    access::add_signature(&mut borrowed, &operator.key).unwrap();
    assert!(matches!(verify(&root, &borrowed), GrantError::Invalid(_)));
}

#[tokio::test(start_paused = true)]
async fn a_revoked_support_key_is_out_at_once() {
    let scene = Scene::new().await;
    let grant = scene.grant(Level::ReadOnly);
    // Only what a root knows can be revoked by the tool; the name of a support key is noted by hand.
    let current = scene.root();
    let mut next = successor(&current, Change::default(), current.issued_at).unwrap();
    next.revoked.push("sup-1".parse().unwrap());
    let mut document = Document::draft(&serde_json::to_vec(&next).unwrap());
    document.sign(trust::TYP, &scene.droplet.operator.root).unwrap();
    scene.droplet.outside.hub.put_root(2, &document.to_text());
    refused(&scene.ask(&grant, look()).await, "sup-1");
}
