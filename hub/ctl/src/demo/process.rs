//! The processes of the demo: started with their logs in files, watched, and stopped on every way out.

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde::de::DeserializeOwned;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use super::log::{complete_lines, tail, warning};
use crate::error::Error;

/// How often files and processes are looked at.
pub const LOOK: Duration = Duration::from_millis(20);
/// How long a process may take to say that it listens.
const START_S: u64 = 30;
/// How long a command that ends by itself may take.
const ONE_SHOT: Duration = Duration::from_secs(60);
/// How long a process gets after SIGTERM. The hub lets running requests finish for up to 10 s.
const STOP: Duration = Duration::from_secs(15);

/// Runs a command that ends by itself and reads its standard output as JSON.
///
/// # Errors
/// [`Error::Process`] with its standard error.
pub async fn one_shot<T: DeserializeOwned>(program: &Path, args: &[&OsStr]) -> Result<T, Error> {
    let name = program.file_name().unwrap_or(program.as_os_str()).to_string_lossy().into_owned();
    let first = args.first().map(|arg| arg.to_string_lossy().into_owned()).unwrap_or_default();
    let failed = |why: String| Error::Process { what: format!("{name} {first}"), why };
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).kill_on_drop(true);
    let output = timeout(ONE_SHOT, command.output())
        .await
        .map_err(|_| failed(format!("has not ended after {} s", ONE_SHOT.as_secs())))?
        .map_err(|e| failed(e.to_string()))?;
    if !output.status.success() {
        return Err(failed(format!("{}\n{}", output.status, tail(&output.stderr))));
    }
    serde_json::from_slice(&output.stdout).map_err(|e| failed(format!("its answer is not what was expected: {e}")))
}

/// A process that runs until it is stopped. Dropping it kills it: nothing outlives the demo.
#[derive(Debug)]
struct Process {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Fails as soon as the process has ended by itself.
    fn check(&mut self) -> Result<(), Error> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(self.failed(&format!("ended with {status}"))),
            Err(e) => Err(self.failed(&e.to_string())),
        }
    }

    fn failed(&self, why: &str) -> Error {
        let log = std::fs::read(&self.log).unwrap_or_default();
        Error::Process { what: self.name.to_owned(), why: format!("{why}; its last lines:\n{}", tail(&log)) }
    }

    async fn stop(mut self) -> Result<(), Error> {
        if self.terminate().is_ok() && timeout(STOP, self.child.wait()).await.is_ok() {
            return Ok(());
        }
        let killed = self.child.kill().await;
        killed.map_err(|e| self.failed(&format!("cannot be killed: {e}")))?;
        Err(self.failed(&format!("did not stop within {} s and was killed", STOP.as_secs())))
    }

    /// SIGTERM, where there are signals.
    #[cfg(unix)]
    fn terminate(&self) -> std::io::Result<()> {
        use rustix::process::{Pid, Signal, kill_process};
        let id = self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        // Without an id it was waited for already: there is nothing to signal, and the wait that follows returns.
        id.map_or(Ok(()), |id| Ok(kill_process(id, Signal::TERM)?))
    }
    #[cfg(not(unix))]
    fn terminate(&self) -> std::io::Result<()> {
        Err(std::io::ErrorKind::Unsupported.into())
    }
}

/// The processes that run now, in the order in which they were started.
#[derive(Debug, Default)]
pub struct Processes(Vec<Process>);

impl Processes {
    /// Starts a process; `folder` takes its standard output (`NAME.out`) and its log (`NAME.log`).
    ///
    /// # Errors
    /// [`Error::Write`], [`Error::Process`].
    pub fn start(
        &mut self,
        name: &'static str,
        program: &Path,
        args: &[&OsStr],
        folder: &Path,
    ) -> Result<PathBuf, Error> {
        let create = |path: PathBuf| match File::create(&path) {
            Ok(file) => Ok((path, file)),
            Err(source) => Err(Error::Write { path, source }),
        };
        // Files instead of pipes: nobody has to read along, and a log survives its process.
        let (out, out_file) = create(folder.join(format!("{name}.out")))?;
        let (log, log_file) = create(folder.join(format!("{name}.log")))?;
        let mut command = Command::new(program);
        command.args(args).stdin(Stdio::null()).stdout(out_file).stderr(log_file).kill_on_drop(true);
        // Ctrl-C goes to the whole group of a terminal; in a group of its own each is stopped by us, in order.
        #[cfg(unix)]
        command.process_group(0);
        let child = command.spawn().map_err(|e| Error::Process { what: name.to_owned(), why: e.to_string() })?;
        self.0.push(Process { name, child, log });
        Ok(out)
    }

