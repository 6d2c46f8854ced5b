//! The rules G1 to G5, each with a clock that the test moves.

use std::collections::BTreeMap;

use genesis_shared::limits::LEASE_TTL_MS;

use super::*;

fn new(limits: Limits) -> Governor {
    Governor::new(limits, LEASE_TTL_MS)
}

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(1_000_000 + millis)
}

fn workspace(number: u8) -> WorkspaceId {
    WorkspaceId::from_random([number; 16])
}

fn bundle(number: u8) -> BundleId {
    BundleId::from_random([number; 16])
}

fn candidate(job: i64, queue: Queue, priority: u8, of: u8) -> Candidate {
    Candidate { job, queue, priority, bundle: bundle(of) }
}

/// A poll of this tenant that asks for these.
fn poll(governor: &mut Governor, tenant: u8, candidates: &[Candidate]) -> Asker {
    let asker = governor.enter(workspace(tenant));
    governor.ask(asker, candidates);
    asker
}

/// Dispatches and takes everything.
fn started(governor: &mut Governor, askers: &[Asker], now: Timestamp) -> Vec<i64> {
    governor.dispatch(now);
    askers.iter().flat_map(|asker| governor.take(*asker)).collect()
}

fn narrow(in_flight: u32) -> Limits {
    Limits { template: in_flight, security: in_flight, ..Limits::default() }
}

#[test]
fn g1_never_more_starts_within_any_second_than_allowed() {
    let limits = Limits { starts_per_s: 10, template: 1000, ..Limits::default() };
    let mut governor = new(limits);
    let mut starts: Vec<i64> = Vec::new();
    let mut job = 0;
    // Irregular looks over five seconds, with more waiting than can start.
    let mut millis = 0;
    while millis < 5_000 {
        for tenant in 0..8 {
            job += 1;
            poll(&mut governor, tenant, &[candidate(job, Queue::Template, 3, tenant)]);
        }
        let before = governor.slots.len();
        governor.dispatch(at(millis));
        starts.extend(std::iter::repeat_n(millis, governor.slots.len() - before));
        millis += 1 + (millis * 7919) % 97;
    }
    for (index, start) in starts.iter().enumerate() {
        let within = starts[..=index].iter().filter(|earlier| start - **earlier < 1000).count();
        assert!(within <= 10, "{within} within the second before {start}");
    }
    assert!(starts.len() >= 45, "and none is given away: {}", starts.len());
}

#[test]
fn g1_tells_when_the_next_may_start_and_goes_on_over_a_restart() {
    let mut governor = new(Limits { starts_per_s: 1, ..Limits::default() });
    governor.found_start(at(0));
    let asker = poll(&mut governor, 1, &[candidate(1, Queue::Template, 3, 1)]);
    assert!(started(&mut governor, &[asker], at(999)).is_empty());
    assert_eq!(governor.next_start(), Some(at(1000)));
    assert_eq!(started(&mut governor, &[asker], at(1000)), [1]);
    assert_eq!(governor.next_start(), None, "nothing waits");
}

#[test]
fn g2_a_queue_never_has_more_in_flight_and_an_end_makes_room() {
    let mut governor = new(narrow(2));
    let askers: Vec<Asker> =
        (1..=5).map(|n| poll(&mut governor, n, &[candidate(n.into(), Queue::Template, 3, 1)])).collect();
    assert_eq!(started(&mut governor, &askers, at(0)), [1, 2]);
    assert!(started(&mut governor, &askers, at(1)).is_empty());
    assert_eq!(governor.next_start(), None, "it waits for room, not for time");
    // Accepted is in flight still; an end is not.
    governor.accepted(1, Queue::Template, workspace(1), at(2));
    assert!(started(&mut governor, &askers, at(2)).is_empty());
    governor.release(1);
    assert_eq!(started(&mut governor, &askers, at(3)), [3]);
    // Another queue has room of its own.
    let other = poll(&mut governor, 9, &[candidate(9, Queue::Metric, 4, 9)]);
    assert_eq!(started(&mut governor, &[other], at(4)), [9]);
}

