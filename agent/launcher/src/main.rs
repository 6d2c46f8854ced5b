//! `genesis-launcher SLOTS AGENT ARGUMENT…`: starts the version of the agent that has proved itself, or one on probation.
//!
//! It is the one part of the agent that no update replaces, so it does little: it knows no hub, no journal, no bundle. In the
//! folder SLOTS lie the binaries `a` and `b`, and
//! - `current`: which of them runs; without it AGENT does, the packaged binary, which is also what remains if all else fails;
//! - `trial`: which of them is on probation, for how much longer, how often it was started; the agent writes it;
//! - `rejected`: what went wrong with the last one that failed; the launcher writes it, and the next update removes it.
//!
//! ```text
//!   no trial ────────────▶ becomes the current version (exec: no process is left behind)
//!   trial, starts left ──▶ starts it as a child and waits:
//!        `trial` gone, `current` names it ──▶ proved; goes on waiting for its end
//!        `trial` gone otherwise           ──▶ it gave up; becomes the current version
//!        it ended, or its time is over    ──▶ rejected; becomes the current version
//! ```
//!
//! Probation is counted in running time, and what was spent is on disk every second: a machine that is off proves nothing.
//! Where the disk takes no more writes, nothing is tried. A stop of the service ends launcher and agent together (systemd
//! signals the whole control group) and decides nothing.
#![allow(clippy::disallowed_methods, reason = "it measures real time and has nothing else to wait with")]

mod slots;

use std::convert::Infallible;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use slots::{Slots, Trial};

/// Between two looks at the child and the folder.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Between two notes of the time that was spent.
const NOTE_EVERY: Duration = Duration::from_secs(1);
/// How often a version may be started before it has proved itself: power cuts come in rows.
const STARTS_MAX: u32 = 5;
/// What no trial may exceed, whatever its file says.
const BUDGET_MAX: Duration = Duration::from_secs(60);
/// How long one that gave up may take to end.
const GIVE_UP_TIME: Duration = Duration::from_secs(5);
/// How long a binary may take to say its version, on a machine that swaps.
const VERSION_TIME: Duration = Duration::from_secs(10);
/// Between two looks at whether it has.
const VERSION_LOOK_EVERY: Duration = Duration::from_millis(2);
/// The agent learns from it that it was started by a launcher, and as what: `a`, `b` or `packaged`.
const SLOT_VARIABLE: &str = "GENESIS_SLOT";

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(folder), Some(packaged)) = (arguments.next(), arguments.next()) else {
        tell("usage: genesis-launcher SLOTS AGENT [ARGUMENT…]");
        return ExitCode::from(2);
    };
    let launcher = Launcher {
        slots: Slots::new(PathBuf::from(folder)),
        packaged: PathBuf::from(packaged),
        arguments: arguments.collect(),
    };
    if let Some(ended) = launcher.run_trial() {
        return code(ended);
    }
    match launcher.become_current() {
        Ok(never) => match never {},
        Err(why) => {
            tell(&why);
            ExitCode::from(4)
        }
    }
}

struct Launcher {
    slots: Slots,
    packaged: PathBuf,
    arguments: Vec<std::ffi::OsString>,
}

impl Launcher {
    /// Runs what is on probation, if anything is. `Some` is the end of a version that had proved itself meanwhile.
    fn run_trial(&self) -> Option<ExitStatus> {
        let mut trial = match self.slots.trial() {
            Ok(trial) => trial?,
            Err(why) => {
                self.reject(None, &why);
                return None;
            }
        };
        if trial.starts >= STARTS_MAX {
            self.reject(Some(&trial), &format!("it ended {STARTS_MAX} times before it had proved itself"));
            return None;
        }
        trial.starts += 1;
        if let Err(why) = self.slots.note(&trial) {
            self.reject(Some(&trial), &format!("its start cannot be noted: {why}"));
            return None;
        }
        let mut child = match self.command(&self.slots.binary(trial.slot), trial.slot.name()).spawn() {
            Ok(child) => child,
            Err(error) => {
                self.reject(Some(&trial), &format!("it cannot be started: {error}"));
                return None;
            }
        };
        self.watch(&mut child, trial)
    }

