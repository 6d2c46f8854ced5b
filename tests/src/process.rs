//! Processes under test: started with their logs in files, killed when dropped.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use serde::de::DeserializeOwned;

use crate::until;

/// A binary of this workspace, built by the test command before the tests run.
///
/// # Panics
/// It is not there.
pub fn binary(name: &str) -> PathBuf {
    let exe = std::env::current_exe().unwrap();
    // target/PROFILE/deps/test-binary or target/PROFILE/genesis-bench.
    let folder = exe.ancestors().skip(1).find(|folder| folder.join(name).is_file());
    folder.unwrap_or_else(|| panic!("{name} is not built; run tests/run.sh, or cargo build --bins first")).join(name)
}

/// A running process.
pub struct Process {
    child: Child,
    log: PathBuf,
    out: PathBuf,
}

impl Process {
    /// Starts `command`; its output is added to `NAME.out` and `NAME.log` in `folder`.
    pub fn start(name: &str, command: &mut Command, folder: &Path) -> Self {
        let (out, log) = (folder.join(format!("{name}.out")), folder.join(format!("{name}.log")));
        let log_file = OpenOptions::new().create(true).append(true).open(&log).unwrap();
        let out_file = File::create(&out).unwrap();
        let child = command.stdin(Stdio::null()).stdout(out_file).stderr(log_file).spawn();
        let child = child.unwrap_or_else(|e| panic!("cannot start {name}: {e}"));
        Self { child, log, out }
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits for the one line of JSON that it prints when it is ready.
    pub async fn first_line<T: DeserializeOwned>(&mut self) -> T {
        let out = self.out.clone();
        let line = until("a process' first line", || {
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "it ended with {ended:?}:\n{}", self.log());
            let text = std::fs::read_to_string(&out).unwrap_or_default();
            async move { text.split_once('\n').map(|(line, _)| line.to_owned()) }
        });
        serde_json::from_str(&line.await).unwrap()
    }

    /// SIGKILL, and waits for it to be gone.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, and waits for its end.
    pub async fn terminate(&mut self) -> ExitStatus {
        let id = rustix::process::Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
        self.exit().await
    }

    /// Waits for its end.
    pub async fn exit(&mut self) -> ExitStatus {
        until("a process to end", || {
            let ended = self.child.try_wait().unwrap();
            async move { ended }
        })
        .await
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Resident bytes now and at most (Linux).
    pub fn resident_bytes(&self) -> (u64, u64) {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let value = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
            line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() * 1024
        };
        (value("VmRSS:"), value("VmHWM:"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already; nothing is to be done about either error.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
