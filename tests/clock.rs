//! A wrong clock stops neither the workload nor the heartbeats, and a clock put right brings commands back.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that cannot go on fails, and figures are printed")]

use std::time::Duration;

use genesis_agent::ports::Clock;
use genesis_shared::command::CommandWire;
use genesis_shared::report::OutcomeState;
use genesis_tests::droplet::Droplet;
use genesis_tests::scenario::{held, recipient, small_tenant};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR_MS: i64 = 3_600_000;
const MINUTES_A_DAY: i64 = 24 * 60;

fn look() -> Vec<CommandWire> {
    vec![CommandWire { action: "HEALTH_CHECK".into(), payload: None }]
}

/// Plays a day in which the clock is off by `skew_ms` of the minute, which may depend on the time that it is.
async fn a_day(skew_ms: impl Fn(i64, i64) -> i64) {
    let droplet = Droplet::new(11);
    let to = recipient(&droplet).await;
    assert_eq!(droplet.run(small_tenant(to)).await.state, OutcomeState::Succeeded);
    let workload = held(&droplet);
    let hub = &droplet.outside.hub;
    // A new life each six hours: a reboot, after which the agent knows only what the disk says.
    let (mut beats, mut longest, mut silent, mut down) = (hub.beats(), 0, 0, 0);
    let began_ms = droplet.outside.clock.now().millis_since(genesis_shared::timestamp::Timestamp::from_millis(0));
    for quarter in 0..4 {
        let minutes = async {
            for minute in quarter * MINUTES_A_DAY / 4..(quarter + 1) * MINUTES_A_DAY / 4 {
                droplet.outside.clock.set_skew_ms(skew_ms(minute, began_ms));
                tokio::time::sleep(MINUTE).await;
                silent = if hub.beats() > beats { 0 } else { silent + 1 };
                longest = longest.max(silent);
                beats = hub.beats();
                down += usize::from(held(&droplet) != workload);
            }
        };
        let agent = droplet.agent();
        tokio::select! {
            ended = agent.run() => panic!("the agent ended: {ended:?}"),
            () = minutes => {}
        }
    }
    println!("{beats} heartbeats in a day, at most {longest} minutes without one; workload changed {down} times");
    assert!(beats >= 24 * 50, "{beats} heartbeats");
    assert!(longest <= 3, "{longest} minutes without a heartbeat");
    assert_eq!(down, 0, "the workload ran all day");
    // Whatever became of the clock, what is rightly asked when it is right again is done.
    droplet.outside.clock.set_skew_ms(0);
    let result = droplet.run(look()).await;
    assert_eq!(result.state, OutcomeState::Succeeded, "{}", result.message);
}

#[tokio::test(start_paused = true)]
async fn with_the_clock_at_1970_workload_and_heartbeats_go_on() {
    a_day(|_, began_ms| -began_ms).await;
}

#[tokio::test(start_paused = true)]
async fn with_the_clock_ten_years_ahead_workload_and_heartbeats_go_on() {
    a_day(|_, _| 10 * 365 * 24 * HOUR_MS).await;
}

#[tokio::test(start_paused = true)]
async fn with_a_clock_that_jumps_an_hour_each_minute_workload_and_heartbeats_go_on() {
    a_day(|minute, _| minute * HOUR_MS).await;
    a_day(|minute, _| -minute * HOUR_MS).await;
    a_day(|minute, _| if minute % 2 == 0 { HOUR_MS } else { -HOUR_MS }).await;
}

#[tokio::test(start_paused = true)]
async fn with_a_wrong_clock_a_command_is_refused_by_the_rule_that_sees_it() {
    for skew_ms in [10 * 365 * 24 * HOUR_MS, -40 * 24 * HOUR_MS] {
        let droplet = Droplet::new(11);
        assert_eq!(droplet.run(look()).await.state, OutcomeState::Succeeded);
        let text = droplet.signed(look());
        droplet.outside.clock.set_skew_ms(skew_ms);
        let job = droplet.outside.hub.push(&text);
        let result = droplet.while_running(droplet.result(job)).await;
        // Ahead, every key has expired. Behind, the time floor stands, and the hub's token does not fit it.
        let rule = if skew_ms > 0 { "a6_scope" } else { "a11_delivery" };
        assert_eq!(result.code, rule, "{}", result.message);
    }
}
