//! One job's states and what moves it.

use genesis_shared::limits::DELIVERY_ATTEMPTS_MAX;
use genesis_shared::report::OutcomeState;
use genesis_shared::timestamp::Timestamp;
use genesis_shared::wire::JobState;

/// What the rules need to know of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Job {
    /// Where it is.
    pub state: JobState,
    /// Hand-outs so far.
    pub attempts: u32,
    /// Until when it is handed out; only in [`JobState::Leased`].
    pub lease_until: Option<Timestamp>,
    /// The bundle is not to be run before.
    pub not_before: Timestamp,
    /// The bundle is not to be accepted after.
    pub not_after: Timestamp,
    /// Whether the droplet's result is known; nothing changes the job after that.
    pub answered: bool,
}

/// What can happen to a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Its droplet polls; the lease would last until then.
    Lease(Timestamp),
    /// Its droplet polls again without having confirmed it.
    TakeBack,
    /// Time passes: leases run out, bundles expire.
    Tick,
    /// The droplet has it in its journal.
    Accepted,
    /// The droplet says how it ended.
    Result(OutcomeState),
    /// An operator withdraws it.
    Cancel,
    /// An operator gives a dead letter another round.
    Requeue,
    /// The droplet was installed anew: the journal that held the job is gone.
    Reinstalled,
}

/// An event that a job in this state does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a job that is {} does not know {event:?}", .state.name())]
pub struct Illegal {
    /// Where the job is.
    pub state: JobState,
    /// What was asked of it.
    pub event: Event,
}

/// Whether a queued job may be handed out at `now`. Before `not_before` the droplet would refuse it.
pub fn is_due(job: &Job, now: Timestamp) -> bool {
    job.state == JobState::Queued && (job.not_before..=job.not_after).contains(&now)
}

/// The job after `event`. A job that the event leaves as it is comes back unchanged.
///
/// # Errors
/// [`Illegal`] where the event makes no sense; the job stays as it is.
pub fn apply(job: Job, event: Event, now: Timestamp) -> Result<Job, Illegal> {
    let illegal = Err(Illegal { state: job.state, event });
    match event {
        Event::Lease(until) if is_due(&job, now) => {
            let attempts = job.attempts.saturating_add(1);
            Ok(Job { state: JobState::Leased, attempts, lease_until: Some(until), ..job })
        }
        Event::TakeBack if job.state == JobState::Leased => Ok(returned(job, now)),
        Event::Tick => Ok(tick(job, now)),
        // The droplet's word about itself beats what the hub supposed meanwhile (dead, expired, cancelled, stuck).
        Event::Accepted if !job.answered => Ok(moved(job, JobState::Accepted)),
        Event::Result(outcome) if !job.answered => Ok(Job { answered: true, ..moved(job, final_state(outcome)) }),
        Event::Cancel if matches!(job.state, JobState::Queued | JobState::Leased) => {
            Ok(moved(job, JobState::Cancelled))
        }
        Event::Requeue if job.state == JobState::Dead && now <= job.not_after => {
            Ok(Job { attempts: 0, ..moved(job, JobState::Queued) })
        }
        Event::Reinstalled if job.state == JobState::Leased => Ok(returned(job, now)),
        Event::Reinstalled if job.state == JobState::Accepted => Ok(moved(job, JobState::Stuck)),
        Event::Reinstalled => Ok(job),
        Event::Lease(_) | Event::TakeBack | Event::Accepted | Event::Result(_) | Event::Cancel | Event::Requeue => {
            illegal
        }
    }
}

fn moved(job: Job, state: JobState) -> Job {
    Job { state, lease_until: None, ..job }
}

/// A lease that ended without an answer.
fn returned(job: Job, now: Timestamp) -> Job {
    if now > job.not_after {
        moved(job, JobState::Expired)
    } else if job.attempts >= DELIVERY_ATTEMPTS_MAX {
        moved(job, JobState::Dead)
    } else {
        moved(job, JobState::Queued)
    }
}

