//! n8n hangs in the middle of a bundle for longer than the agent waits, and then carries out what it had taken: the
//! agent has asked again meanwhile, and all the same nothing is there twice.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeSet;
use std::time::Duration;

use genesis_shared::command::CommandWire;
use genesis_shared::secret::Secret;
use genesis_shared::wire::JobState;
use genesis_tests::n8n::Kind;
use genesis_tests::operator::random;
use genesis_tests::rig::Rig;
use genesis_tests::until;
use genesisctl::sealing::{self, Recipient};
use serde_json::json;

/// Bundles, each with one freeze.
const ROUNDS: usize = 4;
/// Credentials per bundle: enough creates for a freeze to meet one.
const CREATES: usize = 60;
/// Longer than the agent of the rig waits for an answer (2 s).
const FREEZE: Duration = Duration::from_millis(2700);

async fn survives_freezes(kind: Kind) {
    let rig = Rig::new(kind).await;
    let to = Recipient { workspace: rig.workspace, key: rig.enrolled().await.sealing_key.unwrap() };
    let inject = |round: usize, n: usize| -> CommandWire {
        let data = Secret::new(json!({"name": "X-Key", "value": "v"}).to_string().into_bytes());
        let name = format!("r{round}-c{n}").parse().unwrap();
        sealing::credential(to, &name, &"httpHeaderAuth".parse().unwrap(), &data, random()).unwrap()
    };
    for round in 1..=ROUNDS {
        let commands = (0..CREATES).map(|n| inject(round, n)).collect();
        let bundle = rig.operator.bundle(rig.workspace, commands);
        let job = rig.push(&rig.operator.sign(&bundle)).await;
        let begun = (round - 1) * CREATES + 1 + 3 * round;
        if round > 1 {
            until("creates to be under way", || async {
                (rig.n8n.content(&rig.n8n_key()).await.credentials.len() >= begun).then_some(())
            })
            .await;
        }
        rig.n8n.freeze(true);
        tokio::time::sleep(FREEZE).await;
        rig.n8n.freeze(false);
        let view = rig.finished(job).await;
        assert_eq!(view.state, JobState::Succeeded, "{:?}", view.result);
        let credentials = rig.n8n.content(&rig.n8n_key()).await.credentials;
        let names: BTreeSet<String> = credentials.iter().map(|c| c["name"].to_string()).collect();
        assert_eq!((credentials.len(), names.len()), (round * CREATES, round * CREATES));
    }
    assert!(rig.agent.log().contains("n8n_no_answer"), "a freeze met a request");
}

mod stand_in {
    #[tokio::test]
    async fn survives_freezes() {
        super::survives_freezes(super::Kind::StandIn).await;
    }
}

mod real_n8n {
    #[tokio::test]
    async fn survives_freezes() {
        super::survives_freezes(super::Kind::Real).await;
    }
}
