//! The governor: which of the waiting jobs may start now. Pure: time comes in, nothing goes out but its answers.
//!
//! Polls ask for what is due for their droplet and wait; whenever there is room, [`Governor::dispatch`] picks the next:
//! - G1. At most `starts_per_s` start within any second, over all queues.
//! - G2. At most so many of a queue are in flight: handed out or at work, as long as their droplet gives signs of life.
//! - G3. A more urgent job goes before every less urgent one that has not started, in whichever queue.
//! - G4. Among equals every droplet gets its first job before any gets its second, the bundles of a queue take turns,
//!   and so do the queues. Within a bundle the older job goes first.
//! - G5. A job of a droplet that does not ask takes no room: half a fleet may be away.
//!
//! G2 and G3 together: whatever a rollout has under way, a critical job waits for one lease of its queue at most.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;

use genesis_shared::id::{BundleId, WorkspaceId};
use genesis_shared::limits::RUN_LEASE_MS;
use genesis_shared::timestamp::Timestamp;

use super::{Limits, Queue};

/// The window of G1.
const SECOND_MS: i64 = 1000;

/// One poll; a droplet has several when its connection broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Asker(u64);

/// A job that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its number in the store.
    pub job: i64,
    /// Which queue it is in.
    pub queue: Queue,
    /// 1 critical to 4 low.
    pub priority: u8,
    /// Which bundle it carries.
    pub bundle: BundleId,
}

/// A job in flight.
#[derive(Clone, Copy, Debug)]
struct Slot {
    queue: Queue,
    workspace: WorkspaceId,
    until: Timestamp,
}

/// Where a candidate waits: urgency, queue, and the how manieth of its droplet there it is.
type Place = (u8, Queue, u8);

/// The jobs of one place, by bundle; bundles take turns.
#[derive(Debug, Default)]
struct Ring {
    bundles: BTreeMap<BundleId, BTreeMap<i64, Asker>>,
    last: Option<BundleId>,
}

impl Ring {
    /// Takes the oldest job of the bundle whose turn it is.
    fn take(&mut self) -> Option<(i64, Asker)> {
        let after = self.last.map_or(Bound::Unbounded, Bound::Excluded);
        let next = self.bundles.range((after, Bound::Unbounded)).next().or_else(|| self.bundles.iter().next());
        let bundle = *next?.0;
        self.last = Some(bundle);
        let jobs = self.bundles.get_mut(&bundle)?;
        let taken = jobs.pop_first();
        if jobs.is_empty() {
            self.bundles.remove(&bundle);
        }
        taken
    }

    /// Takes a job out that waits for this poll; a newer poll of the droplet may have taken its place.
    fn remove(&mut self, bundle: BundleId, job: i64, asker: Asker) {
        if let Some(jobs) = self.bundles.get_mut(&bundle) {
            if jobs.get(&job) == Some(&asker) {
                jobs.remove(&job);
            }
            if jobs.is_empty() {
                self.bundles.remove(&bundle);
            }
        }
    }
}

#[derive(Debug)]
struct Asking {
    workspace: WorkspaceId,
    waiting: Vec<(Place, BundleId, i64)>,
    granted: Vec<i64>,
}

/// See the module.
#[derive(Debug)]
pub struct Governor {
    limits: Limits,
    lease_ms: i64,
    /// Starts within the last second, oldest first.
    starts: VecDeque<Timestamp>,
    slots: BTreeMap<i64, Slot>,
    ends: BTreeSet<(Timestamp, i64)>,
    of_workspace: BTreeMap<WorkspaceId, BTreeSet<i64>>,
    in_flight: BTreeMap<Queue, u32>,
    rings: BTreeMap<Place, Ring>,
    askers: BTreeMap<Asker, Asking>,
    next_asker: u64,
    turn: usize,
}

/// How a queue is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Which.
    pub queue: Queue,
    /// Jobs in flight.
    pub in_flight: u32,
    /// Due jobs whose droplets wait for them.
    pub waiting: u32,
}

