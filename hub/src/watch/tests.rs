//! L1 to L5 by hand, and a day of a lossy fleet.

use super::*;

const INTERVAL_MS: i64 = 60_000;
const LATE_MS: i64 = INTERVAL_MS + WATCH_GRACE_MS;
const SILENT_MS: i64 = 3 * INTERVAL_MS + WATCH_GRACE_MS;

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(1_700_000_000_000 + millis)
}

fn workspace(number: u32) -> WorkspaceId {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    WorkspaceId::from_random(bytes)
}

fn fleet(count: u32, was_away: bool) -> Watch {
    let droplets = (0..count).map(|number| Watched {
        workspace: workspace(number),
        region: Some(if number % 4 == 0 { "fra1" } else { "nyc3" }.to_owned()),
        explained: None,
    });
    Watch::new(INTERVAL_MS, droplets, was_away, at(0))
}

fn codes(told: &[Told]) -> Vec<&str> {
    let code = |told: &Told| match told {
        Told::Changed(change) => change.code,
        Told::MassSilence(_) => "mass",
        Told::MassSilenceEnded(_) => "ended",
    };
    // Not the words: they are for people.
    told.iter().map(code).collect()
}

/// Ticks every second from `from` to `to`; what was told, each with its moment.
fn tick(watch: &mut Watch, from: i64, to: i64) -> Vec<(i64, Told)> {
    let moments = (from..=to).step_by(1000);
    moments.flat_map(|now| watch.tick(at(now)).into_iter().map(move |told| (now, told))).collect()
}

fn all(watch: &mut Watch, numbers: std::ops::Range<u32>, now: i64) -> Vec<Told> {
    numbers.flat_map(|number| watch.heard(workspace(number), at(now))).collect()
}

#[test]
fn l2_late_after_one_and_silent_after_three_never_earlier_and_two_seconds_later_at_most() {
    for heard_at in [0, 1, 499, 999, 12_345] {
        let mut watch = fleet(1, false);
        watch.heard(workspace(0), at(heard_at));
        let told = tick(&mut watch, 0, 400_000);
        assert_eq!(
            told.iter().map(|(_, told)| codes(std::slice::from_ref(told))[0]).collect::<Vec<_>>(),
            [LATE, SILENT]
        );
        for ((moment, _), due) in told.iter().zip([heard_at + LATE_MS, heard_at + SILENT_MS]) {
            assert!((due..=due + 2000).contains(moment), "{moment} for {due}");
        }
        assert_eq!(codes(&watch.heard(workspace(0), at(500_000))), [BACK]);
        assert_eq!(watch.liveness(workspace(0)), Some(Liveness::Fresh));
    }
}

#[test]
fn l3_a_lifecycle_explains_silence_until_its_time_is_over() {
    let mut watch = fleet(2, false);
    let until = Some(at(600_000));
    watch.explain(workspace(0), Some(Explained { lifecycle: Lifecycle::Rebooting, until }), at(0));
    watch.explain(workspace(1), Some(Explained { lifecycle: Lifecycle::Hibernated, until: None }), at(0));
    let told = tick(&mut watch, 0, 600_000);
    assert!(told.iter().all(|(_, told)| codes(std::slice::from_ref(told)) == [SILENCE_EXPLAINED]), "{told:?}");
    assert_eq!(told.len(), 2);
    let told = tick(&mut watch, 600_000, 2_000_000);
    assert!(told.is_empty(), "who was silent already is told of once: {told:?}");
    assert_eq!(watch.explained(workspace(0)), None);
    // One that comes back in between, and falls silent after its explanation has ended, is an alarm.
    watch.heard(workspace(0), at(2_000_000));
    let told = tick(&mut watch, 2_000_000, 2_400_000);
    assert_eq!(codes(&told.into_iter().map(|(_, told)| told).collect::<Vec<_>>()), [LATE, SILENT]);
    // Ended by hand: it has its whole time again.
    watch.explain(workspace(1), None, at(2_400_000));
    assert!(tick(&mut watch, 2_400_000, 2_400_000 + LATE_MS - 1000).is_empty());
}

#[test]
fn l5_a_mass_silence_is_one_event_and_freezes_until_most_are_back() {
    let mut watch = fleet(1_000, false);
    all(&mut watch, 0..1_000, 1000);
    all(&mut watch, 100..1_000, 150_000);
    let told = tick(&mut watch, 150_000, 1000 + SILENT_MS + 2000);
    let told: Vec<Told> = told.into_iter().map(|(_, told)| told).collect();
    let alarms = codes(&told).iter().filter(|code| **code == SILENT).count();
    let mass = codes(&told).iter().filter(|code| **code == "mass").count();
    // A twentieth of the fleet is 50; of the small region 13, of the large one 38.
    assert!(alarms < 50, "those before it was clear: {alarms}");
    assert_eq!(mass, 3, "the fleet's and both regions'");
    assert!(watch.is_frozen(None) && watch.is_frozen(Some("fra1")));
    let back = all(&mut watch, 0..90, 300_000);
    assert_eq!(codes(&back).iter().filter(|code| **code == "ended").count(), 3);
    assert!(codes(&back).contains(&SILENT), "who is silent still is told of now");
    assert!(!watch.is_frozen(Some("nyc3")));
}