#[test]
fn g2_a_silent_droplet_frees_its_place_and_a_sign_of_life_keeps_it() {
    let mut governor = new(narrow(1));
    let askers = [1, 2].map(|n| poll(&mut governor, n, &[candidate(n.into(), Queue::Template, 3, 1)]));
    assert_eq!(started(&mut governor, &askers, at(0)), [1]);
    governor.alive(workspace(1), at(50_000));
    assert!(started(&mut governor, &askers, at(LEASE_TTL_MS)).is_empty(), "the lease was extended");
    assert!(started(&mut governor, &askers, at(50_000 + LEASE_TTL_MS - 1)).is_empty());
    assert_eq!(started(&mut governor, &askers, at(50_000 + LEASE_TTL_MS)), [2]);
    // The late word of the first counts again: it is at work after all.
    governor.accepted(1, Queue::Template, workspace(1), at(120_000));
    assert_eq!(governor.loads().iter().find(|load| load.queue == Queue::Template).unwrap().in_flight, 2);
}

#[test]
fn g3_a_critical_job_goes_before_a_rollout_in_every_queue() {
    let mut governor = new(Limits { starts_per_s: 1, ..Limits::default() });
    let rollout: Vec<Asker> =
        (1..=50).map(|n| poll(&mut governor, n, &[candidate(n.into(), Queue::Template, 3, 1)])).collect();
    let critical = poll(&mut governor, 99, &[candidate(99, Queue::Security, 1, 2)]);
    governor.dispatch(at(0));
    assert_eq!(governor.take(critical), [99]);
    assert!(rollout.iter().all(|asker| governor.take(*asker).is_empty()));
}

#[test]
fn g3_a_critical_job_waits_for_one_lease_of_its_queue_at_most() {
    let mut governor = new(narrow(10));
    let rollout: Vec<Asker> =
        (1..=50).map(|n| poll(&mut governor, n, &[candidate(n.into(), Queue::Template, 3, 1)])).collect();
    let under_way = started(&mut governor, &rollout, at(0));
    assert_eq!(under_way.len(), 10);
    let critical = poll(&mut governor, 99, &[candidate(99, Queue::Template, 1, 2)]);
    assert!(started(&mut governor, &[critical], at(1)).is_empty());
    // Whichever ends first, by itself or because its droplet is silent.
    let mut by_itself = new(narrow(10));
    let again: Vec<Asker> =
        (1..=50).map(|n| poll(&mut by_itself, n, &[candidate(n.into(), Queue::Template, 3, 1)])).collect();
    started(&mut by_itself, &again, at(0));
    let waits = poll(&mut by_itself, 99, &[candidate(99, Queue::Template, 1, 2)]);
    by_itself.release(4);
    assert_eq!(started(&mut by_itself, &[waits], at(2)), [99]);
    assert_eq!(started(&mut governor, &[critical], at(LEASE_TTL_MS)), [99]);
}

#[test]
fn g4_bundles_take_turns_whatever_their_size() {
    let mut governor = new(narrow(20));
    // A big bundle that came first, and a small one.
    let mut askers: Vec<Asker> =
        (1..=100).map(|n| poll(&mut governor, n, &[candidate(n.into(), Queue::Template, 3, 1)])).collect();
    askers.extend((101..=110).map(|n| poll(&mut governor, n, &[candidate(n.into(), Queue::Template, 3, 2)])));
    let first = started(&mut governor, &askers, at(0));
    let small = first.iter().filter(|job| **job > 100).count();
    assert_eq!((first.len(), small), (20, 10), "half of the places are the small one's: {first:?}");
    assert_eq!(first[..10], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10], "the older first");
}

#[test]
fn g4_each_droplet_gets_its_first_job_before_any_gets_its_second() {
    let mut governor = new(narrow(5));
    let many: Vec<Candidate> = (1..=4).map(|n| candidate(n, Queue::Template, 3, u8::try_from(n).unwrap())).collect();
    let mut askers = vec![poll(&mut governor, 1, &many)];
    askers.extend((10..13).map(|n| poll(&mut governor, n, &[candidate(n.into(), Queue::Template, 3, n)])));
    let first = started(&mut governor, &askers, at(0));
    let of_greedy = first.iter().filter(|job| **job < 10).count();
    assert_eq!((first.len(), of_greedy), (5, 2), "one in turn, and one of what is left: {first:?}");
}

