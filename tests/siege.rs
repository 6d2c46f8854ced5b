//! Whatever bad clients do, others are still served, and the bad ones are gone after their time. Real processes.
//! `genesis-bench siege` does the same with 10,000 connections.
#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test that cannot go on, or meets anything else, fails"
)]

use std::net::{IpAddr, Ipv4Addr};

use genesis_tests::PATIENCE;
use genesis_tests::hub::BareHub;
use genesis_tests::siege::{Evil, Target};
use genesis_tests::until;
use tokio::task::JoinSet;

const EVIL: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

/// The value of a series of the hub's metrics.
async fn metric(hub: &BareHub, series: &str) -> f64 {
    let text = hub.text("/metrics").await;
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ').map(str::to_owned));
    line.unwrap_or_else(|| panic!("{series} is not there")).parse().unwrap()
}

#[tokio::test]
async fn others_are_served_while_every_kind_of_bad_client_is_there_and_each_is_cut_off() {
    let mut hub = BareHub::start("slow_client_s = 2\n").await;
    let droplet = hub.enrol("412001").await;
    let target = Target::new(&hub, EVIL);
    let mut bad = JoinSet::new();
    for evil in Evil::ALL {
        let count = if matches!(evil, Evil::Oversized | Evil::Endless | Evil::Deaf) { 4 } else { 25 };
        for _ in 0..count {
            bad.spawn(target.clone().attack(evil));
        }
    }
    until("the siege to stand", || async { (metric(&hub, "genesis_hub_connections").await > 100.0).then_some(()) })
        .await;
    let client = hub.http();
    for round in 0..60 {
        // New connections as well as one that was there.
        let client = if round % 10 == 0 { hub.http() } else { client.clone() };
        let answer = client.get(hub.url("/readyz")).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        let path = "/api/v1/sidecar/commands?wait=0&nonce=0123456789abcdef";
        let answer = client.get(hub.url(path)).bearer_auth(&droplet.token).send().await.unwrap();
        assert_eq!(answer.status(), 204);
    }
    // Nobody keeps a place: not who is silent, nor who drips, nor who never listens.
    tokio::time::timeout(PATIENCE, async { while bad.join_next().await.is_some() {} }).await.expect("all are cut off");
    drop(client);
    until("the places to be free", || async { (metric(&hub, "genesis_hub_connections").await < 3.0).then_some(()) })
        .await;
    assert!(hub.process.is_running());
    assert!(!hub.process.log().contains("panicked"));
}

#[tokio::test]
async fn one_address_cannot_take_the_places_of_all_others() {
    let hub = BareHub::start("slow_client_s = 600\nconnections_max = 60\nconnections_per_address_max = 40\n").await;
    let target = Target::new(&hub, EVIL);
    let mut held = JoinSet::new();
    for _ in 0..100 {
        held.spawn(target.clone().attack(Evil::Mute));
    }
    // 40 stay; the 60 others are sent away at once, and 20 places are left for everybody else.
    let mut gone = 0;
    while gone < 60 {
        tokio::time::timeout(PATIENCE, held.join_next()).await.expect("an end").unwrap().unwrap();
        gone += 1;
    }
    for _ in 0..20 {
        assert_eq!(hub.http().get(hub.url("/readyz")).send().await.unwrap().status(), 200);
    }
    assert_eq!(metric(&hub, "genesis_hub_connections_dropped_total{reason=\"address\"}").await, 60.0);
    assert_eq!(held.len(), 40);
    // Who has had enough of it makes room.
    held.abort_all();
    until("room", || async { Target::new(&hub, EVIL).shake().await.ok() }).await;
}