#[test]
fn l5_a_few_are_no_mass_and_alarm() {
    let mut watch = fleet(100, false);
    all(&mut watch, 0..100, 1000);
    let mut told = Vec::new();
    for moment in (1000..=300_000).step_by(1000) {
        if moment % 30_000 == 0 {
            all(&mut watch, 9..100, moment);
        }
        told.extend(watch.tick(at(moment)));
    }
    assert_eq!(codes(&told).iter().filter(|code| **code == SILENT).count(), 9, "{told:?}");
    assert!(!watch.is_frozen(None));
}

#[test]
fn l4_l5_silence_after_the_hub_was_away_is_the_hubs_until_that_can_be_told_apart() {
    let mut watch = fleet(40, true);
    all(&mut watch, 1..40, 100_000);
    assert!(tick(&mut watch, 0, LATE_MS - 1000).is_empty(), "all begin anew");
    let mut told = Vec::new();
    for moment in (LATE_MS..1_000_000).step_by(1000) {
        if moment % 30_000 == 0 {
            all(&mut watch, 1..40, moment);
        }
        told.extend(watch.tick(at(moment)));
    }
    // One is really dead: first it is held back, and told of when the doubt is over.
    assert_eq!(codes(&told), [LATE, "mass", "mass", SILENCE_FROZEN, "ended", "ended", SILENT]);
    assert!(!watch.is_frozen(None));
}

#[test]
fn a_full_outage_freezes_reactions() {
    let mut watch = fleet(400, false);
    let told = tick(&mut watch, 0, 400_000);
    let alarms = told.iter().filter(|(_, told)| codes(std::slice::from_ref(told)) == [SILENT]).count();
    assert!(alarms < 20, "{alarms} of 400 before it was clear");
    assert!(watch.is_frozen(None) && watch.is_frozen(Some("fra1")) && watch.is_frozen(Some("nyc3")));
}

struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> i64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) % below).cast_signed()
    }
}

/// A simulated droplet: when it speaks next, by a clock that is up to 2 % wrong.
struct Speaker {
    percent: i64,
    beat_at: i64,
    poll_at: i64,
}

#[test]
fn a_day_of_a_lossy_fleet_with_restarts_of_the_hub_has_no_false_alarm_and_finds_the_dead() {
    const DROPLETS: u32 = 300;
    const DAY_MS: i64 = 24 * 3600 * 1000;
    let mut dice = Dice(11);
    let mut watch = fleet(DROPLETS, false);
    let mut speakers: Vec<Speaker> = (0..DROPLETS)
        .map(|_| Speaker { percent: 98 + dice.roll(5), beat_at: dice.roll(60_000), poll_at: dice.roll(25_000) })
        .collect();
    let died_at = DAY_MS - 1_800_000 + 123;
    let (mut hub_back_at, mut alarms, mut last_word) = (0, Vec::new(), 0);
    for now in (0..DAY_MS).step_by(1000) {
        if now % 7_200_000 == 3_600_000 {
            // A restart that takes 40 seconds; everybody reconnects within half a minute more.
            hub_back_at = now + 40_000;
        }
        if now == hub_back_at && now > 0 {
            let droplets =
                (0..DROPLETS).map(|number| Watched { workspace: workspace(number), region: None, explained: None });
            watch = Watch::new(INTERVAL_MS, droplets, false, at(now));
        }
        for (number, speaker) in speakers.iter_mut().enumerate() {
            if number == 0 && now >= died_at {
                continue;
            }
            let mut speaks = 0;
            if now >= speaker.beat_at {
                speaker.beat_at = now + 60_000 * speaker.percent / 100 - dice.roll(6_000);
                speaks += 1;
            }
            if now >= speaker.poll_at {
                speaker.poll_at = now + 25_000 * speaker.percent / 100;
                speaks += 1;
            }
            for _ in 0..speaks {
                // 5 % of what is sent never arrives, and nothing does while the hub is away.
                if dice.roll(100) >= 5 && now >= hub_back_at {
                    watch.heard(workspace(u32::try_from(number).unwrap()), at(now));
                    if number == 0 {
                        last_word = now;
                    }
                }
            }
        }
        if now >= hub_back_at {
            for told in watch.tick(at(now)) {
                match told {
                    Told::Changed(change) if change.code == SILENT => alarms.push((now, change.workspace)),
                    Told::Changed(_) => {}
                    mass @ (Told::MassSilence(_) | Told::MassSilenceEnded(_)) => panic!("{mass:?} at {now}"),
                }
            }
        }
    }
    assert_eq!(alarms.len(), 1, "{alarms:?}");
    let due = last_word + SILENT_MS;
    assert!(alarms[0].1 == workspace(0) && (due..=due + 2000).contains(&alarms[0].0), "{alarms:?}, due at {due}");
}
