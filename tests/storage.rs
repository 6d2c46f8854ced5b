//! Power cuts and full disks at every single change that the journal asks its disk for: what was accepted is there, once.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use genesis_agent::journal::Journal;
use genesis_power::{Disk, Failure, VFS};
use genesis_shared::report::OutcomeState;
use genesis_tests::power::script::{a_life, forgetting};
use genesis_tests::power::{agent, cut_everywhere, fail_everywhere};
use genesis_tests::scenario::{Scenario, scenarios};

#[test]
fn no_power_cut_loses_what_was_answered_or_leaves_half_of_a_call() {
    let cuts = cut_everywhere(&a_life(), 2, true);
    assert!(cuts.cuts > 1000, "{cuts:?}");
    assert_eq!((cuts.lost, cuts.corrupt), (0, 0), "{cuts:?}");
}

#[test]
fn no_power_cut_while_the_journal_forgets_makes_it_forget_more() {
    let cuts = cut_everywhere(&forgetting(), 1, true);
    assert!(cuts.cuts > 1000, "{cuts:?}");
    assert_eq!((cuts.lost, cuts.corrupt), (0, 0), "{cuts:?}");
}

#[test]
fn on_a_drive_that_only_pretends_to_sync_the_same_proof_finds_losses() {
    let cuts = cut_everywhere(&a_life(), 1, false);
    assert!(cuts.lost > cuts.cuts / 10, "{cuts:?}");
}

#[test]
fn a_full_disk_changes_nothing_and_the_same_journal_goes_on_when_there_is_space() {
    for script in [a_life(), forgetting()] {
        let failed = fail_everywhere(&script, Failure::Full, "journal_full");
        assert!(failed > 50, "{}: {failed} calls failed", script.name);
    }
}

#[test]
fn a_broken_disk_changes_nothing_and_the_same_journal_goes_on_when_it_works_again() {
    assert!(fail_everywhere(&a_life(), Failure::Broken, "journal_unusable") > 50);
}

#[test]
fn a_journal_that_is_there_opens_on_a_full_disk_so_that_the_agent_can_say_so() {
    let disk = Disk::new();
    let open = || Journal::open_over(&disk.path("journal.db"), Some(VFS));
    let journal = open().unwrap();
    journal.set_meta("pace", b"calm").unwrap();
    // Its end finds the disk full too, so the log stays.
    disk.fail_from(1, Failure::Full);
    drop(journal);
    let journal = open().unwrap();
    assert_eq!(journal.meta("pace").unwrap().unwrap(), b"calm");
    assert_eq!(journal.set_meta("pace", b"wild").unwrap_err().code(), "journal_full");
}

/// A small scenario in which something is made in n8n.
fn making() -> Scenario {
    let mut small = scenarios().into_iter().filter(|s| s.is_small && s.outcome == OutcomeState::Succeeded);
    small.find(|scenario| scenario.actions.iter().any(|action| action == "INJECT_CREDENTIAL")).unwrap()
}

#[tokio::test(start_paused = true)]
async fn an_agent_whose_power_is_cut_anywhere_ends_its_command_once() {
    let cuts = agent::cut_everywhere(&making(), 0).await;
    assert!(cuts > 200, "{cuts} cuts");
}

#[tokio::test(start_paused = true)]
async fn an_agent_whose_disk_is_full_anywhere_ends_its_command_once_when_there_is_space() {
    let ended = agent::full_everywhere(&making()).await;
    assert!(ended > 50, "it ended {ended} times for want of space");
}
