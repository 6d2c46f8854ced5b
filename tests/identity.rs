//! The identity of a droplet over time: a year off, restored snapshots, clones; with the real agent, and as processes.
#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test that cannot go on, or meets anything else, fails"
)]

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use genesis_agent::agent::by_hand::ByHand;
use genesis_agent::sim::n8n::{Fault, Kind as FaultKind};
use genesis_shared::command::CommandWire;
use genesis_shared::life::ResumeRequest;
use genesis_shared::report::{CommandResult, OutcomeState, Record};
use genesis_shared::wire::{DropletView, EventView, JobState};
use genesis_tests::droplet::{Droplet, wait_for};
use genesis_tests::n8n::Kind;
use genesis_tests::rig::Rig;
use genesis_tests::scenario::{deploy, inject, recipient, small_tenant};
use genesis_tests::{deadline, until};

const DAY: Duration = Duration::from_secs(24 * 3600);

fn look() -> Vec<CommandWire> {
    vec![CommandWire { action: "HEALTH_CHECK".into(), payload: None }]
}

fn by_hand(
    agent: &genesis_agent::agent::Agent<genesis_agent::sim::SimWorld>,
    bundle: &str,
) -> Result<(), Box<CommandResult>> {
    match agent.apply(bundle.as_bytes()).unwrap() {
        ByHand::Accepted(_) => Ok(()),
        ByHand::Refused(result) => Err(result),
    }
}

#[tokio::test(start_paused = true)]
async fn a_droplet_that_was_off_for_400_days_comes_back_by_its_identity_key_and_works() {
    let _deadline = deadline();
    let droplet = Droplet::new(1);
    let commands = small_tenant(recipient(&droplet).await);
    assert_eq!(droplet.run(commands.clone()).await.state, OutcomeState::Succeeded);
    tokio::time::sleep(400 * DAY).await;
    droplet.outside.hub.end_token();
    let looked = droplet.run(look()).await;
    assert_eq!((looked.state, droplet.outside.hub.renewals()), (OutcomeState::Succeeded, 1), "{}", looked.message);
    assert_eq!(droplet.held().1, ["Hook"], "the workload was never touched");
    assert!(droplet.outside.hub.results(looked.job_id).len() == 1);
}

#[tokio::test(start_paused = true)]
async fn a_quarantined_droplet_changes_nothing_and_looks_and_reports_until_it_is_resumed() {
    let _deadline = deadline();
    let droplet = Droplet::new(2);
    let (hub, outside) = (&droplet.outside.hub, &droplet.outside);
    let commands = small_tenant(recipient(&droplet).await);
    let agent = droplet.agent();
    let scene = async {
        wait_for(|| async { hub.enrolled() }).await;
        hub.set_quarantined(true);
        let beat = wait_for(|| async { hub.last_beat().filter(|beat| beat.state == "QUARANTINED") }).await;
        assert!(beat.outbox_depth > 0, "it keeps what it has to say");

        let bundle = droplet.signed(commands.clone());
        let refusal = by_hand(&agent, &bundle).unwrap_err();
        assert_eq!((refusal.code.as_str(), refusal.state), ("quarantined", OutcomeState::Rejected));
        assert!(refusal.retryable && refusal.message.contains("droplet resume 412"), "{}", refusal.message);
        by_hand(&agent, &droplet.signed(look())).unwrap();
        let job = droplet.push(commands);
        let beats = hub.beats();
        tokio::time::sleep(DAY * 3 / 4).await;
        assert!(hub.beats() > beats + 1000, "it is heard all the time");
        assert!(droplet.is_empty() && hub.results(job).is_empty());
        let told = hub.records().len();

        hub.set_quarantined(false);
        wait_for(|| async { hub.results(job).into_iter().next() }).await;
        assert_eq!(droplet.held().1, ["Hook"]);
        // The refused one may be tried again, and is the same thing again: nothing changes.
        by_hand(&agent, &bundle).unwrap();
        let records = hub.records();
        let events = records[told..].iter().filter_map(|record| match &record.record {
            Record::Event(event) => Some(event.code.as_str()),
            _ => None,
        });
        let events: Vec<_> = events.collect();
        assert_eq!(events, ["quarantined", "quarantine_ended"]);
        let looks = records.iter().filter(|r| matches!(&r.record, Record::Result(r) if r.output[0].is_object()));
        assert!(looks.count() >= 1, "the look by hand was answered meanwhile and is told now");
        assert!(!outside.crash.is_over());
    };
    tokio::select! {
        ended = agent.run() => panic!("the agent ended: {ended:?}"),
        () = scene => {}
    }
}