impl Governor {
    /// With nothing in flight; a hand-out or a sign of life is good for `lease_ms`.
    pub fn new(limits: Limits, lease_ms: i64) -> Self {
        Self {
            limits,
            lease_ms,
            starts: VecDeque::new(),
            slots: BTreeMap::new(),
            ends: BTreeSet::new(),
            of_workspace: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            rings: BTreeMap::new(),
            askers: BTreeMap::new(),
            next_asker: 0,
            turn: 0,
        }
    }

    /// What it goes by.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Goes by other limits from now on. What is in flight beyond a lower one ends in its own time.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// A job that was in flight when the hub started.
    pub fn found(&mut self, job: i64, queue: Queue, workspace: WorkspaceId, until: Timestamp) {
        self.occupy(job, Slot { queue, workspace, until });
    }

    /// A job that started at `at`, before the hub did: the second of G1 goes on over a restart.
    pub fn found_start(&mut self, at: Timestamp) {
        let place = self.starts.partition_point(|start| *start <= at);
        self.starts.insert(place, at);
    }

    /// A poll comes.
    pub fn enter(&mut self, workspace: WorkspaceId) -> Asker {
        let asker = Asker(self.next_asker);
        self.next_asker += 1;
        self.askers.insert(asker, Asking { workspace, waiting: Vec::new(), granted: Vec::new() });
        asker
    }

    /// What is due for the poll's droplet, most urgent first; takes the place of what it asked for before. A job that
    /// is in flight already is passed over.
    pub fn ask(&mut self, asker: Asker, candidates: &[Candidate]) {
        self.withdraw(asker);
        let mut rounds: BTreeMap<(u8, Queue), u8> = BTreeMap::new();
        for candidate in candidates.iter().filter(|candidate| !self.slots.contains_key(&candidate.job)) {
            let round = rounds.entry((candidate.priority, candidate.queue)).or_default();
            let place = (candidate.priority, candidate.queue, *round);
            *round = round.saturating_add(1);
            let Some(asking) = self.askers.get_mut(&asker) else { return };
            asking.waiting.push((place, candidate.bundle, candidate.job));
            let jobs = self.rings.entry(place).or_default().bundles.entry(candidate.bundle).or_default();
            jobs.insert(candidate.job, asker);
        }
    }

    /// What the poll may hand out now; it has to, or to [`Governor::release`] it.
    pub fn take(&mut self, asker: Asker) -> Vec<i64> {
        self.askers.get_mut(&asker).map(|asking| std::mem::take(&mut asking.granted)).unwrap_or_default()
    }

    /// The poll is over. What it was granted and did not take is free again.
    pub fn leave(&mut self, asker: Asker) {
        self.withdraw(asker);
        for job in self.askers.remove(&asker).map(|asking| asking.granted).unwrap_or_default() {
            self.release(job);
        }
    }

    fn withdraw(&mut self, asker: Asker) {
        let waiting = self.askers.get_mut(&asker).map(|asking| std::mem::take(&mut asking.waiting));
        for (place, bundle, job) in waiting.unwrap_or_default() {
            if let Some(ring) = self.rings.get_mut(&place) {
                ring.remove(bundle, job, asker);
            }
        }
    }

    /// Grants what may start at `now`; whose polls have something to take.
    pub fn dispatch(&mut self, now: Timestamp) -> BTreeSet<WorkspaceId> {
        self.expire(now);
        self.rings.retain(|_, ring| !ring.bundles.is_empty());
        let mut woken = BTreeSet::new();
        while self.may_start(now) {
            let Some((place, job, asker)) = self.next() else { break };
            let Some(asking) = self.askers.get_mut(&asker) else { continue };
            asking.waiting.retain(|(_, _, waiting)| *waiting != job);
            asking.granted.push(job);
            let workspace = asking.workspace;
            woken.insert(workspace);
            self.starts.push_back(now);
            self.occupy(job, Slot { queue: place.1, workspace, until: now.plus_millis(self.lease_ms) });
        }
        woken
    }