fn tick(job: Job, now: Timestamp) -> Job {
    let undelivered = matches!(job.state, JobState::Queued | JobState::Leased);
    // Also while leased: what the droplet took in time it confirms, and its word counts then.
    if undelivered && now > job.not_after {
        moved(job, JobState::Expired)
    } else if job.state == JobState::Leased && job.lease_until.is_none_or(|until| now >= until) {
        returned(job, now)
    } else {
        job
    }
}

/// The state of a job that its droplet has answered.
pub fn final_state(outcome: OutcomeState) -> JobState {
    match outcome {
        OutcomeState::Succeeded => JobState::Succeeded,
        OutcomeState::Failed => JobState::Failed,
        OutcomeState::Rejected => JobState::Rejected,
        OutcomeState::Expired => JobState::Expired,
        OutcomeState::Stuck => JobState::Stuck,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use JobState::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn job(state: JobState) -> Job {
        let lease_until = (state == Leased).then(|| at(500));
        Job { state, attempts: 1, lease_until, not_before: at(50), not_after: at(1000), answered: false }
    }

    /// Columns: queued, leased, accepted, succeeded, failed, rejected, expired, stuck, dead, cancelled; `None`: illegal.
    #[test]
    fn every_pair_of_state_and_event_has_its_answer() {
        let done = OutcomeState::Succeeded;
        let all_to = |state| [Some(state); 10];
        let only = |pairs: &[(usize, JobState)]| {
            let mut row = [None; 10];
            for &(column, state) in pairs {
                row[column] = Some(state);
            }
            row
        };
        let stay = |pairs: &[(usize, JobState)]| {
            let mut row: [Option<JobState>; 10] = std::array::from_fn(|n| Some(JobState::ALL[n]));
            for &(column, state) in pairs {
                row[column] = Some(state);
            }
            row
        };
        let table = [
            (Event::Lease(at(600)), at(100), only(&[(0, Leased)])),
            (Event::Lease(at(600)), at(49), only(&[])),
            (Event::Lease(at(600)), at(1001), only(&[])),
            (Event::TakeBack, at(100), only(&[(1, Queued)])),
            (Event::Tick, at(100), stay(&[])),
            (Event::Tick, at(500), stay(&[(1, Queued)])),
            (Event::Tick, at(1001), stay(&[(0, Expired), (1, Expired)])),
            (Event::Accepted, at(100), all_to(Accepted)),
            (Event::Result(done), at(5000), all_to(Succeeded)),
            (Event::Cancel, at(100), only(&[(0, Cancelled), (1, Cancelled)])),
            (Event::Requeue, at(100), only(&[(8, Queued)])),
            (Event::Requeue, at(1001), only(&[])),
            (Event::Reinstalled, at(100), stay(&[(1, Queued), (2, Stuck)])),
        ];
        for (event, now, row) in table {
            for (state, expected) in JobState::ALL.iter().zip(row) {
                let actual = apply(job(*state), event, now).ok();
                assert_eq!(actual.map(|job| job.state), expected, "{state:?} {event:?} at {now}");
                let leased = actual.is_some_and(|job| job.lease_until.is_some());
                assert_eq!(leased, expected == Some(Leased), "a lease exactly while leased: {state:?} {event:?}");
            }
        }
    }

    #[test]
    fn the_first_result_wins() {
        let first = apply(job(Leased), Event::Result(OutcomeState::Rejected), at(1)).unwrap();
        assert!(apply(first, Event::Result(OutcomeState::Succeeded), at(2)).is_err());
        assert!(apply(first, Event::Accepted, at(2)).is_err());
    }

    #[test]
    fn a_job_is_dead_after_the_last_hand_out_and_fresh_after_a_requeue() {
        let mut now = job(Queued);
        now.attempts = 0;
        for attempt in 1..=DELIVERY_ATTEMPTS_MAX {
            now = apply(now, Event::Lease(at(500)), at(100)).unwrap();
            assert_eq!(now.attempts, attempt);
            now = apply(now, Event::Tick, at(500)).unwrap();
        }
        assert_eq!(now.state, Dead);
        let again = apply(now, Event::Requeue, at(600)).unwrap();
        assert_eq!((again.state, again.attempts), (Queued, 0));
    }
}
