//! `kill -9` of agent and hub at random moments of an ignition: it completes all the same, and nothing is there twice.
#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test that cannot go on, or meets anything else, fails"
)]

use std::collections::BTreeSet;
use std::time::Duration;

use genesis_shared::wire::{JobState, JobView};
use genesis_tests::n8n::{Content, Kind};
use genesis_tests::operator::random;
use genesis_tests::rig::Rig;
use serde_json::Value;

/// Kills in all.
const KILLS: u32 = 50;

/// A small generator whose seed is printed, so that a run can be repeated.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        // SplitMix64 (Steele, Lea, Flood 2014).
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % below
    }
}

async fn survives_fifty_kills(kind: Kind) {
    let seed = std::env::var("GENESIS_SEED").ok().and_then(|s| s.parse().ok());
    let seed = seed.unwrap_or_else(|| u64::from_le_bytes(random()));
    #[allow(clippy::print_stderr, reason = "a failing run is repeated with its seed")]
    {
        eprintln!("GENESIS_SEED={seed}");
    }
    let mut dice = Dice(seed);
    let mut rig = Rig::new(kind).await;
    let (mut kills, mut round) = (0, 0);
    // Each round is a new bundle that changes every workflow, so creations and updates both meet kills.
    while kills < KILLS {
        round += 1;
        let mut commands = rig.ignition().await;
        for command in commands.iter_mut().filter(|command| command.action == "DEPLOY_WORKFLOW") {
            let variables = &mut command.payload.as_mut().unwrap()["variables"];
            variables["YOUR_DASHBOARD_URL"] = Value::from(format!("https://round-{round}.example.com"));
        }
        let bundle = rig.operator.bundle(rig.workspace, commands);
        let job = rig.push(&rig.operator.sign(&bundle)).await;
        while kills < KILLS && still_open(&rig, job).await {
            // Now and then a life is long enough for a step even on a busy machine: the agent gives up a command that
            // it has to take up again and again without any progress, which is another test.
            let at_least = if kills % 4 == 3 { 1000 } else { 20 };
            tokio::time::sleep(Duration::from_millis(at_least + dice.roll(400))).await;
            if dice.roll(3) == 0 {
                rig.crash_hub().await
            } else {
                rig.crash_agent()
            }
            kills += 1;
        }
        let view = rig.finished(job).await;
        check(&rig, &view, round).await;
    }
}

async fn still_open(rig: &Rig, job: genesis_shared::id::JobId) -> bool {
    // A hub that was just killed may not answer yet; the job counts as open then.
    rig.client.job(job).await.map_or(true, |view| !view.state.is_final())
}

async fn check(rig: &Rig, view: &JobView, round: u32) {
    let result = view.result.as_ref().unwrap();
    assert_eq!(view.state, JobState::Succeeded, "{}: {}\n{}", result.code, result.message, rig.agent.log());
    let content = rig.n8n.content(&rig.n8n_key()).await;
    nothing_is_there_twice(&content);
    let text = serde_json::to_string(&content.workflows).unwrap();
    assert!(text.contains(&format!("https://round-{round}.example.com")));
    assert!(!text.contains(&format!("https://round-{}.example.com", round - 1)), "an older round was left behind");
}

fn nothing_is_there_twice(content: &Content) {
    let names = |items: &[Value]| items.iter().map(|item| item["name"].to_string()).collect::<BTreeSet<_>>().len();
    assert_eq!((content.credentials.len(), names(&content.credentials)), (6, 6));
    assert_eq!((content.workflows.len(), names(&content.workflows)), (7, 7));
    assert!(content.workflows.iter().all(|workflow| workflow["active"] == true));
}

mod stand_in {
    #[tokio::test]
    async fn survives_fifty_kills() {
        super::survives_fifty_kills(super::Kind::StandIn).await;
    }
}

mod real_n8n {
    #[tokio::test]
    async fn survives_fifty_kills() {
        super::survives_fifty_kills(super::Kind::Real).await;
    }
}