#[tokio::test(start_paused = true)]
async fn a_quarantine_outlives_a_restart_without_the_hub_and_is_not_heeded_where_the_configuration_says_so() {
    let _deadline = deadline();
    let mut droplet = Droplet::new(3);
    let commands = small_tenant(recipient(&droplet).await);
    droplet.outside.hub.set_quarantined(true);
    let beat = || async { droplet.outside.hub.last_beat().filter(|beat| beat.state == "QUARANTINED") };
    droplet.while_running(wait_for(beat)).await;
    droplet.outside.hub.set_away(true);
    let bundle = droplet.signed(commands);
    assert_eq!(by_hand(&droplet.agent(), &bundle).unwrap_err().code, "quarantined");
    // The way out of the hands of a hub that quarantines everybody.
    droplet.ignore_quarantine();
    by_hand(&droplet.agent(), &bundle).unwrap();
    droplet.while_running(wait_for(|| async { (droplet.held().1 == ["Hook"]).then_some(()) })).await;
}

#[tokio::test(start_paused = true)]
async fn a_hub_that_hands_out_a_change_in_quarantine_is_refused_by_the_agent_itself() {
    let _deadline = deadline();
    let droplet = Droplet::new(5);
    let hub = &droplet.outside.hub;
    let commands = small_tenant(recipient(&droplet).await);
    hub.betray_quarantine(true);
    hub.set_quarantined(true);
    let refused = droplet.run(commands.clone()).await;
    assert_eq!((refused.state, refused.code.as_str()), (OutcomeState::Rejected, "quarantined"));
    assert!(refused.retryable && refused.bundle_id.is_some());
    assert_eq!(droplet.run(look()).await.state, OutcomeState::Succeeded, "looks go on");
    assert!(droplet.is_empty());
    hub.set_quarantined(false);
    assert_eq!(droplet.run(commands).await.state, OutcomeState::Succeeded);
}

