//! The launcher as a process, with scripts in the place of agents.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// A folder of slots and a packaged agent that says so.
struct Place {
    dir: TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self { dir: TempDir::new().unwrap() };
        fs::create_dir(place.slots()).unwrap();
        place.script(&place.packaged(), "echo packaged $GENESIS_SLOT $1");
        place
    }
    fn slots(&self) -> PathBuf {
        self.dir.path().join("slots")
    }
    fn packaged(&self) -> PathBuf {
        self.dir.path().join("agent")
    }
    fn script(&self, path: &Path, text: &str) {
        fs::write(path, format!("#!/bin/sh\nS='{}'\n{text}\n", self.slots().display())).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    /// A version on probation in slot b.
    fn on_trial(&self, text: &str, budget_ms: u64) {
        self.script(&self.slots().join("b"), text);
        self.write("trial", &format!("slot=b\nsha256=x\nbudget_ms={budget_ms}\nstarts=0\nhub=heard\n"));
    }
    fn write(&self, name: &str, text: &str) {
        fs::write(self.slots().join(name), text).unwrap();
    }
    fn read(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.slots().join(name)).ok()
    }
    /// Runs it to its end: what was printed, and the exit code.
    fn run(&self) -> (String, Option<i32>) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_genesis-launcher"));
        let ran = command.arg(self.slots()).arg(self.packaged()).arg("run").output().unwrap();
        (String::from_utf8(ran.stdout).unwrap(), ran.status.code())
    }
    /// It ended with the packaged version, and the trial with these words.
    #[track_caller]
    fn goes_back(&self, why: &str) {
        assert_eq!(self.run(), ("packaged packaged run\n".to_owned(), Some(0)));
        assert_eq!(self.read("trial"), None);
        assert_eq!(self.read("spent"), None);
        let rejected = self.read("rejected").unwrap();
        assert!(rejected.contains(why), "{rejected}");
        assert_eq!(self.run().0, "packaged packaged run\n", "and it stays with that");
    }
}

#[test]
fn starts_the_packaged_version_where_there_is_no_other() {
    let place = Place::new();
    assert_eq!(place.run(), ("packaged packaged run\n".to_owned(), Some(0)));
    fs::remove_dir(place.slots()).unwrap();
    assert_eq!(place.run().0, "packaged packaged run\n");
}

#[test]
fn becomes_the_current_version_and_the_packaged_one_where_that_is_broken() {
    let place = Place::new();
    place.write("current", "slot=a\nsha256=x\n");
    place.script(&place.slots().join("a"), "[ $1 = --version ] && exit 0; echo a $GENESIS_SLOT $1; exit 7");
    assert_eq!(place.run(), ("a a run\n".to_owned(), Some(7)));
    // A shell would run the second of them.
    for torn in ["\x7fELF torn", "echo torn"] {
        fs::write(place.slots().join("a"), torn).unwrap();
        assert_eq!(place.run().0, "packaged packaged run\n");
    }
    place.write("current", "slot=../../bin/sh\n");
    assert_eq!(place.run().0, "packaged packaged run\n");
}

#[test]
fn one_that_proves_itself_stays() {
    let place = Place::new();
    place.on_trial("echo b $GENESIS_SLOT; mv $S/trial $S/current; exit 3", 60_000);
    assert_eq!(place.run(), ("b b\n".to_owned(), Some(3)));
    assert_eq!(place.read("rejected"), None);
    assert!(place.read("current").unwrap().contains("slot=b"));
}

#[test]
fn one_that_crashes_hangs_gives_up_or_is_no_program_is_rejected() {
    let place = Place::new();
    place.on_trial("exit 1", 60_000);
    place.goes_back("ended before it had proved itself: exit status: 1");
    place.on_trial("kill -9 $$", 60_000);
    place.goes_back("signal: 9");
    place.on_trial("trap '' TERM; while :; do sleep 0.05; done", 300);
    place.goes_back("had not proved itself");
    place.on_trial("echo 'why=no hub' >$S/rejected; rm $S/trial; exit 0", 60_000);
    place.goes_back("no hub");
    place.on_trial("exit 0", 60_000);
    fs::write(place.slots().join("b"), b"not a program").unwrap();
    place.goes_back("cannot be started");
    place.on_trial("exit 0", 60_000);
    fs::remove_file(place.slots().join("b")).unwrap();
    place.goes_back("cannot be started");
}

#[test]
fn a_trial_that_cannot_be_read_is_none() {
    for text in ["", "slot=c\nsha256=x\nbudget_ms=1\nstarts=0\n", "slot=b\nbudget_ms=x\nstarts=0\nsha256=x\n"] {
        let place = Place::new();
        place.write("trial", text);
        place.goes_back("nothing that can be read");
    }
}

#[test]
fn power_cuts_use_up_starts_and_time() {
    let place = Place::new();
    place.on_trial("exit 0", 60_000);
    place.write("trial", "slot=b\nsha256=x\nbudget_ms=60000\nstarts=5\nhub=heard\n");
    place.goes_back("5 times");
    place.on_trial("while :; do sleep 0.05; done", 50_000);
    place.write("spent", "49900\n");
    place.goes_back("had not proved itself after 50 s");
    // A budget of hours is none.
    place.on_trial("while :; do sleep 0.05; done", 999_999_999);
    place.write("spent", "59900\n");
    place.goes_back("had not proved itself after 60 s");
}

#[test]
fn a_folder_that_takes_no_writes_means_no_trial() {
    let place = Place::new();
    place.on_trial("echo must not run", 60_000);
    // A folder where the new file would be: the write fails, whoever runs this.
    fs::create_dir(place.slots().join("trial.new")).unwrap();
    assert_eq!(place.run().0, "packaged packaged run\n");
    assert_eq!(place.read("trial"), None);
}

#[test]
fn a_stop_from_outside_decides_nothing() {
    let place = Place::new();
    place.on_trial("echo $$ >$S/pid; while :; do sleep 0.05; done", 60_000);
    let mut launcher = Command::new(env!("CARGO_BIN_EXE_genesis-launcher"));
    let mut launcher = launcher.arg(place.slots()).arg(place.packaged()).spawn().unwrap();
    let pid = loop {
        if let Some(pid) = place.read("pid").filter(|text| text.ends_with('\n')) {
            break pid;
        }
        std::thread::yield_now();
    };
    launcher.kill().unwrap();
    launcher.wait().unwrap();
    Command::new("kill").args(["-9", pid.trim()]).status().unwrap();
    assert!(place.read("trial").unwrap().contains("starts=1"));
    assert_eq!(place.read("rejected"), None);
}
