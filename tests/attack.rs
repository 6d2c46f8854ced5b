//! The attack suite is withstood, and each single check of the rules is needed for that.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that cannot go on fails, and figures are printed")]

use std::collections::BTreeSet;

use genesis_shared::limits::OUTBOX_RECORDS_MAX;
use genesis_shared::mutant::Check;
use genesis_shared::report::Record;
use genesis_tests::attack::stage::Stage;
use genesis_tests::attack::{cases, catches, play};

#[test]
fn every_attack_is_refused_by_its_rule_and_nothing_is_carried_out() {
    let cases = cases();
    let names: BTreeSet<&str> = cases.iter().map(|case| case.name.as_str()).collect();
    assert_eq!(names.len(), cases.len(), "each case has a name of its own");
    assert!(cases.len() >= 60, "{} cases", cases.len());
    let mut failed = Vec::new();
    for case in &cases {
        let outcome = play(case, None);
        println!("{:<22} {}", case.rule, case.name);
        if !outcome.is_withstood() {
            failed.push((&case.name, outcome));
        }
    }
    println!("{} cases, {} not withstood", cases.len(), failed.len());
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn with_any_single_check_switched_off_some_attack_succeeds() {
    let cases = cases();
    let mut survived = Vec::new();
    for check in Check::ALL {
        match catches(&cases, *check) {
            Some(name) => println!("without {check:?}: {name}"),
            None => survived.push(check),
        }
    }
    assert!(survived.is_empty(), "no attack needs these: {survived:?}");
}

/// A hub could once fill the disk of the workload with refusals that it did not take.
#[tokio::test(start_paused = true)]
async fn a_hub_that_hands_out_rubbish_and_takes_no_reports_fills_no_disk() {
    let stage = Stage::new().await;
    stage.hub().flood(60_000);
    let depth = || stage.hub().last_beat().map_or(0, |beat| beat.outbox_depth);
    stage
        .droplet
        .while_running(async {
            tokio::time::sleep(std::time::Duration::from_secs(3 * 3600)).await;
            println!("{} records wait", depth());
            // One last answer of the hub, and a report of metrics each quarter of an hour.
            assert!((1..=OUTBOX_RECORDS_MAX + 4 + 12).contains(&depth()), "{} records wait", depth());
            stage.hub().flood(0);
            stage.aftermath().await;
        })
        .await;
    assert_eq!(stage.outcome(), (0, vec![]));
}

#[tokio::test(start_paused = true)]
async fn a_root_that_is_refused_is_told_of_once_while_the_hub_insists_on_it() {
    let stage = Stage::new().await;
    let forged = genesis_agent::sim::forge::ForgedRoots { version: 2, documents: vec!["no root".into()] };
    stage.hub().forge_roots(Some(forged));
    stage.droplet.while_running(tokio::time::sleep(std::time::Duration::from_secs(3 * 3600))).await;
    let told = stage.hub().records().into_iter().filter(|record| matches!(record.record, Record::Event(_))).count();
    assert_eq!(told, 1);
    assert!(stage.reaches_the_audit("T4", None));
}
