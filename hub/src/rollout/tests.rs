//! W1 to W6 by hand, and a thousand rollouts of a bad bundle.

use serde_json::json;

use super::*;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(1_000_000 + 1000 * seconds)
}

fn plan(rollout: serde_json::Value, targets: u32) -> Plan {
    Plan::read(&rollout, targets).unwrap()
}

fn counts(waiting: u32, running: u32, succeeded: u32, failed: u32) -> Counts {
    Counts {
        released: waiting + running + succeeded + failed,
        waiting,
        running,
        succeeded,
        failed,
        ..Counts::default()
    }
}

#[test]
fn the_four_presets_are_what_the_specification_says() {
    let of = |strategy: &str| plan(json!({"strategy": strategy}), 1_000);
    let hundreds: Vec<u32> = (1..=10).map(|n| n * 100).collect();
    assert_eq!((of("critical").waves, of("critical").pause_s), (vec![1_000], 0));
    assert_eq!((of("high").waves, of("high").pause_s), (hundreds.clone(), 30));
    assert_eq!((of("medium").waves, of("medium").pause_s), (vec![10, 100, 1_000], 30));
    assert_eq!((of("low").waves, of("low").pause_s), (hundreds, 0));
    let usual = plan(json!({}), 1_000);
    assert_eq!((usual.pause_at, usual.abort_at, usual.min_sample, usual.verify_s), (0.05, 0.10, 20, 120));
}

#[test]
fn waves_are_numbers_and_shares_of_all_and_end_with_all() {
    let waves = |waves: serde_json::Value, targets| plan(json!({"waves": waves}), targets).waves;
    assert_eq!(waves(json!([1, 10, 100, "25%", "100%"]), 15_000), [1, 10, 100, 3_750, 15_000]);
    assert_eq!(waves(json!([1, 10, 100, "25%", "100%"]), 40), [1, 10, 40], "waves that mean the same are one");
    assert_eq!(waves(json!(["1%"]), 10), [1, 10], "a share is somebody at least, and all come in the end");
    assert_eq!(plan(json!({"batch": 3}), 10).waves, [3, 6, 9, 10]);
    let plan = plan(json!({"waves": [2, 5]}), 9);
    let placed: Vec<u32> = (0..9).map(|target| plan.wave_of(target)).collect();
    assert_eq!(placed, [0, 0, 1, 1, 1, 2, 2, 2, 2]);
}

#[test]
fn a_rollout_that_cannot_be_is_refused_by_the_members_name() {
    for (rollout, word) in [
        (json!({"waves": []}), "waves"),
        (json!({"waves": [0]}), "waves"),
        (json!({"waves": ["150%"]}), "waves"),
        (json!({"waves": ["ten"]}), "waves"),
        (json!({"waves": [1], "batch": 3}), "batch"),
        (json!({"pause_at": 0.2, "abort_at": 0.1}), "pause_at"),
        (json!({"abort_at": 0}), "abort_at"),
        (json!({"verify_s": 0}), "verify_s"),
        (json!({"strategy": "brave"}), "brave"),
        (json!({"speed": 3}), "speed"),
        (json!("fast"), "rollout"),
    ] {
        let refusal = Plan::read(&rollout, 100).unwrap_err().to_string();
        assert!(refusal.contains(word), "{rollout}: {refusal}");
    }
}

#[test]
fn w1_a_wave_comes_when_the_one_before_is_through_and_the_pause_is_over() {
    let plan = plan(json!({"waves": [10, 100], "pause_s": 30}), 100);
    let (state, acts) = State::begin(at(0));
    assert_eq!(acts, [Act::Release(0)]);
    let (same, acts) = state.step(&plan, &counts(0, 1, 9, 0), at(5));
    assert_eq!((&same, acts.len()), (&state, 0), "one still runs");
    let (pausing, acts) = state.step(&plan, &counts(0, 0, 10, 0), at(6));
    assert_eq!((&pausing.phase, acts.len()), (&Phase::Pausing { until: at(36) }, 0));
    assert!(pausing.step(&plan, &counts(0, 0, 10, 0), at(35)).1.is_empty());
    let (second, acts) = pausing.step(&plan, &counts(0, 0, 10, 0), at(36));
    assert_eq!((second.wave, acts), (1, vec![Act::Release(1)]));
    let (over, acts) = second.step(&plan, &counts(0, 0, 100, 0), at(60));
    assert_eq!(over.phase, Phase::Finished);
    assert!(matches!(&acts[..], [Act::Tell("rollout_finished", _)]));
    assert!(over.step(&plan, &counts(0, 0, 0, 100), at(99)).1.is_empty(), "nothing comes after the end");
}