#[tokio::test(start_paused = true)]
async fn what_was_accepted_before_a_quarantine_and_not_begun_waits_for_its_end() {
    let _deadline = deadline();
    let droplet = Droplet::new(6);
    let hub = &droplet.outside.hub;
    let to = recipient(&droplet).await;
    let slow = Fault::once("POST", "/api/v1/credentials", FaultKind::Delay(Duration::from_secs(50)));
    droplet.outside.n8n.borrow_mut().faults.push(slow);
    let count = || droplet.outside.n8n.borrow().n8n.workflows.len();
    let scene = async {
        let (first, second) = (droplet.push(vec![inject(to, "one")]), droplet.push(vec![deploy("one")]));
        wait_for(|| async { (!droplet.outside.n8n.borrow().n8n.credentials.is_empty()).then_some(()) }).await;
        hub.set_quarantined(true);
        wait_for(|| async { hub.last_beat().filter(|beat| beat.state == "QUARANTINED") }).await;
        tokio::time::sleep(DAY / 4).await;
        assert_eq!(count(), 0, "the one that had begun has ended, the other one has not begun");
        hub.set_quarantined(false);
        assert_eq!(droplet.result(first).await.state, OutcomeState::Succeeded);
        assert_eq!(droplet.result(second).await.state, OutcomeState::Succeeded);
    };
    let agent = droplet.agent();
    tokio::select! {
        ended = agent.run() => panic!("the agent ended: {ended:?}"),
        () = scene => {}
    }
    assert_eq!(count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_droplet_has_the_same_keys_in_every_life() {
    let _deadline = deadline();
    let droplet = Droplet::new(7);
    let keys = || droplet.outside.hub.enrolled().map(|request| (request.identity_key, request.sealing_key));
    recipient(&droplet).await;
    let first = keys().unwrap();
    droplet.outside.hub.forget();
    droplet.new_token();
    assert_eq!(droplet.while_running(wait_for(|| async { keys() })).await, first);
}

#[tokio::test(start_paused = true)]
async fn a_folder_that_runs_on_another_droplet_than_its_own_changes_nothing_whatever_the_hub_says() {
    let _deadline = deadline();
    let droplet = Droplet::new(4);
    let commands = small_tenant(recipient(&droplet).await);
    droplet.outside.host_says.replace(Some("413".parse().unwrap()));
    let bundle = droplet.signed(commands.clone());
    let refusal = by_hand(&droplet.agent(), &bundle).unwrap_err();
    assert!(refusal.code == "quarantined" && refusal.message.contains("413"), "{}", refusal.message);
    let result = droplet.run(commands.clone()).await;
    assert_eq!((result.state, result.code.as_str()), (OutcomeState::Rejected, "quarantined"));
    assert_eq!(droplet.run(look()).await.state, OutcomeState::Succeeded);
    assert!(droplet.is_empty());
    droplet.outside.host_says.replace(Some("412".parse().unwrap()));
    assert_eq!(droplet.run(commands).await.state, OutcomeState::Succeeded);
}

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").args([from, to]).status().unwrap().success());
}

async fn droplet(rig: &Rig, what: &str, is: impl Fn(&DropletView) -> bool) -> DropletView {
    until(what, || async { rig.client.droplet(&rig.droplet).await.ok().filter(|view| is(view)) }).await
}

async fn events(rig: &Rig) -> Vec<EventView> {
    rig.client.events(&[("limit", "100")]).await.unwrap().items
}

fn count(events: &[EventView], code: &str) -> usize {
    events.iter().filter(|event| event.code == code).count()
}

async fn resume(rig: &Rig, boot_epoch: Option<String>) {
    let request = ResumeRequest { reason: "a test".into(), boot_epoch };
    let view = rig.client.resume_droplet(&rig.droplet, &request).await.unwrap();
    assert!(view.quarantine.is_none());
}

/// Names of the credentials in n8n, doubles kept.
async fn credentials(rig: &Rig) -> Vec<String> {
    let content = rig.n8n.content(&rig.n8n_key()).await;
    let mut names: Vec<_> = content.credentials.iter().map(|c| c["name"].as_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_snapshot_put_back_is_quarantined_and_after_a_resumption_nothing_is_lost_and_nothing_runs_twice() {
    let _deadline = deadline();
    let mut rig = Rig::new(Kind::StandIn).await;
    let commands = rig.ignition().await;
    let one = |n: usize| vec![commands[n].clone()];
    assert_eq!(rig.run(one(0)).await.state, JobState::Succeeded);
    // The moment of the snapshot.
    assert!(rig.agent.terminate().await.success());
    let (folder, snapshot) = (rig.agent_dir(), rig.folder().join("snapshot"));
    copy(&folder, &snapshot);
    rig.start_agent();
    let after = rig.run(one(1)).await;
    assert_eq!(after.state, JobState::Succeeded);
    let made = credentials(&rig).await;
    assert!(rig.agent.terminate().await.success());
    std::fs::remove_dir_all(&folder).unwrap();
    copy(&snapshot, &folder);
    let bundle = rig.operator.sign(&rig.operator.bundle(rig.workspace, one(2)));
    let waiting = rig.push(&bundle).await;
    rig.start_agent();

    let view = droplet(&rig, "the quarantine", |view| view.quarantine.is_some()).await;
    assert_eq!((view.state.as_str(), view.quarantine.unwrap().code.as_str()), ("QUARANTINED", "droplet_restored"));
    assert_eq!(rig.run(look()).await.state, JobState::Succeeded, "looks go on");
    droplet(&rig, "the agent to heed it", |view| view.health.as_ref().is_some_and(|h| h.state == "QUARANTINED")).await;
    let by_hand = rig.operator.sign(&rig.operator.bundle(rig.workspace, one(3)));
    let file = rig.folder().join("by-hand.jws");
    std::fs::write(&file, &by_hand).unwrap();
    let apply = |json: &str| rig.apply_command(&[json, file.to_str().unwrap()]).output().unwrap();
    let refused = apply("--json");
    let refusal: CommandResult = serde_json::from_slice(&refused.stdout).unwrap();
    assert_eq!((refused.status.code(), refusal.code.as_str()), (Some(5), "quarantined"));
    assert_eq!(rig.client.job(waiting).await.unwrap().state, JobState::Queued);
    assert_eq!(credentials(&rig).await, made, "nothing was changed");

    resume(&rig, None).await;
    assert_eq!(rig.finished(waiting).await.state, JobState::Succeeded);
    assert_eq!(apply("--json").status.code(), Some(0), "what was refused may be tried again");
    // What was done after the snapshot stays done, once.
    let again = rig.client.job(after.job_id).await.unwrap();
    assert_eq!((again.state, again.attempts, again.result), (after.state, after.attempts, after.result));
    assert_eq!(rig.run(one(1)).await.state, JobState::Succeeded);
    let names = credentials(&rig).await;
    let mut once = names.clone();
    once.dedup();
    assert_eq!((names.len(), &names), (4, &once));
    // Its records came under numbers that had been used: the very first of them tells of the quarantine.
    let events = until("all events", || async {
        let events = events(&rig).await;
        (count(&events, "applied_by_hand") == 1).then_some(events)
    })
    .await;
    for code in ["droplet_restored", "droplet_resumed", "quarantined", "quarantine_ended"] {
        assert_eq!(count(&events, code), 1, "{code}: {events:?}");
    }
    assert_eq!(count(&events, "records_lost"), 0);
    // From here on a restart is a restart.
    rig.crash_agent();
    assert_eq!(rig.run(look()).await.state, JobState::Succeeded);
    assert!(rig.client.droplet(&rig.droplet).await.unwrap().quarantine.is_none());
}

#[tokio::test]
async fn a_copy_in_another_droplet_is_told_by_the_machine_itself_with_nobody_else_asked() {
    let _deadline = deadline();
    let rig = Rig::new(Kind::StandIn).await;
    let commands = rig.ignition().await;
    rig.move_to("412002");
    let moved = rig.run(vec![commands[0].clone()]).await;
    let result = moved.result.unwrap();
    assert_eq!((moved.state, result.code.as_str()), (JobState::Rejected, "quarantined"), "{}", result.message);
    assert!(result.message.contains("412001") && result.message.contains("412002"), "{}", result.message);
    assert_eq!(rig.run(look()).await.state, JobState::Succeeded);
    rig.move_to("412001");
    assert_eq!(rig.run(vec![commands[0].clone()]).await.state, JobState::Succeeded);
}

#[tokio::test]
async fn a_clone_beside_the_original_quarantines_both_and_the_one_that_is_named_goes_on() {
    let _deadline = deadline();
    let mut rig = Rig::new(Kind::StandIn).await;
    let commands = rig.ignition().await;
    assert_eq!(rig.run(vec![commands[0].clone()]).await.state, JobState::Succeeded);
    assert!(rig.agent.terminate().await.success());
    let second = rig.folder().join("clone");
    copy(&rig.agent_dir(), &second);
    rig.start_agent();
    assert_eq!(rig.run(look()).await.state, JobState::Succeeded);
    let original = rig.client.droplet(&rig.droplet).await.unwrap().lives[0].boot_epoch.clone();
    let mut clone = rig.agent_over(&second);
    let view = droplet(&rig, "the quarantine", |view| view.quarantine.is_some()).await;
    let code = view.quarantine.unwrap().code;
    assert!(["droplet_cloned", "droplet_restored", "journal_diverged"].contains(&code.as_str()), "{code}");
    assert!(view.lives.len() >= 2 && view.lives.iter().any(|life| life.boot_epoch == original), "{:?}", view.lives);
    let bundle = rig.operator.sign(&rig.operator.bundle(rig.workspace, vec![commands[1].clone()]));
    let waiting = rig.push(&bundle).await;
    for agent in [&rig.agent, &clone] {
        until("both to heed it", || async { agent.log().contains("has quarantined this droplet").then_some(()) }).await;
    }
    assert_eq!(rig.client.job(waiting).await.unwrap().state, JobState::Queued);
    // The hub withholds; and each agent refuses by itself, whoever hands it the change.
    let file = rig.folder().join("by-hand.jws");
    std::fs::write(&file, rig.operator.sign(&rig.operator.bundle(rig.workspace, vec![commands[2].clone()]))).unwrap();
    let args = ["--json", file.to_str().unwrap()];
    for mut command in [rig.apply_command(&args), rig.apply_command_over(&args)] {
        let refused = command.output().unwrap();
        let refusal: CommandResult = serde_json::from_slice(&refused.stdout).unwrap();
        assert_eq!((refused.status.code(), refusal.code.as_str()), (Some(5), "quarantined"), "{}", refusal.message);
    }
    assert_eq!(credentials(&rig).await.len(), 1, "neither has changed anything");
    clone.kill();
    resume(&rig, Some(original)).await;
    assert_eq!(rig.finished(waiting).await.state, JobState::Succeeded);
    assert_eq!(rig.run(look()).await.state, JobState::Succeeded);
    assert!(rig.client.droplet(&rig.droplet).await.unwrap().quarantine.is_none());
    assert_eq!(credentials(&rig).await.len(), 2);

    // Forgotten in its corner and started again, it is noticed again.
    clone = rig.agent_over(&second);
    droplet(&rig, "the quarantine to come back", |view| view.quarantine.is_some()).await;
    assert!(clone.is_running());
}
