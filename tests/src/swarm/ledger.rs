//! What a swarm has seen: when each job was journaled first, how often it came, who was heard when.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use genesis_shared::id::JobId;

/// Shared by all agents of a swarm.
#[derive(Debug, Default)]
pub struct Ledger {
    jobs: Mutex<HashMap<JobId, Received>>,
    connects: Mutex<Vec<Instant>>,
    heard: Mutex<HashMap<u32, Instant>>,
    beats: Mutex<Vec<Instant>>,
    /// Requests that were answered.
    pub answered: AtomicU64,
    /// Requests that were not.
    pub unanswered: AtomicU64,
}

#[derive(Clone, Copy, Debug)]
struct Received {
    by: u32,
    at: Instant,
    times: u32,
    is_reported: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Ledger {
    /// A job is journaled on droplet `by`; answers whether it is new there.
    pub fn journal(&self, job: JobId, by: u32) -> bool {
        let at = now();
        let mut jobs = lock(&self.jobs);
        let received = jobs.entry(job).or_insert(Received { by, at, times: 0, is_reported: false });
        received.times += 1;
        assert_eq!(received.by, by, "job {job} was handed to two droplets");
        received.times == 1
    }

    /// The hub has confirmed the result of a job.
    pub fn reported(&self, job: JobId) {
        if let Some(received) = lock(&self.jobs).get_mut(&job) {
            received.is_reported = true;
        }
    }

    /// When a job was journaled first.
    pub fn journaled_at(&self, job: JobId) -> Option<Instant> {
        lock(&self.jobs).get(&job).map(|received| received.at)
    }

    /// Jobs whose result the hub has confirmed.
    pub fn reported_jobs(&self) -> Vec<JobId> {
        lock(&self.jobs).iter().filter(|(_, received)| received.is_reported).map(|(job, _)| *job).collect()
    }

    /// How many of these jobs are journaled, and of how many the hub has confirmed the result.
    pub fn progress(&self, among: &[JobId]) -> (usize, usize) {
        let jobs = lock(&self.jobs);
        let found = among.iter().filter_map(|job| jobs.get(job));
        found.fold((0, 0), |(journaled, done), job| (journaled + 1, done + usize::from(job.is_reported)))
    }

    /// Deliveries beyond the first of each job.
    pub fn redelivered(&self) -> u64 {
        lock(&self.jobs).values().map(|received| u64::from(received.times - 1)).sum()
    }

    /// A connection was made.
    pub fn connected(&self) {
        lock(&self.connects).push(now());
    }

    /// The hub has answered droplet `number`.
    pub fn heard(&self, number: u32) {
        self.answered.fetch_add(1, Ordering::Relaxed);
        lock(&self.heard).insert(number, now());
    }

    /// The hub has confirmed a heartbeat.
    pub fn beat(&self) {
        lock(&self.beats).push(now());
    }

    /// Droplets that the hub has answered since.
    pub fn heard_since(&self, since: Instant) -> usize {
        lock(&self.heard).values().filter(|at| **at >= since).count()
    }

    /// Connections per second since, in order.
    pub fn connects_per_s(&self, since: Instant) -> Vec<u32> {
        per_s(&lock(&self.connects), since)
    }

    /// Confirmed heartbeats per second since, in order.
    pub fn beats_per_s(&self, since: Instant) -> Vec<u32> {
        per_s(&lock(&self.beats), since)
    }
}

fn per_s(moments: &[Instant], since: Instant) -> Vec<u32> {
    let mut counts: Vec<u32> = Vec::new();
    for at in moments {
        let Some(after) = at.checked_duration_since(since).as_ref().map(Duration::as_secs) else { continue };
        let second = usize::try_from(after).unwrap_or(usize::MAX);
        if counts.len() <= second {
            counts.resize(second + 1, 0);
        }
        counts[second] += 1;
    }
    counts
}

/// The moment.
#[allow(clippy::disallowed_methods, reason = "what a swarm waits for is measured, not simulated")]
pub fn now() -> Instant {
    Instant::now()
}
