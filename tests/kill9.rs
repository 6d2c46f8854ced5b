//! `kill -9` of agent and hub at random moments of every action: each bundle ends in its outcome, and nothing is lost
//! or there twice.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test that cannot go on fails; a seed is printed")]

use genesis_tests::kills::{Killer, supported_actions};
use genesis_tests::n8n::Kind;
use genesis_tests::operator::random;
use genesis_tests::rig::Rig;

async fn survives(kind: Kind, kills: u32) {
    let seed = std::env::var("GENESIS_SEED").ok().and_then(|s| s.parse().ok());
    let seed = seed.unwrap_or_else(|| u64::from_le_bytes(random()));
    eprintln!("GENESIS_SEED={seed}");
    let figures = Killer::new(Rig::new(kind).await, seed, kills).await.unwrap().run().await;
    eprintln!("{figures:?}");
    assert_eq!((figures.lost, figures.doubled), (0, 0), "{:#?}", figures.wrongs);
    assert!(figures.kills >= kills, "{} kills", figures.kills);
    assert_eq!(figures.actions, supported_actions(), "every action was open at a kill");
}

mod stand_in {
    #[tokio::test]
    async fn survives_kills_over_all_actions() {
        super::survives(super::Kind::StandIn, 50).await;
    }
}

mod real_n8n {
    #[tokio::test]
    async fn survives_kills_over_all_actions() {
        super::survives(super::Kind::Real, 40).await;
    }
}
