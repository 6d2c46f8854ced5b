//! `kill -9` of the hub under load: what it had acknowledged it knows afterwards.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use genesis_tests::swarm::kills;

#[test]
fn a_hub_that_is_killed_under_load_loses_nothing_that_it_acknowledged_and_doubles_nothing() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let figures = runtime.block_on(kills::run(12, 5, 7)).unwrap();
    assert_eq!((figures.kills, figures.lost, figures.doubled), (5, 0, 0), "{figures:?}");
    assert!(figures.pushed > 10 && figures.reported >= figures.pushed, "{figures:?}");
}
