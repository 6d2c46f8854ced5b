//! A fleet of light agents over real connections: waves, and a bad bundle that stops at its canary.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::time::Duration;

use genesis_shared::id::{BundleId, JobId};
use genesis_tests::swarm::{Pace, Script, Stage, Swarm};
use genesis_tests::until;
use serde_json::{Value, json};

const QUICK: Pace = Pace { beat: Duration::from_secs(1), poll_wait: Duration::from_secs(5) };

async fn fleet(agents: u32, script: impl Fn(u32) -> Script) -> (Stage, Swarm) {
    let stage = Stage::new("heartbeat_interval_s = 1\nsweep_interval_s = 1\n").await;
    let mut swarm = Swarm::enrol(&stage.client, &stage.way, agents, script).await.unwrap();
    swarm.start(QUICK, Duration::from_millis(100));
    (stage, swarm)
}

/// Pushes a look to everybody with this rollout.
async fn roll_out(stage: &Stage, rollout: Value) -> (BundleId, Vec<JobId>) {
    let mut bundle = stage.look_bundle(vec![]);
    bundle.rollout = Some(rollout);
    let answer = stage.client.push(stage.operator.sign(&bundle).as_bytes()).await.unwrap();
    (answer.rollout_id.unwrap(), answer.job_ids)
}

/// The rollout, once its phase is this one.
async fn in_phase(stage: &Stage, id: BundleId, phase: &str) -> Value {
    until("the rollout to get there", || async {
        let rollout = stage.client.rollout(id).await.ok()?;
        (rollout["phase"]["phase"] == phase).then_some(rollout)
    })
    .await
}

#[tokio::test]
async fn a_rollout_reaches_a_fleet_wave_by_wave_also_where_connections_come_and_go() {
    let flapping = Script::Flapping { up: Duration::from_millis(300), down: Duration::from_millis(200) };
    let (stage, mut swarm) = fleet(30, |number| if number % 5 == 0 { flapping } else { Script::PROMPT }).await;
    let (id, jobs) = roll_out(&stage, json!({"waves": [3, 10], "pause_s": 0})).await;
    let rollout = in_phase(&stage, id, "finished").await;
    assert_eq!((&rollout["waves"], &rollout["counts"]["succeeded"]), (&json!([3, 10, 30]), &json!(30)));
    let at: Vec<_> = jobs.iter().map(|job| swarm.ledger.journaled_at(*job).unwrap()).collect();
    assert!(at[..3].iter().max() < at[3..].iter().min(), "nobody before the canary");
    assert!(at[3..10].iter().max() < at[10..].iter().min());
    swarm.stop().await;
}

#[tokio::test]
async fn a_bad_bundle_stops_at_its_canary() {
    let (stage, mut swarm) = fleet(30, |_| Script::Failing).await;
    let (id, jobs) = roll_out(&stage, json!({"waves": [3], "pause_s": 0, "min_sample": 3})).await;
    let rollout = in_phase(&stage, id, "aborted").await;
    assert_eq!(rollout["counts"]["failed"], 3);
    let ran = jobs.iter().filter(|job| swarm.ledger.journaled_at(**job).is_some()).count();
    assert_eq!(ran, 3);
    swarm.stop().await;
}
