//! An update of the agent, in a simulated droplet: what is refused, what is taken back, what proves a new version.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use genesis_agent::core::update::{Facts, facts};
use genesis_shared::command::CommandWire;
use genesis_shared::id::Digest;
use genesis_shared::report::OutcomeState;
use genesis_tests::droplet::{Droplet, wait_for};
use genesis_tests::scenario::update::{NEW_AGENT, update_agent};
use serde_json::json;

#[tokio::test(start_paused = true)]
async fn a_version_that_reaches_the_hub_stays() {
    let droplet = Droplet::new(1);
    let result = droplet.run(vec![update_agent()]).await;
    assert_eq!(result.state, OutcomeState::Succeeded, "{}", result.message);
    assert_eq!(result.output[0]["by"], "hub");
    assert_eq!(droplet.outside.slots.current(), Some(Digest::of(NEW_AGENT)));
    let again = droplet.run(vec![update_agent()]).await;
    assert_eq!(again.state, OutcomeState::Succeeded, "what runs already stays: {}", again.message);
}

#[tokio::test(start_paused = true)]
async fn a_version_that_does_not_prove_itself_is_told_of_and_may_be_tried_again() {
    let droplet = Droplet::new(2);
    droplet.outside.slots.reject("it had not proved itself after 45 s");
    let result = droplet.run(vec![update_agent()]).await;
    assert_eq!((result.state, result.code.as_str()), (OutcomeState::Failed, "update_rolled_back"));
    assert!(result.message.contains("after 45 s"), "{}", result.message);
    assert_eq!((droplet.outside.slots.current(), droplet.outside.slots.fetched()), (None, None));
    let again = droplet.run(vec![update_agent()]).await;
    assert_eq!(again.state, OutcomeState::Succeeded, "{}", again.message);
}

#[tokio::test(start_paused = true)]
async fn a_version_whose_journal_this_one_cannot_read_is_refused_before_it_runs() {
    for (reads_from, writes) in
        [(1, facts().journal_writes + 1), (facts().journal_writes + 1, facts().journal_writes + 1)]
    {
        let droplet = Droplet::new(3);
        droplet.outside.slots.say(Facts {
            version: "9".into(),
            journal_reads_from: reads_from,
            journal_writes: writes,
        });
        let result = droplet.run(vec![update_agent()]).await;
        assert_eq!((result.state, result.code.as_str()), (OutcomeState::Failed, "update_journal_differs"));
        assert_eq!((droplet.outside.slots.current(), droplet.outside.slots.fetched()), (None, None));
    }
}

#[tokio::test(start_paused = true)]
async fn with_the_hub_away_a_self_test_is_enough() {
    let droplet = Droplet::new(4);
    droplet.while_running(wait_for(|| async { droplet.outside.hub.enrolled() })).await;
    droplet.outside.hub.set_away(true);
    let agent = droplet.agent();
    agent.apply(droplet.signed(vec![update_agent()]).as_bytes()).unwrap();
    tokio::select! {
        ended = agent.run() => panic!("{ended:?}"),
        current = wait_for(|| async { droplet.outside.slots.current() }) => assert_eq!(current, Digest::of(NEW_AGENT)),
    }
}

#[tokio::test(start_paused = true)]
async fn an_update_is_alone_in_its_bundle_and_names_a_binary_that_can_be() {
    let droplet = Droplet::new(5);
    let look = CommandWire { action: "HEALTH_CHECK".into(), payload: None };
    let result = droplet.run(vec![update_agent(), look]).await;
    assert_eq!(result.code, "must_be_alone");
    let sha256 = Digest::of(NEW_AGENT);
    for payload in [
        json!({"url": "file:///etc/passwd", "sha256": sha256, "size": 1}),
        json!({"url": "https://x", "sha256": sha256, "size": 0}),
        json!({"url": "https://x", "sha256": sha256, "size": 33 * 1024 * 1024}),
        json!({"url": "https://x", "sha256": "sha256:00", "size": 1}),
    ] {
        let wire = CommandWire { action: "UPDATE_AGENT".into(), payload: Some(payload) };
        assert_eq!(wire.parse().unwrap_err().code(), "invalid_payload", "{wire:?}");
    }
}

/// With real processes: binaries, a launcher, a disk of their own.
#[tokio::test]
async fn small_disk_failing_updates_leave_the_old_version_at_work() {
    use genesis_tests::updates::{Failing, Story};
    let quick = [
        Failing::CrashAtStart,
        Failing::BadHash,
        Failing::DiskFull,
        Failing::NoProgram,
        Failing::OtherJournal,
        Failing::PowerCut,
    ];
    for ended in Story::play(3, quick.into()).await {
        assert!(ended.is_back, "{:?}: {}", ended.failing, ended.why);
    }
}