#[test]
fn g4_queues_of_one_urgency_take_turns() {
    let mut governor = new(Limits { starts_per_s: 10, ..Limits::default() });
    let mut askers: Vec<Asker> =
        (1..=50).map(|n| poll(&mut governor, n, &[candidate(n.into(), Queue::Health, 4, 1)])).collect();
    askers.extend((101..=150).map(|n| poll(&mut governor, n, &[candidate(n.into(), Queue::Metric, 4, 2)])));
    let first = started(&mut governor, &askers, at(0));
    assert_eq!(first.iter().filter(|job| **job > 100).count(), 5, "{first:?}");
}

#[test]
fn g5_a_poll_that_ends_gives_back_what_it_did_not_take() {
    let mut governor = new(narrow(1));
    let gone = poll(&mut governor, 1, &[candidate(1, Queue::Template, 3, 1)]);
    assert_eq!(governor.dispatch(at(0)), [workspace(1)].into());
    let waits = poll(&mut governor, 2, &[candidate(2, Queue::Template, 3, 1)]);
    assert!(started(&mut governor, &[waits], at(1)).is_empty());
    governor.leave(gone);
    assert_eq!(started(&mut governor, &[waits], at(2)), [2]);
    // One that ends while it waits leaves nothing behind.
    let other = poll(&mut governor, 3, &[candidate(3, Queue::Template, 3, 1)]);
    governor.leave(other);
    governor.leave(waits);
    governor.release(2);
    assert!(governor.dispatch(at(3)).is_empty());
    assert!(governor.rings.is_empty() && governor.askers.is_empty() && governor.slots.is_empty());
}

#[test]
fn limits_change_while_it_runs_and_nothing_held_is_lost() {
    let mut governor = new(narrow(0));
    let askers: Vec<Asker> =
        (1..=3).map(|n| poll(&mut governor, n, &[candidate(n.into(), Queue::Template, 3, 1)])).collect();
    assert!(started(&mut governor, &askers, at(0)).is_empty(), "0 holds the queue");
    governor.set_limits(narrow(2));
    assert_eq!(started(&mut governor, &askers, at(1)), [1, 2]);
    governor.set_limits(narrow(1));
    governor.release(1);
    assert!(started(&mut governor, &askers, at(2)).is_empty(), "what is beyond ends in its own time");
    governor.release(2);
    assert_eq!(started(&mut governor, &askers, at(3)), [3]);
}

#[test]
fn random_histories_keep_its_books() {
    let mut state: u64 = 7;
    let mut roll = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let limits = Limits { starts_per_s: 20, template: 7, security: 3, ..Limits::default() };
    let mut governor = new(limits);
    let mut askers: Vec<Asker> = Vec::new();
    for step in 0..20_000_i64 {
        let now = at(step * 13);
        match roll(5) {
            0 | 1 => {
                let tenant = u8::try_from(roll(200)).unwrap();
                let queue = if roll(4) == 0 { Queue::Security } else { Queue::Template };
                let priority = u8::try_from(1 + roll(4)).unwrap();
                let of = u8::try_from(roll(6)).unwrap();
                askers.push(poll(&mut governor, tenant, &[candidate(step, queue, priority, of)]));
            }
            2 if !askers.is_empty() => {
                let index = usize::try_from(roll(askers.len() as u64)).unwrap();
                governor.leave(askers.swap_remove(index));
            }
            3 => {
                if let Some(job) = governor.slots.keys().next().copied() {
                    governor.release(job);
                }
            }
            _ => drop(governor.dispatch(now)),
        }
        let mut counted: BTreeMap<Queue, u32> = BTreeMap::new();
        governor.slots.values().for_each(|slot| *counted.entry(slot.queue).or_default() += 1);
        for queue in Queue::ALL {
            let held = counted.get(&queue).copied().unwrap_or(0);
            assert_eq!(governor.in_flight.get(&queue).copied().unwrap_or(0), held);
            assert!(held <= limits.in_flight(queue));
        }
        assert_eq!(governor.ends.len(), governor.slots.len());
        assert_eq!(governor.of_workspace.values().map(BTreeSet::len).sum::<usize>(), governor.slots.len());
    }
}
