//! The agent and the bounds of its journal: it asks for no more than it can keep, forgets without forgetting what it
//! needs, and sets aside what it cannot read.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::time::Duration;

use genesis_agent::sim::n8n::Phase;
use genesis_shared::command::CommandWire;
use genesis_shared::limits::{ENDED_COMMANDS_KEPT, OPEN_COMMANDS_MAX};
use genesis_shared::report::{Metrics, OutcomeState, Record};
use genesis_tests::droplet::{Droplet, wait_for};
use genesis_tests::scenario::{held, recipient, small_tenant};
use serde_json::json;

fn command(action: &str) -> Vec<CommandWire> {
    vec![CommandWire { action: action.into(), payload: Some(json!({"key": "hook"})) }]
}

async fn with_a_tenant() -> Droplet {
    let droplet = Droplet::new(1);
    let commands = small_tenant(recipient(&droplet).await);
    assert_eq!(droplet.run(commands).await.state, OutcomeState::Succeeded);
    droplet
}

fn codes(droplet: &Droplet) -> Vec<String> {
    let records = droplet.outside.hub.records().into_iter();
    records.filter_map(|r| if let Record::Event(event) = r.record { Some(event.code) } else { None }).collect()
}

#[tokio::test(start_paused = true)]
async fn no_more_commands_are_taken_than_may_wait_and_none_is_lost() {
    let droplet = with_a_tenant().await;
    let many = OPEN_COMMANDS_MAX + 20;
    // n8n is away until as many wait as may.
    droplet.outside.n8n.borrow_mut().phase = Phase::Refusing;
    let jobs: Vec<_> = (0..many).map(|_| droplet.push(command("ACTIVATE_WORKFLOW"))).collect();
    let waiting = || {
        let records = droplet.outside.hub.records();
        let count = |is: fn(&Record) -> bool| records.iter().filter(|record| is(&record.record)).count() as u64;
        count(|r| matches!(r, Record::Accepted { .. })) - count(|r| matches!(r, Record::Result(_)))
    };
    droplet
        .while_running(async {
            wait_for(|| async { (waiting() >= OPEN_COMMANDS_MAX).then_some(()) }).await;
            droplet.outside.n8n.borrow_mut().phase = Phase::Up;
            for job in jobs {
                assert_eq!(droplet.result(job).await.state, OutcomeState::Succeeded);
            }
        })
        .await;
    let (mut open, mut most) = (0_u64, 0);
    for record in droplet.outside.hub.records() {
        match record.record {
            Record::Accepted { .. } => open += 1,
            Record::Result(_) => open -= 1,
            Record::Event(_) | Record::Metrics(_) | Record::Escrow(_) | Record::Audit(_) => {}
        }
        most = most.max(open);
    }
    assert_eq!((open, most), (0, OPEN_COMMANDS_MAX), "as many as may wait were taken at once, and no more");
}

#[tokio::test(start_paused = true)]
async fn what_was_deployed_long_ago_is_still_repaired_after_the_journal_has_forgotten_later_commands() {
    let droplet = with_a_tenant().await;
    let before = held(&droplet);
    let many = usize::try_from(ENDED_COMMANDS_KEPT).unwrap() + 10;
    let jobs: Vec<_> = (0..many).map(|_| droplet.push(command("ACTIVATE_WORKFLOW"))).collect();
    droplet.while_running(async { droplet.result(jobs[many - 1]).await }).await;
    droplet.while_running(tokio::time::sleep(Duration::from_secs(5))).await;
    let kept: i64 = droplet.query("SELECT count(*) FROM command WHERE length(bundle) > 0");
    assert_eq!(kept, ENDED_COMMANDS_KEPT + 1, "the latest, and the one that brought the tenant");
    {
        let mut standin = droplet.outside.n8n.borrow_mut();
        standin.n8n.credentials.clear();
        standin.n8n.workflows[0].active_version_id = None;
    }
    droplet.while_running(tokio::time::sleep(Duration::from_secs(1200))).await;
    assert_eq!(held(&droplet), before);
}

#[tokio::test(start_paused = true)]
async fn a_redelivered_bundle_whose_row_is_damaged_is_set_aside_and_the_others_go_on() {
    for damage in ["digest = 'x'", "job_id = 'x'", "outcome = x'00'"] {
        let droplet = with_a_tenant().await;
        let job = droplet.push(command("DEACTIVATE_WORKFLOW"));
        droplet.while_running(droplet.result(job)).await;
        droplet.execute(&format!("UPDATE command SET {damage} WHERE job_id = '{job}'"));
        droplet.outside.hub.redeliver(job);
        let second = wait_for(|| async { droplet.outside.hub.results(job).into_iter().nth(1) });
        let second = droplet.while_running(second).await;
        assert_eq!((second.state, second.code.as_str()), (OutcomeState::Stuck, "journal_damaged"), "{damage}");
        assert!(second.message.contains("is not run again"), "{}", second.message);
        assert!(!held(&droplet).workflows[0].1, "{damage}: it did not run again");
        let other = droplet.run(command("ACTIVATE_WORKFLOW")).await;
        assert_eq!(other.state, OutcomeState::Succeeded, "{damage}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_open_command_without_readable_ids_holds_nothing_up() {
    let droplet = with_a_tenant().await;
    droplet.execute("UPDATE command SET outcome = NULL, job_id = 'x'");
    assert_eq!(droplet.run(command("DEACTIVATE_WORKFLOW")).await.state, OutcomeState::Succeeded);
    assert_eq!(codes(&droplet), ["journal_damaged"]);
}

fn metrics(droplet: &Droplet) -> Vec<Metrics> {
    let records = droplet.outside.hub.records().into_iter();
    records.filter_map(|r| if let Record::Metrics(metrics) = r.record { Some(metrics) } else { None }).collect()
}

#[tokio::test(start_paused = true)]
async fn executions_are_counted_every_quarter_of_an_hour_also_while_the_hub_is_away() {
    let droplet = with_a_tenant().await;
    droplet
        .while_running(async {
            tokio::time::sleep(Duration::from_secs(3600)).await;
            let first = metrics(&droplet).len();
            assert!((3..=4).contains(&first), "{first} in an hour");
            droplet.outside.hub.set_away(true);
            tokio::time::sleep(Duration::from_secs(2 * 3600)).await;
            assert_eq!(metrics(&droplet).len(), first);
            droplet.outside.hub.set_away(false);
            tokio::time::sleep(Duration::from_secs(60)).await;
        })
        .await;
    let all = metrics(&droplet);
    assert!((10..=12).contains(&all.len()), "{} in three hours", all.len());
    assert!(all.windows(2).all(|pair| pair[0].since < pair[1].since), "each begins where the one before ended");
}