    /// The next by G3 and G4, among the queues that have room.
    fn next(&mut self) -> Option<(Place, i64, Asker)> {
        let urgency = self.rings.iter().find(|(place, ring)| !ring.bundles.is_empty() && self.has_room(place.1));
        let urgency = urgency?.0.0;
        let queues = Queue::ALL.len();
        for step in 0..queues {
            let queue = Queue::ALL[(self.turn + step) % queues];
            if !self.has_room(queue) {
                continue;
            }
            let places = (urgency, queue, 0)..=(urgency, queue, u8::MAX);
            for (place, ring) in self.rings.range_mut(places) {
                if let Some((job, asker)) = ring.take() {
                    self.turn = (self.turn + step + 1) % queues;
                    return Some((*place, job, asker));
                }
            }
        }
        None
    }

    fn has_room(&self, queue: Queue) -> bool {
        self.in_flight.get(&queue).copied().unwrap_or(0) < self.limits.in_flight(queue)
    }

    fn may_start(&mut self, now: Timestamp) -> bool {
        while self.starts.front().is_some_and(|start| now.millis_since(*start) >= SECOND_MS) {
            self.starts.pop_front();
        }
        self.starts.len() < usize::try_from(self.limits.starts_per_s).unwrap_or(usize::MAX)
    }

    /// When the next job may start that waits for nothing but G1; `None` if none does.
    pub fn next_start(&self) -> Option<Timestamp> {
        let waits = self.rings.iter().any(|(place, ring)| !ring.bundles.is_empty() && self.has_room(place.1));
        let per_s = usize::try_from(self.limits.starts_per_s).unwrap_or(usize::MAX);
        let blocking = self.starts.len().checked_sub(per_s).and_then(|index| self.starts.get(index));
        blocking.filter(|_| waits).map(|start| start.plus_millis(SECOND_MS))
    }

    fn occupy(&mut self, job: i64, slot: Slot) {
        self.release(job);
        self.slots.insert(job, slot);
        self.ends.insert((slot.until, job));
        *self.in_flight.entry(slot.queue).or_default() += 1;
        self.of_workspace.entry(slot.workspace).or_default().insert(job);
    }

    /// A job is not in flight any more: it has ended, or was taken back.
    pub fn release(&mut self, job: i64) {
        let Some(slot) = self.slots.remove(&job) else { return };
        self.ends.remove(&(slot.until, job));
        if let Some(count) = self.in_flight.get_mut(&slot.queue) {
            *count = count.saturating_sub(1);
        }
        if let Some(jobs) = self.of_workspace.get_mut(&slot.workspace) {
            jobs.remove(&job);
            if jobs.is_empty() {
                self.of_workspace.remove(&slot.workspace);
            }
        }
    }

    /// A droplet has a job in its journal. Also one whose slot had run out takes one again: it is at work.
    pub fn accepted(&mut self, job: i64, queue: Queue, workspace: WorkspaceId, now: Timestamp) {
        self.occupy(job, Slot { queue, workspace, until: now.plus_millis(RUN_LEASE_MS) });
    }

    /// A sign of life: what the droplet has in flight is held longer.
    pub fn alive(&mut self, workspace: WorkspaceId, now: Timestamp) {
        for job in self.of_workspace.get(&workspace).into_iter().flatten() {
            if let Some(slot) = self.slots.get_mut(job) {
                self.ends.remove(&(slot.until, *job));
                slot.until = slot.until.max(now.plus_millis(self.lease_ms));
                self.ends.insert((slot.until, *job));
            }
        }
    }

    /// Frees what silent droplets hold.
    fn expire(&mut self, now: Timestamp) {
        while let Some((until, job)) = self.ends.first().copied().filter(|(until, _)| *until <= now) {
            self.ends.remove(&(until, job));
            self.release(job);
        }
    }

    /// How each queue is doing.
    pub fn loads(&self) -> Vec<Load> {
        let load = |queue: &Queue| {
            let rings = self.rings.iter().filter(|(place, _)| place.1 == *queue);
            let waiting = rings.flat_map(|(_, ring)| ring.bundles.values()).map(BTreeMap::len).sum::<usize>();
            let in_flight = self.in_flight.get(queue).copied().unwrap_or(0);
            Load { queue: *queue, in_flight, waiting: u32::try_from(waiting).unwrap_or(u32::MAX) }
        };
        Queue::ALL.iter().map(load).collect()
    }
}

#[cfg(test)]
#[path = "governor_tests.rs"]
mod tests;
