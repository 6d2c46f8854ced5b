//! The hub is away, for days: what was leased runs, what is applied by hand runs, and everything is told once.
#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test that cannot go on, or meets anything else, fails"
)]

use std::time::Duration;

use genesis_agent::agent::Agent;
use genesis_agent::agent::by_hand::{Accepted, ByHand, News, Progress};
use genesis_agent::sim::SimWorld;
use genesis_agent::sim::n8n::{Answer, Fault, Kind};
use genesis_shared::command::CommandWire;
use genesis_shared::report::{CommandResult, N8nStatus, OutcomeState, Record};
use genesis_tests::droplet::{Droplet, wait_for};
use genesis_tests::scenario::{recipient, small_tenant};
use serde_json::json;

const DAY: Duration = Duration::from_secs(24 * 3600);

fn look() -> Vec<CommandWire> {
    vec![CommandWire { action: "HEALTH_CHECK".into(), payload: None }]
}

async fn small(droplet: &Droplet) -> Vec<CommandWire> {
    small_tenant(recipient(droplet).await)
}

/// n8n fails at everything, or no more.
fn break_n8n(droplet: &Droplet, broken: bool) {
    let faults = &mut droplet.outside.n8n.borrow_mut().faults;
    faults.clear();
    if broken {
        let answer = Answer::json(503, &json!({"message": "no database"}));
        faults.push(Fault { method: None, path: "/".into(), skip: 0, count: None, kind: Kind::Answer(answer) });
    }
}

/// Plays a scene of some days beside an agent.
async fn beside<T>(agent: &Agent<SimWorld>, scene: impl Future<Output = T>) -> T {
    tokio::select! {
        ended = agent.run() => panic!("the agent ended: {ended:?}"),
        played = tokio::time::timeout(10 * DAY, scene) => played.expect("the scene has not ended"),
    }
}

fn accepted(agent: &Agent<SimWorld>, bundle: &str) -> Accepted {
    match agent.apply(bundle.as_bytes()).unwrap() {
        ByHand::Accepted(accepted) => accepted,
        ByHand::Refused(result) => panic!("{}: {}", result.code, result.message),
    }
}

fn refused(agent: &Agent<SimWorld>, bundle: &str) -> CommandResult {
    match agent.apply(bundle.as_bytes()).unwrap() {
        ByHand::Refused(result) => *result,
        ByHand::Accepted(accepted) => panic!("{accepted:?}"),
    }
}

async fn ended(agent: &Agent<SimWorld>, accepted: &Accepted) -> CommandResult {
    let mut seen = None;
    loop {
        if let News::Ended(result) = agent.news(accepted, &mut seen).await.unwrap() {
            return *result;
        }
    }
}

fn results(droplet: &Droplet) -> Vec<CommandResult> {
    let records = droplet.outside.hub.records().into_iter();
    records.filter_map(|r| if let Record::Result(result) = r.record { Some(result) } else { None }).collect()
}