    /// Waits for the one line of JSON that a process prints when it listens.
    ///
    /// # Errors
    /// [`Error::Process`] where it ends or says something else, [`Error::Timeout`].
    pub async fn first_line<T: DeserializeOwned>(&mut self, name: &str, out: &Path) -> Result<T, Error> {
        let deadline = Instant::now() + Duration::from_secs(START_S);
        loop {
            let text = std::fs::read_to_string(out).unwrap_or_default();
            if let Some((line, _)) = text.split_once('\n') {
                let why = |e: serde_json::Error| format!("said {line:?}, which is not expected: {e}");
                return serde_json::from_str(line).map_err(|e| Error::Process { what: name.to_owned(), why: why(e) });
            }
            self.check()?;
            if Instant::now() > deadline {
                return Err(Error::Timeout { what: format!("the start of {name}"), seconds: START_S });
            }
            sleep(LOOK).await;
        }
    }

    /// Fails if any process has ended by itself.
    ///
    /// # Errors
    /// [`Error::Process`] with the last lines of its log.
    pub fn check(&mut self) -> Result<(), Error> {
        self.0.iter_mut().try_for_each(Process::check)
    }

    /// Waits until any process ends by itself, which none should. Meanwhile `warned` hears each new warning or error
    /// in the log of the process `name`: it says why something takes long.
    pub async fn watch_over(&mut self, name: &str, warned: impl Fn(&str)) -> Error {
        let mut told = 0;
        loop {
            if let Err(error) = self.check() {
                return error;
            }
            let log = self.log(name);
            for line in complete_lines(&log, &mut told).filter_map(|line| warning(name, line)) {
                warned(&line);
            }
            sleep(LOOK).await;
        }
    }

    fn log(&self, name: &str) -> String {
        let log = self.0.iter().find(|process| process.name == name).map(|process| &process.log);
        // A log that cannot be read has nothing to tell.
        let bytes = log.and_then(|log| std::fs::read(log).ok()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Resident memory of a process in bytes; `None` where the system does not tell.
    pub fn resident_bytes(&self, name: &str) -> Option<u64> {
        let process = self.0.iter().find(|process| process.name == name)?;
        let status = std::fs::read_to_string(format!("/proc/{}/status", process.child.id()?)).ok()?;
        resident_bytes(&status)
    }

    /// The last lines of a process' log.
    pub fn log_tail(&self, name: &str) -> String {
        tail(self.log(name).as_bytes())
    }

    /// Stops all, the last started first, and waits for each.
    ///
    /// # Errors
    /// The first that had to be killed; the others are stopped all the same.
    pub async fn stop(&mut self) -> Result<(), Error> {
        let mut result = Ok(());
        while let Some(process) = self.0.pop() {
            result = result.and(process.stop().await);
        }
        result
    }
}

/// Reads `VmRSS` of Linux' `/proc/PID/status`.
fn resident_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
    }
    fn args(script: &str) -> [&OsStr; 2] {
        [OsStr::new("-c"), OsStr::new(script)]
    }
    const SHELL: &str = "/bin/sh";

    #[test]
    fn a_process_that_ends_by_itself_is_reported_with_its_last_lines() {
        run(async {
            let folder = tempfile::tempdir().unwrap();
            let mut processes = Processes::default();
            let script = args("echo port in use >&2; exit 7");
            let out = processes.start("hub", Path::new(SHELL), &script, folder.path()).unwrap();
            let error = processes.first_line::<serde_json::Value>("hub", &out).await.unwrap_err();
            assert!(error.to_string().contains("port in use") && error.to_string().contains('7'), "{error}");
        });
    }

    #[test]
    fn stop_ends_what_runs_and_dropping_kills_it() {
        run(async {
            let folder = tempfile::tempdir().unwrap();
            let mut processes = Processes::default();
            let script = args("echo '{\"listening\":\"x\"}'; exec sleep 600");
            let out = processes.start("hub", Path::new(SHELL), &script, folder.path()).unwrap();
            let line: serde_json::Value = processes.first_line("hub", &out).await.unwrap();
            assert_eq!(line["listening"], "x");
            processes.check().unwrap();
            processes.stop().await.unwrap();

            processes.start("agent", Path::new(SHELL), &args("exec sleep 600"), folder.path()).unwrap();
            let id = processes.0[0].child.id().unwrap();
            drop(processes);
            // Reaping is the runtime's: a zombie has no memory left, a process that runs has.
            let gone = || resident_bytes(&std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default());
            timeout(Duration::from_secs(10), async {
                while gone().is_some() {
                    sleep(LOOK).await;
                }
            })
            .await
            .unwrap();
        });
    }

    #[test]
    fn a_command_that_fails_is_reported_with_its_words() {
        run(async {
            let ok: serde_json::Value = one_shot(Path::new(SHELL), &args("echo '{\"a\":1}'")).await.unwrap();
            assert_eq!(ok["a"], 1);
            let error =
                one_shot::<serde_json::Value>(Path::new(SHELL), &args("echo no >&2; exit 3")).await.unwrap_err();
            assert!(error.to_string().contains("no"), "{error}");
        });
    }

    #[test]
    fn reads_resident_memory() {
        assert_eq!(resident_bytes("Name:\tx\nVmRSS:\t    5120 kB\n"), Some(5120 * 1024));
        assert_eq!(resident_bytes("Name:\tx\n"), None);
    }
}
