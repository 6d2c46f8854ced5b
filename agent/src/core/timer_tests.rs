//! Waits of one agent stay within their bounds; those of a fleet do not pile up.

use super::*;
use proptest::prelude::*;

/// Agents of a large fleet.
const FLEET: u64 = 15_000;
/// The interval of heartbeats.
const USUAL: Duration = Duration::from_secs(60);
/// The window over which a fleet comes back, in seconds.
const WINDOW_S: usize = 30;

proptest! {
    #[test]
    fn stays_within_the_bound_for_every_attempt(attempt in any::<u32>(), random in any::<u64>(), usual_s in 0_u64..4000) {
        let usual = Duration::from_secs(usual_s);
        for wait in [backoff(attempt, random), reconnect(usual, attempt, random)] {
            prop_assert!(wait.as_millis() <= u128::from(BACKOFF_MS_MAX));
            prop_assert!(wait.as_millis() >= u128::from(BACKOFF_MS_MIN / 20));
        }
        prop_assert!(first_beat(usual, random) <= usual);
        let between = beat_after(usual, random);
        prop_assert!(between <= usual && between >= usual * 9 / 10);
    }
}

#[test]
fn the_bound_doubles_until_the_cap_and_jitter_spans_it() {
    assert_eq!(backoff(1, BACKOFF_MS_MIN - BACKOFF_MS_MIN / 20), Duration::from_millis(BACKOFF_MS_MIN));
    let spread: Vec<u128> = (0..1000).map(|n| backoff(40, n * 7919).as_millis()).collect();
    assert!(spread.iter().max() > Some(&29_000) && spread.iter().min() < Some(&3_000));
}

/// SplitMix64 (Steele, Lea, Flood 2014), one sequence for each agent.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

fn fleet() -> impl Iterator<Item = Dice> {
    (0..FLEET).map(|n| Dice(n.wrapping_mul(0xD134_2543_DE82_EF95)))
}

/// How many agents of a fleet that lost its hub in the same moment come back in each second after it is there again.
fn came_back(hub_away: Duration, wait: fn(u32, u64) -> Duration) -> Vec<u64> {
    let mut seconds = vec![0; WINDOW_S + 1];
    for mut dice in fleet() {
        let (mut at, mut attempt) = (Duration::ZERO, 0);
        while at <= hub_away {
            attempt += 1;
            at += wait(attempt, dice.roll());
        }
        seconds[usize::try_from((at - hub_away).as_secs()).unwrap()] += 1;
    }
    assert_eq!(seconds.iter().sum::<u64>(), FLEET, "everybody is back within the window");
    seconds
}

const AWAY: [Duration; 6] = [
    Duration::ZERO,
    Duration::from_millis(700),
    Duration::from_secs(5),
    Duration::from_secs(45),
    Duration::from_secs(3600),
    Duration::from_secs(3 * 24 * 3600),
];

#[test]
fn fifteen_thousand_agents_that_lost_their_hub_at_once_come_back_spread_out() {
    let mean = FLEET / WINDOW_S as u64;
    for away in AWAY {
        let most = *came_back(away, |attempt, random| reconnect(USUAL, attempt, random)).iter().max().unwrap();
        #[allow(clippy::print_stderr, reason = "the figure is worth reading")]
        {
            eprintln!("hub away for {away:?}: at most {most} of {FLEET} agents in one second, {mean} are the mean");
        }
        assert!(most <= 3 * mean, "hub away for {away:?}: {most} agents in one second, {mean} are the mean");
    }
    // The same check refuses a backoff that begins small: after a blink of the hub all are back in a second.
    let most = *came_back(Duration::ZERO, backoff).iter().max().unwrap();
    assert!(most > 3 * mean, "the check can fail: {most}");
}

/// Heartbeats in each second of the hour after a whole fleet was started in the same moment.
fn beats(first: fn(Duration, u64) -> Duration, after: fn(Duration, u64) -> Duration) -> Vec<u64> {
    let mut seconds = vec![0; 3600];
    for mut dice in fleet() {
        let mut at = first(USUAL, dice.roll());
        while let Some(second) = usize::try_from(at.as_secs()).ok().and_then(|second| seconds.get_mut(second)) {
            *second += 1;
            at += after(USUAL, dice.roll());
        }
    }
    seconds
}

#[test]
fn heartbeats_of_a_fleet_that_was_started_at_once_are_not_in_step() {
    let mean = FLEET / USUAL.as_secs();
    let most = *beats(first_beat, beat_after).iter().max().unwrap();
    assert!(most <= 2 * mean, "{most} in one second, {mean} are the mean");
    assert_eq!(beats(|_, _| Duration::ZERO, |usual, _| usual)[60], FLEET, "the check can fail");
}

#[test]
fn heartbeats_that_fell_into_step_fall_out_of_it_without_an_echo_at_their_interval() {
    // As after an update that starts every agent in the same second, beating at once.
    let seconds = beats(|_, _| Duration::ZERO, beat_after);
    let mean = FLEET / USUAL.as_secs();
    let late = &seconds[3000..];
    let most = *late.iter().max().unwrap();
    assert!(most <= 3 * mean, "{most} in one second after 50 minutes, {mean} are the mean");
}
