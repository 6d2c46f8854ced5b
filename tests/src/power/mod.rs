//! The journal on a disk whose power is cut and whose space runs out, at every single change that it asks for.
//!
//! A script of journal calls runs once on a disk that keeps every change. For each of them a disk is made as a power cut
//! in the middle of it would leave it, and a journal opened there must show what was answered `Ok`, and of the call under
//! way all or nothing.

pub mod agent;
pub mod script;

use std::time::{Duration, Instant};

use genesis_agent::journal::{Journal, Lane};
use genesis_power::{Disk, Failure, Op, Platter, Survival, VFS};

use self::script::{Script, Shown, show};

/// What the cuts of one script came to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cuts {
    /// Changes after which the power was cut, times what survived.
    pub cuts: u64,
    /// Journals that showed anything but what was answered `Ok`, with or without the call under way.
    pub lost: u64,
    /// Journals that SQLite's own check finds fault with, or that cannot be opened.
    pub corrupt: u64,
    /// The longest time from opening a journal to the next command that it has to run.
    pub recovery_max: Duration,
}

impl Cuts {
    /// Both together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            cuts: self.cuts + other.cuts,
            lost: self.lost + other.lost,
            corrupt: self.corrupt + other.corrupt,
            recovery_max: self.recovery_max.max(other.recovery_max),
        }
    }
}

/// A run of a script: the changes it asked for, and what the journal showed after how many of them.
struct Recording {
    /// What was on the disk before.
    base: Platter,
    ops: Vec<Op>,
    /// Number of changes when a call had answered, and what was there then; the first is the journal after opening.
    answered: Vec<(usize, Shown)>,
}

fn open(disk: &Disk) -> Journal {
    Journal::open_over(&disk.path("journal.db"), Some(VFS)).unwrap()
}

/// The disk on which a script begins, as a clean end of the agent left it.
fn base(script: &Script) -> Platter {
    let Some(earlier) = script.earlier else { return Platter::default() };
    let disk = Disk::new();
    earlier(&open(&disk));
    disk.platter().cut(Survival::Everything)
}

fn record(script: &Script) -> Recording {
    let base = base(script);
    let disk = Disk::with(base.clone());
    disk.record();
    let mut journal = open(&disk);
    let mut answered = vec![(disk.recorded_count(), show(&journal).unwrap())];
    for (n, step) in script.steps.iter().enumerate() {
        // The second half is another life, so that a clean end and a beginning are examined too.
        if n == script.steps.len() / 2 {
            drop(journal);
            journal = open(&disk);
        }
        step(&journal).unwrap();
        answered.push((disk.recorded_count(), show(&journal).unwrap()));
    }
    drop(journal);
    Recording { base, ops: disk.recorded(), answered }
}

/// What may survive a cut during the n-th change: the plain cases and some that chance picks.
pub fn survivals(n: usize, seeds: u64) -> impl Iterator<Item = Survival> {
    let some = (0..seeds).map(move |seed| Survival::Some(seed.wrapping_mul(0x9E37_79B9) ^ n as u64));
    [Survival::Nothing, Survival::Everything, Survival::LastTorn].into_iter().chain(some)
}

/// Cuts the power at every change of the script. `syncs` tells whether the drive does what a sync asks for.
pub fn cut_everywhere(script: &Script, seeds: u64, syncs: bool) -> Cuts {
    let recording = record(script);
    let mut platter = recording.base.clone();
    let mut cuts = Cuts::default();
    for (n, op) in recording.ops.iter().enumerate() {
        let is_sync = matches!(op, Op::Sync(_));
        // A write is on its way when the power goes; a sync has not come back, so nothing follows from it yet.
        if !is_sync {
            platter.apply(op);
        }
        for survival in survivals(n, seeds) {
            cuts = cuts.and(examine(&recording, n, platter.cut(survival)));
        }
        if is_sync && syncs {
            platter.apply(op);
        }
    }
    cuts
}

/// What a journal shows on a disk whose power went during the n-th change.
fn examine(recording: &Recording, n: usize, platter: Platter) -> Cuts {
    let disk = Disk::with(platter);
    #[allow(clippy::disallowed_methods, reason = "the time of a recovery is measured")]
    let started = Instant::now();
    let opened = Journal::open_over(&disk.path("journal.db"), Some(VFS));
    let is_ready = opened.as_ref().is_ok_and(|j| j.next_open(Lane::Change).is_ok() && j.next_open(Lane::Look).is_ok());
    let mut cuts = Cuts { cuts: 1, recovery_max: started.elapsed(), ..Cuts::default() };
    let (Ok(journal), true) = (opened, is_ready) else {
        cuts.corrupt = 1;
        return cuts;
    };
    cuts.corrupt = u64::from(journal.integrity().ok().as_deref() != Some("ok"));
    let Ok(shown) = show(&journal) else {
        cuts.corrupt = 1;
        return cuts;
    };
    let answered = recording.answered.iter().rposition(|(ops, _)| *ops <= n).unwrap_or(0);
    let may = recording.answered.iter().skip(answered).take(2);
    let goes_on = journal.set_meta("after", b"the cut").is_ok();
    cuts.lost = u64::from(!may.map(|(_, shown)| shown).any(|may| *may == shown) || !goes_on);
    cuts
}

/// Lets every change of the script and all after it fail in turn until the call under way has answered. Answers how many
/// calls failed.
///
/// # Panics
/// A failed call had an effect, another error than `code` was answered, or the same journal did not go on afterwards.
pub fn fail_everywhere(script: &Script, failure: Failure, code: &str) -> u64 {
    let base = base(script);
    let expected = shown_after_each(script, &base);
    for n in 1.. {
        let disk = Disk::with(base.clone());
        let journal = open(&disk);
        disk.fail_from(disk.ops() + n, failure);
        let mut has_failed = false;
        for (step, pair) in script.steps.iter().zip(expected.windows(2)) {
            if let Err(error) = step(&journal) {
                assert_eq!(error.code(), code, "{error}");
                assert_eq!(show(&journal).unwrap(), pair[0], "a call that failed changed nothing");
                has_failed = disk.heal();
                assert!(has_failed, "it failed because of the disk");
                step(&journal).unwrap();
            }
            assert_eq!(show(&journal).unwrap(), pair[1], "the same journal goes on");
        }
        disk.heal();
        assert_eq!(journal.integrity().unwrap(), "ok");
        drop(journal);
        assert_eq!(show(&open(&disk)).unwrap(), *expected.last().unwrap(), "and keeps it");
        if !has_failed {
            return n - 1;
        }
    }
    unreachable!("a script ends")
}

fn shown_after_each(script: &Script, base: &Platter) -> Vec<Shown> {
    let disk = Disk::with(base.clone());
    let journal = open(&disk);
    let mut shown = vec![show(&journal).unwrap()];
    for step in &script.steps {
        step(&journal).unwrap();
        shown.push(show(&journal).unwrap());
    }
    shown
}