#[test]
fn w2_a_missing_answer_is_a_failure_and_an_absent_droplet_is_not() {
    let plan = plan(json!({"waves": [40, 100], "pause_s": 0}), 100);
    let (state, _) = State::begin(at(0));
    let absent = Counts { absent: 10, ..counts(0, 0, 30, 0) };
    assert_eq!(state.step(&plan, &absent, at(1)).1, [Act::Release(1)]);
    let missing = Counts { missing: 4, ..counts(0, 0, 36, 0) };
    assert!(matches!(state.step(&plan, &missing, at(1)).0.phase, Phase::Aborted { .. }));
    let nobody = Counts { absent: 40, released: 40, ..Counts::default() };
    let (paused, _) = state.step(&plan, &nobody, at(1));
    assert!(matches!(paused.phase, Phase::Paused { .. }), "nothing is known then");
    assert_eq!(paused.steer(&plan, &nobody, Wish::Resume, at(2)).unwrap().0.wave, 1, "who looked may go on");
}

#[test]
fn w3_nothing_is_judged_on_fewer_than_the_minimum_sample() {
    let plan = plan(json!({"waves": [100]}), 100);
    let (state, _) = State::begin(at(0));
    assert_eq!(state.step(&plan, &counts(81, 0, 0, 19), at(1)).0.phase, Phase::Running);
    assert!(matches!(state.step(&plan, &counts(80, 0, 18, 2), at(1)).0.phase, Phase::Aborted { .. }));
    assert!(matches!(state.step(&plan, &counts(80, 0, 19, 1), at(1)).0.phase, Phase::Paused { .. }));
    assert_eq!(state.step(&plan, &counts(79, 0, 20, 1), at(1)).0.phase, Phase::Running, "1 of 21 is below 5 %");
}

#[test]
fn w4_a_failure_in_a_wave_too_small_to_be_judged_waits_for_somebody() {
    let plan = plan(json!({"waves": [1, 100]}), 100);
    let (state, _) = State::begin(at(0));
    let (paused, acts) = state.step(&plan, &counts(0, 0, 0, 1), at(1));
    assert!(matches!((&paused.phase, &acts[..]), (Phase::Paused { .. }, [Act::Tell("rollout_paused", _)])));
}

#[test]
fn w5_what_was_resumed_over_does_not_pause_again_and_too_much_aborts_still() {
    let plan = plan(json!({"waves": [100, 1000], "pause_s": 0}), 1000);
    let (state, _) = State::begin(at(0));
    let (paused, _) = state.step(&plan, &counts(50, 0, 47, 3), at(1));
    assert!(matches!(paused.phase, Phase::Paused { .. }));
    let (resumed, _) = paused.steer(&plan, &counts(50, 0, 47, 3), Wish::Resume, at(2)).unwrap();
    assert_eq!(resumed.phase, Phase::Running);
    assert_eq!(resumed.step(&plan, &counts(49, 0, 48, 3), at(3)).0.phase, Phase::Running);
    assert!(matches!(resumed.step(&plan, &counts(40, 0, 56, 4), at(3)).0.phase, Phase::Paused { .. }));
    assert!(matches!(resumed.step(&plan, &counts(40, 0, 54, 6), at(3)).0.phase, Phase::Aborted { .. }));
    assert!(matches!(paused.step(&plan, &counts(40, 0, 40, 20), at(3)).0.phase, Phase::Aborted { .. }));
}

#[test]
fn w6_an_abort_withdraws_and_rolls_back_where_that_was_signed() {
    let mut plan = plan(json!({}), 100);
    let (state, _) = State::begin(at(0));
    let (over, acts) = state.steer(&plan, &Counts::default(), Wish::Abort, at(1)).unwrap();
    assert!(over.phase.is_over() && acts.contains(&Act::Withdraw) && !acts.contains(&Act::RollBack));
    plan.rollback = Some("signed".into());
    assert!(state.steer(&plan, &Counts::default(), Wish::Abort, at(1)).unwrap().1.contains(&Act::RollBack));
    for wish in [Wish::Pause, Wish::Resume, Wish::Abort] {
        assert!(over.steer(&plan, &Counts::default(), wish, at(2)).is_err());
    }
}

struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % below
    }
}

/// A target as it goes.
#[derive(Clone, Copy)]
struct Target {
    is_there: bool,
    given_at: Option<i64>,
    answers_at: Option<i64>,
    fails: bool,
}