    fn watch(&self, child: &mut Child, mut trial: Trial) -> Option<ExitStatus> {
        let (began, before) = (Instant::now(), trial.spent);
        let mut noted = began;
        loop {
            let ended = child.try_wait().ok().flatten();
            // Before its end is judged: it may have proved itself and stopped since the last look.
            match self.slots.trial() {
                Ok(None) if self.slots.current() == Some(trial.slot) => return ended.or_else(|| child.wait().ok()),
                Ok(None) => {
                    self.let_end(child);
                    return None;
                }
                Ok(Some(_)) => {}
                Err(why) => {
                    end(child);
                    self.reject(Some(&trial), &why);
                    return None;
                }
            }
            if let Some(status) = ended {
                self.reject(Some(&trial), &format!("it ended before it had proved itself: {status}"));
                return None;
            }
            trial.spent = before + began.elapsed();
            let budget = trial.budget.min(BUDGET_MAX);
            if trial.spent >= budget {
                end(child);
                self.reject(Some(&trial), &format!("it had not proved itself after {} s", budget.as_secs()));
                return None;
            }
            if noted.elapsed() >= NOTE_EVERY {
                noted = Instant::now();
                if let Err(why) = self.slots.note_spent(trial.spent) {
                    tell(&format!("the time on probation cannot be noted: {why}"));
                }
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Waits for one that gave up, and ends it if it does not.
    fn let_end(&self, child: &mut Child) {
        let until = Instant::now() + GIVE_UP_TIME;
        while Instant::now() < until {
            if let Ok(Some(_)) = child.try_wait() {
                return;
            }
            std::thread::sleep(LOOK_EVERY);
        }
        end(child);
    }

    fn reject(&self, trial: Option<&Trial>, why: &str) {
        tell(&format!("the new version is rejected: {why}"));
        if let Err(error) = self.slots.reject(trial, why) {
            tell(&format!("that cannot be noted: {error}"));
        }
    }

    /// Becomes the current version; the packaged one where that cannot be started.
    fn become_current(&self) -> Result<Infallible, String> {
        if let Some(slot) = self.slots.current() {
            let binary = self.slots.binary(slot);
            // There is no way back from exec, which hands what is no program to a shell.
            if says_its_version(&binary) {
                let error = self.command(&binary, slot.name()).exec();
                tell(&format!("slot {} cannot be started: {error}", slot.name()));
            }
            tell(&format!("slot {} is damaged; starting the packaged version", slot.name()));
        }
        let error = self.command(&self.packaged, "packaged").exec();
        Err(format!("{} cannot be started: {error}", self.packaged.display()))
    }

    fn command(&self, binary: &Path, slot: &str) -> Command {
        let mut command = Command::new(binary);
        command.args(&self.arguments).env(SLOT_VARIABLE, slot);
        command
    }
}

/// Whether a binary starts at all.
fn says_its_version(binary: &Path) -> bool {
    let asked = Command::new(binary).arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).spawn();
    let Ok(mut child) = asked else { return false };
    let until = Instant::now() + VERSION_TIME;
    while Instant::now() < until {
        match child.try_wait() {
            Ok(Some(status)) => return status.success(),
            Ok(None) => std::thread::sleep(VERSION_LOOK_EVERY),
            Err(_) => return false,
        }
    }
    end(&mut child);
    false
}

fn end(child: &mut Child) {
    // Errors say that it has ended already.
    drop(child.kill());
    drop(child.wait());
}

fn code(status: ExitStatus) -> ExitCode {
    status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::from(4), ExitCode::from)
}

#[allow(clippy::print_stderr, reason = "there is no other log here")]
fn tell(what: &str) {
    eprintln!("genesis-launcher: {what}");
}
