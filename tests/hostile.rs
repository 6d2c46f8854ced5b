//! A hub in the wrong hands delivers what no operator signed for this droplet: the agent refuses by the rule's name.
#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test that cannot go on, or meets anything else, fails"
)]

use genesis_hub::store::Store;
use genesis_shared::bundle::Targets;
use genesis_shared::command::CommandWire;
use genesis_shared::id::{JobId, WorkspaceId};
use genesis_shared::report::OutcomeState;
use genesis_shared::wire::JobState;
use genesis_tests::n8n::Kind;
use genesis_tests::operator::{now, random, sign_with, signing_key};
use genesis_tests::rig::Rig;
use serde_json::json;

const HOUR_MS: i64 = 3_600_000;

/// Puts bytes into the hub's database behind its own checks, each as a job of its own, and lets it deliver them.
async fn deliver(rig: &mut Rig, bundles: &[Vec<u8>]) -> Vec<JobId> {
    assert!(rig.hub.terminate().await.success());
    let store = Store::open(&genesis_hub::setup::database(&rig.hub_dir())).unwrap();
    let mut jobs = Vec::new();
    for bundle in bundles {
        jobs.push(store.enqueue_unchecked(rig.workspace, bundle, now()).await.unwrap());
    }
    store.close().await.unwrap();
    drop(store);
    rig.start_hub().await;
    jobs
}

fn health_check() -> Vec<CommandWire> {
    serde_json::from_value(json!([{"action": "HEALTH_CHECK"}])).unwrap()
}

#[tokio::test]
async fn whatever_a_stolen_hub_delivers_is_refused_by_the_rules_name() {
    let mut rig = Rig::new(Kind::StandIn).await;
    let good = rig.operator.bundle(rig.workspace, health_check());
    let signed = rig.operator.sign(&good);
    let job = rig.push(&signed).await;
    assert_eq!(rig.finished(job).await.state, JobState::Succeeded, "the same bundle is good once");

    let fresh = || rig.operator.bundle(rig.workspace, health_check());
    let mut flipped = rig.operator.sign(&fresh()).into_bytes();
    let at = flipped.iter().position(|b| *b == b':').unwrap() + 20;
    flipped[at] = if flipped[at] == b'A' { b'B' } else { b'A' };
    let mut other_target = fresh();
    other_target.targets = Targets::Workspaces(vec![WorkspaceId::from_random(random())]);
    let mut expired = fresh();
    (expired.not_before, expired.not_after) = (now().plus_millis(-3 * HOUR_MS), now().plus_millis(-HOUR_MS));
    let mut early = fresh();
    (early.not_before, early.not_after) = (now().plus_millis(HOUR_MS), now().plus_millis(2 * HOUR_MS));
    let mut unknown_action = fresh();
    unknown_action.commands[0].action = "FORMAT_DISK".into();
    let mut bad_payload = fresh();
    bad_payload.commands[0].payload = Some(json!({"rm": "-rf"}));
    let mut destroy = fresh();
    destroy.commands[0] = CommandWire { action: "DECOMMISSION".into(), payload: None };
    destroy.force = Some(genesis_shared::bundle::Force { reason: "x".into(), expect: [].into() });
    let stranger = signing_key("ops-1");
    let nobody = signing_key("nobody");

    let sign = |bundle| rig.operator.sign(bundle).into_bytes();
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("a10_replay", signed.clone().into_bytes()),
        ("a3_signature", flipped),
        ("a7_target", sign(&other_target)),
        ("a2_unknown_key", sign_with(&fresh(), &[&nobody]).into_bytes()),
        ("a3_signature", sign_with(&fresh(), &[&stranger]).into_bytes()),
        ("a8_time", sign(&expired)),
        ("a8_time", sign(&early)),
        ("a4_content", sign(&unknown_action)),
        ("a4_content", sign(&bad_payload)),
        ("a12_unsupported", sign_with(&destroy, &[&rig.operator.key, &rig.operator.second]).into_bytes()),
        ("a5_signers", sign(&destroy)),
        ("a1_shape", b"{\"payload\":\"e30\",\"signatures\":[]}".to_vec()),
        ("a1_shape", b"not json at all".to_vec()),
    ];
    let bytes: Vec<Vec<u8>> = cases.iter().map(|(_, bytes)| bytes.clone()).collect();
    let jobs = deliver(&mut rig, &bytes).await;
    for ((rule, _), job) in cases.iter().zip(jobs) {
        let result = rig.finished(job).await.result.unwrap();
        assert_eq!((result.state, result.code.as_str()), (OutcomeState::Rejected, *rule), "{}", result.message);
        assert!(result.steps.is_empty(), "nothing ran");
    }

    // And it still does what is rightly asked.
    assert_eq!(rig.run(health_check()).await.state, JobState::Succeeded);
}