/// What the store would count.
fn count(targets: &[Target], released: u32, state: &State, plan: &Plan, now: i64) -> Counts {
    let mut counts = Counts { released, ..Counts::default() };
    let verify = i64::from(plan.verify_s);
    for target in &targets[..released as usize] {
        let field = match (target.given_at, target.answers_at) {
            (None, _) if target.is_there || at(now).millis_since(state.released_at) < 1000 * verify => {
                &mut counts.waiting
            }
            (None, _) => &mut counts.absent,
            (Some(_), Some(answers)) if answers <= now && target.fails => &mut counts.failed,
            (Some(_), Some(answers)) if answers <= now => &mut counts.succeeded,
            (Some(given), _) if now - given < verify => &mut counts.running,
            (Some(_), _) => &mut counts.missing,
        };
        *field += 1;
    }
    counts
}

/// Plays one rollout to its end, or to a pause that nobody ends; how many were given the bundle, and its last state.
fn play(seed: u64, targets: u32, percent_bad: u64, in_flight: usize, rollout: &serde_json::Value) -> (u32, State) {
    let (mut dice, plan) = (Dice(seed), plan(rollout.clone(), targets));
    let mut all: Vec<Target> = (0..targets)
        .map(|_| Target { is_there: dice.roll(100) < 80, given_at: None, answers_at: None, fails: false })
        .collect();
    let (mut state, mut acts) = State::begin(at(0));
    let (mut released, mut withdrawn) = (0, false);
    for now in 0..40_000 {
        for act in acts.drain(..) {
            match act {
                Act::Release(wave) => released = plan.waves[wave as usize],
                Act::Withdraw => withdrawn = true,
                Act::RollBack | Act::Tell(..) => {}
            }
        }
        let busy = all.iter().filter(|t| t.given_at.is_some() && t.answers_at.is_none_or(|at| at > now)).count();
        let mut room = in_flight.saturating_sub(busy);
        for target in all[..released as usize].iter_mut().filter(|t| t.is_there && t.given_at.is_none()) {
            if room == 0 || withdrawn {
                break;
            }
            room -= 1;
            target.given_at = Some(now);
            target.fails = dice.roll(100) < percent_bad;
            // A quarter of what fails is never heard of again.
            let is_mute = target.fails && dice.roll(4) == 0;
            let after = 1 + i64::try_from(dice.roll(90)).unwrap();
            target.answers_at = (!is_mute).then_some(now + after);
        }
        // The hub is restarted at every step: what goes on is what was stored.
        state = serde_json::from_str(&serde_json::to_string(&state).unwrap()).unwrap();
        let (next, more) = state.step(&plan, &count(&all, released, &state, &plan, now), at(now));
        (state, acts) = (next, more);
        if state.phase.is_over() || matches!(state.phase, Phase::Paused { .. }) {
            if acts.contains(&Act::Withdraw) || matches!(state.phase, Phase::Paused { .. }) {
                break;
            }
            return (given(&all), state);
        }
    }
    (given(&all), state)
}

fn given(all: &[Target]) -> u32 {
    u32::try_from(all.iter().filter(|target| target.given_at.is_some()).count()).unwrap()
}

#[test]
fn of_a_thousand_bad_rollouts_none_reaches_more_than_the_canary_and_what_is_in_flight() {
    const IN_FLIGHT: u32 = 100;
    let mut widest = 0;
    for seed in 0..1_000 {
        let mut dice = Dice(seed);
        let targets = 3_000 + u32::try_from(dice.roll(3_000)).unwrap();
        let percent_bad = 50 + dice.roll(51);
        let (ran, state) =
            play(seed, targets, percent_bad, IN_FLIGHT as usize, &json!({"waves": ["1%", "10%", "100%"]}));
        let canary = targets.div_ceil(100);
        assert!(ran <= canary + IN_FLIGHT, "seed {seed}: {ran} of {targets} ran it, {percent_bad} % bad: {state:?}");
        assert!(!matches!(state.phase, Phase::Finished), "seed {seed}");
        widest = widest.max(ran);
    }
    assert!(widest > 20, "and it did run somewhere: {widest}");
}

#[test]
fn a_good_rollout_reaches_everybody_who_is_there() {
    for seed in 0..50 {
        let (ran, state) = play(seed, 1_000, 0, 100, &json!({"waves": [20, 100, "25%"], "pause_s": 5}));
        assert_eq!(state.phase, Phase::Finished, "seed {seed}");
        assert!(ran > 700, "seed {seed}: {ran}");
    }
}