#[tokio::test(start_paused = true)]
async fn a_leased_bundle_runs_while_the_hub_is_away_for_three_days_and_its_result_arrives_once() {
    let droplet = Droplet::new(1);
    let commands = small(&droplet).await;
    let hub = &droplet.outside.hub;
    let agent = droplet.agent();
    beside(&agent, async {
        break_n8n(&droplet, true);
        let job = droplet.push(commands);
        wait_for(|| async { hub.records().iter().any(|r| r.record == Record::Accepted { job_id: job }).then_some(()) })
            .await;
        hub.set_away(true);
        break_n8n(&droplet, false);
        wait_for(|| async { (droplet.held().1 == ["Hook"]).then_some(()) }).await;
        tokio::time::sleep(3 * DAY).await;
        assert!(hub.results(job).is_empty(), "nobody has heard of it");
        hub.set_away(false);
        wait_for(|| async { (!hub.results(job).is_empty()).then_some(()) }).await;
        tokio::time::sleep(DAY).await;
        let results = hub.results(job);
        assert_eq!((results.len(), results[0].state), (1, OutcomeState::Succeeded));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_bundle_whose_lease_was_the_last_word_of_the_hub_runs_and_is_told_once() {
    let droplet = Droplet::new(2);
    let commands = small(&droplet).await;
    let hub = &droplet.outside.hub;
    // Not even the acknowledgement gets through.
    hub.leave_after_lease();
    let job = droplet.push(commands);
    let agent = droplet.agent();
    beside(&agent, async {
        wait_for(|| async { (agent.outbox_depth().unwrap() > 0).then_some(()) }).await;
        assert!(!hub.records().iter().any(|r| r.record == Record::Accepted { job_id: job }), "it left in time");
        tokio::time::sleep(3 * DAY).await;
        assert_eq!(droplet.held().1, ["Hook"]);
        hub.set_away(false);
        wait_for(|| async { (!hub.results(job).is_empty()).then_some(()) }).await;
        tokio::time::sleep(DAY).await;
        assert_eq!(hub.results(job).len(), 1);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_bundle_applied_by_hand_runs_without_the_hub_and_is_told_once_when_it_is_back() {
    let droplet = Droplet::new(3);
    let bundle = droplet.signed(small(&droplet).await);
    let hub = &droplet.outside.hub;
    hub.set_away(true);
    let agent = droplet.agent();
    beside(&agent, async {
        let taken = accepted(&agent, &bundle);
        let result = ended(&agent, &taken).await;
        assert_eq!(result.state, OutcomeState::Succeeded, "{}", result.message);
        let replay = refused(&agent, &bundle);
        assert_eq!(replay.code, "a10_replay");
        assert!(replay.message.contains("it ended then as succeeded"), "{}", replay.message);
        assert!(results(&droplet).is_empty());
        hub.set_away(false);
        wait_for(|| async { (!results(&droplet).is_empty()).then_some(()) }).await;
        tokio::time::sleep(DAY).await;
        assert_eq!(results(&droplet), [result], "a refusal by hand is the person's business, not the hub's");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_was_applied_by_hand_answers_the_hubs_job_when_the_hub_hands_it_out_later() {
    let droplet = Droplet::new(4);
    let bundle = droplet.signed(small(&droplet).await);
    let hub = &droplet.outside.hub;
    hub.set_away(true);
    let agent = droplet.agent();
    beside(&agent, async {
        let taken = accepted(&agent, &bundle);
        let result = ended(&agent, &taken).await;
        let writes = |d: &Droplet| d.outside.n8n.borrow().count_prefix("POST", "/api/v1/");
        let before = writes(&droplet);
        let job = hub.push(&bundle);
        hub.set_away(false);
        let answered = droplet.result(job).await;
        assert_eq!(answered, CommandResult { job_id: job, ..result });
        tokio::time::sleep(DAY).await;
        assert_eq!((hub.results(job).len(), writes(&droplet)), (1, before), "it was not run again");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_hubs_job_is_answered_also_if_it_comes_while_the_bundle_runs_by_hand() {
    let droplet = Droplet::new(5);
    let bundle = droplet.signed(small(&droplet).await);
    let hub = &droplet.outside.hub;
    let agent = droplet.agent();
    beside(&agent, async {
        break_n8n(&droplet, true);
        let taken = accepted(&agent, &bundle);
        let mut seen = None;
        let news = agent.news(&taken, &mut seen).await.unwrap();
        let expected =
            Progress::Step { n: 1, of: 5, name: "put_credential key".into(), undo: false, n8n: N8nStatus::Starting };
        assert_eq!(news, News::Progress(expected), "whoever waits is told what it waits for");
        let job = hub.push(&bundle);
        wait_for(|| async { hub.records().iter().any(|r| r.record == Record::Accepted { job_id: job }).then_some(()) })
            .await;
        break_n8n(&droplet, false);
        let by_hand = ended(&agent, &taken).await;
        assert_eq!(droplet.result(job).await, by_hand);
        assert_eq!((by_hand.state, by_hand.job_id), (OutcomeState::Succeeded, job));
        tokio::time::sleep(DAY).await;
        assert_eq!(results(&droplet).len(), 1);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn asking_again_for_a_bundle_that_is_under_way_waits_for_the_same_one() {
    let droplet = Droplet::new(6);
    let (bundle, other) = (droplet.signed(small(&droplet).await), droplet.signed(small(&droplet).await));
    break_n8n(&droplet, true);
    let first = droplet.agent();
    let taken = accepted(&first, &bundle);
    // The agent dies here, and somebody asks its next life.
    drop(first);
    let agent = droplet.agent();
    let again = accepted(&agent, &bundle);
    assert_eq!(again, Accepted { resumed: true, ..taken });
    let second = accepted(&agent, &other);
    beside(&agent, async {
        let mut seen = None;
        let behind = Progress::Waits { behind: again.bundle_id, n8n: N8nStatus::Starting };
        assert_eq!(agent.news(&second, &mut seen).await.unwrap(), News::Progress(behind));
        break_n8n(&droplet, false);
        assert_eq!(ended(&agent, &again).await.state, OutcomeState::Succeeded);
        assert_eq!(ended(&agent, &second).await.state, OutcomeState::Succeeded);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn without_the_lanes_one_bundle_runs_to_its_end_and_before_it_what_was_accepted_earlier() {
    let droplet = Droplet::new(7);
    let bundles = [small(&droplet).await, small(&droplet).await, look()].map(|commands| droplet.signed(commands));
    let agent = droplet.agent();
    let [first, second, looks] = bundles.each_ref().map(|bundle| accepted(&agent, bundle));
    assert!(looks.read_only && !second.read_only);
    agent.run_one(&second).await.unwrap();
    for taken in [&first, &second] {
        assert_eq!(ended(&agent, taken).await.state, OutcomeState::Succeeded);
    }
    assert_eq!(refused(&agent, &bundles[1]).code, "a10_replay");
    assert!(accepted(&agent, &bundles[2]).resumed, "a look is of another lane and stays");
}

#[tokio::test(start_paused = true)]
async fn a_droplet_that_never_enrolled_applies_nothing() {
    let droplet = Droplet::new(8);
    let bundle = droplet.signed(look());
    let result = refused(&droplet.agent(), &bundle);
    assert_eq!((result.state, result.code.as_str()), (OutcomeState::Rejected, "no_trust_root"));
}

#[tokio::test(start_paused = true)]
async fn used_up_renewals_lead_to_a_new_handshake_as_soon_as_there_is_a_provisioning_token() {
    let droplet = Droplet::new(9);
    droplet.sealing_key().await;
    let hub = &droplet.outside.hub;
    hub.use_up_renewals();
    let agent = droplet.agent();
    beside(&agent, async {
        tokio::time::sleep(Duration::from_secs(600)).await;
        let job = droplet.push(look());
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert!(hub.results(job).is_empty(), "without a token nothing helps");
        droplet.new_token();
        assert_eq!(droplet.result(job).await.state, OutcomeState::Succeeded);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_droplet_that_lost_its_journal_and_can_take_no_command_does_not_call_itself_healthy() {
    let droplet = Droplet::new(10);
    let beat = || async { droplet.outside.hub.last_beat() };
    droplet.sealing_key().await;
    let agent = droplet.agent();
    let before = beside(&agent, wait_for(beat)).await;
    assert_eq!(before.state, "ACTIVE_HEALTHY");
    drop(agent);
    droplet.lose_journal_for_good();
    let beats = droplet.outside.hub.beats();
    let agent = droplet.agent();
    let newer = || async { (droplet.outside.hub.beats() > beats).then(|| droplet.outside.hub.last_beat()).flatten() };
    assert_eq!(beside(&agent, wait_for(newer)).await.state, "ACTIVE_DEGRADED");
}
