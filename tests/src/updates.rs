//! Updates of an agent as processes: hub, launcher and agent, and binaries that fail in every way.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use genesis_shared::command::CommandWire;
use genesis_shared::id::Digest;
use genesis_shared::wire::JobState;
use serde_json::json;
use tempfile::TempDir;

use crate::lab::Files;
use crate::process::binary;
use crate::rig::Rig;

/// Room for two binaries of a debug build, and what `disk_full` fills.
const DISK_KIB: u32 = 160 * 1024;
/// Between two looks at the trial.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// One way for an update to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failing {
    /// The server has other bytes than the bundle says.
    BadHash,
    /// It ends at once.
    CrashAtStart,
    /// It ends by itself after a while, as one that panics.
    CrashLater,
    /// It starts and does nothing.
    Hang,
    /// It works, and cannot reach the hub that the old version reached.
    NoHub,
    /// The power goes somewhere in the middle, and the new version would end later.
    PowerCut,
    /// There is no room for it.
    DiskFull,
    /// It is no program.
    NoProgram,
    /// It writes a journal that the old version could not read.
    OtherJournal,
}

impl Failing {
    const ALL: [Self; 9] = [
        Self::BadHash,
        Self::CrashAtStart,
        Self::Hang,
        Self::PowerCut,
        Self::NoHub,
        Self::DiskFull,
        Self::NoProgram,
        Self::CrashLater,
        Self::OtherJournal,
    ];

    /// The n-th of all, over and over.
    pub fn nth(n: usize) -> Self {
        Self::ALL[n % Self::ALL.len()]
    }

    /// For figures.
    pub fn name(self) -> &'static str {
        match self {
            Self::BadHash => "bad_hash",
            Self::CrashAtStart => "crash_at_start",
            Self::CrashLater => "crash_later",
            Self::Hang => "hang",
            Self::NoHub => "no_hub",
            Self::PowerCut => "power_cut",
            Self::DiskFull => "disk_full",
            Self::NoProgram => "no_program",
            Self::OtherJournal => "other_journal",
        }
    }

    /// The code that its job must have.
    fn code(self) -> &'static str {
        match self {
            Self::BadHash => "update_digest",
            Self::CrashAtStart | Self::CrashLater | Self::Hang | Self::NoHub | Self::PowerCut => "update_rolled_back",
            Self::DiskFull => "disk_full",
            Self::NoProgram => "update_not_a_program",
            Self::OtherJournal => "update_journal_differs",
        }
    }
}

/// How a failing update ended.
#[derive(Debug)]
pub struct Ended {
    /// Which way it failed.
    pub failing: Failing,
    /// Whether the old version does its work again.
    pub is_back: bool,
    /// From the start of the new version until the old one had told of its end; 0 where it never started.
    pub rollback_ms: u64,
    /// What was wrong, if anything.
    pub why: String,
}

/// One droplet with a launcher, started again whenever it ends, as systemd would.
pub struct Story {
    rig: Rig,
    files: Files,
    count: u32,
}

impl Drop for Story {
    fn drop(&mut self) {
        // The loop first, or it would start the rest again.
        self.rig.agent.kill();
        self.power_cut();
    }
}

impl Story {
    /// Plays these failures one after another on a droplet of their own, and at last an update that is right.
    pub async fn play(seed: usize, failures: Vec<Failing>) -> Vec<Ended> {
        let mut story = Self::new().await;
        let mut ended = Vec::new();
        for (n, failing) in failures.into_iter().enumerate() {
            ended.push(story.fail(failing, seed + n).await);
        }
        story.succeed().await;
        ended
    }

    /// A droplet that has enrolled.
    pub async fn new() -> Self {
        let folder = TempDir::with_prefix("genesis-update-").unwrap();
        let service = folder.path().join("service");
        let (launcher, agent) = (binary("genesis-launcher"), binary("genesis-agent"));
        let slots = folder.path().join("agent/slots");
        let text = format!(
            "#!/bin/sh\nwhile :; do '{}' '{}' '{}' \"$@\"; sleep 0.1; done\n",
            launcher.display(),
            slots.display(),
            agent.display()
        );
        std::fs::write(&service, text).unwrap();
        std::fs::set_permissions(&service, std::fs::Permissions::from_mode(0o755)).unwrap();
        let rig = Rig::with_small_disk_and(folder, DISK_KIB, service).await;
        Self { rig, files: Files::serve("127.0.0.1", BTreeMap::new()).await, count: 0 }
    }

    /// Lets an update fail and looks what became of the droplet.
    pub async fn fail(&mut self, failing: Failing, seed: usize) -> Ended {
        let before = self.current();
        let (served, named) = self.binaries(failing);
        let filler = self.rig.agent_dir().join("filler");
        if failing == Failing::DiskFull {
            // 12 MiB are left: enough for the journal, too few for what is padded to 20.
            let free = rustix::fs::statvfs(self.rig.agent_dir()).map(|disk| disk.f_bavail * disk.f_frsize).unwrap();
            std::fs::write(&filler, vec![1; usize::try_from(free.saturating_sub(12 << 20)).unwrap()]).unwrap();
        }
        let bundle = self.rig.operator.bundle(self.rig.workspace, vec![self.update(&served, &named)]);
        let job = self.rig.push(&self.rig.operator.sign(&bundle)).await;
        if failing == Failing::PowerCut {
            tokio::time::sleep(Duration::from_millis(seed as u64 * 137 % 2_500)).await;
            self.power_cut();
        }
        let client = &self.rig.client;
        let (trial, mut began) = (self.slots().join("trial"), None);
        #[allow(clippy::disallowed_methods, reason = "a bench measures time")]
        let view = loop {
            if began.is_none() && trial.exists() {
                began = Some(Instant::now());
            }
            match client.job(job).await {
                Ok(view) if view.state.is_final() => break view,
                _ => tokio::time::sleep(LOOK_EVERY).await,
            }
        };
        let rollback_ms = began.map_or(0, |began| u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX));
        drop(std::fs::remove_file(filler));
        let code = view.result.as_ref().map(|result| result.code.clone()).unwrap_or_default();
        let look = self.rig.run(vec![CommandWire { action: "HEALTH_CHECK".into(), payload: None }]).await;
        let is_as_before = self.current() == before && !trial.exists();
        let is_back = look.state == JobState::Succeeded && is_as_before && code == failing.code();
        let why = format!("the job ended with {code:?}, a look with {:?}; as before: {is_as_before}", look.state);
        Ended { failing, is_back, rollback_ms, why }
    }

    /// An update that is right, after whatever was.
    pub async fn succeed(&mut self) {
        let stripped = self.rig.folder().join("stripped");
        let strip = Command::new("strip").arg("-o").arg(&stripped).arg(binary("genesis-agent")).status().unwrap();
        assert!(strip.success());
        let mut content = std::fs::read(stripped).unwrap();
        // Another digest each time.
        self.count += 1;
        content.extend_from_slice(&self.count.to_le_bytes());
        let job = self.rig.run(vec![self.update(&content, &content)]).await;
        assert_eq!(job.state, JobState::Succeeded, "{:?}", job.result);
        assert!(self.current().contains(&Digest::of(&content).to_string()), "{}", self.current());
        let look = self.rig.run(vec![CommandWire { action: "HEALTH_CHECK".into(), payload: None }]).await;
        assert_eq!(look.state, JobState::Succeeded, "{:?}", look.result);
    }

    fn update(&self, served: &[u8], named: &[u8]) -> CommandWire {
        self.files.put("/agent", served.to_vec());
        let payload = json!({"url": self.files.url("/agent"), "sha256": Digest::of(named), "size": named.len()});
        CommandWire { action: "UPDATE_AGENT".into(), payload: Some(payload) }
    }

    fn slots(&self) -> PathBuf {
        self.rig.agent_dir().join("slots")
    }

    /// What a restart would run.
    fn current(&self) -> String {
        std::fs::read_to_string(self.slots().join("current")).unwrap_or_default()
    }

    /// What the server has, and what the bundle says it has.
    fn binaries(&mut self, failing: Failing) -> (Vec<u8>, Vec<u8>) {
        self.count += 1;
        let writes = genesis_agent::core::update::facts().journal_writes;
        let program = |writes: i64, run: &str| {
            let facts = json!({"version": "9", "journal_reads_from": 1, "journal_writes": writes});
            format!("#!/bin/sh\n# {}\ncase $1 in facts) echo '{facts}'; exit 0;; esac\n{run}\n", self.count)
                .into_bytes()
        };
        let good = program(writes, "exit 1");
        let named = match failing {
            Failing::CrashAtStart => good,
            Failing::CrashLater => program(writes, "/bin/sleep 1; kill -6 $$"),
            Failing::PowerCut => program(writes, "/bin/sleep 2; exit 1"),
            Failing::Hang => program(writes, "trap '' TERM; while :; do /bin/sleep 1; done"),
            Failing::NoHub => program(writes, &self.elsewhere()),
            Failing::NoProgram => format!("\u{7f}ELF {}", self.count).into_bytes(),
            Failing::OtherJournal => program(writes + 1, "exit 1"),
            Failing::DiskFull => [good, vec![b'#'; 20 << 20]].concat(),
            Failing::BadHash => {
                let mut other = good.clone();
                *other.last_mut().unwrap() = b' ';
                return (other, good);
            }
        };
        (named.clone(), named)
    }

    /// The real agent with a hub that is not there.
    fn elsewhere(&self) -> String {
        let config = self.rig.folder().join("agent.toml");
        let elsewhere = self.rig.folder().join("elsewhere.toml");
        let text = std::fs::read_to_string(config).unwrap();
        std::fs::write(&elsewhere, text.replace(&self.rig.hub_url(), "https://127.0.0.1:9")).unwrap();
        format!("exec '{}' run --config '{}'", binary("genesis-agent").display(), elsewhere.display())
    }

    /// Every process of the service but the loop dies at once.
    fn power_cut(&self) {
        let mark = self.rig.folder().display().to_string();
        let pids = std::fs::read_dir("/proc")
            .unwrap()
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
        for pid in pids.filter(|pid| u32::try_from(*pid).ok() != Some(self.rig.agent.id())) {
            let line = std::fs::read(Path::new("/proc").join(pid.to_string()).join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).into_owned();
            let is_ours = ["agent.toml", "elsewhere.toml"].iter().any(|file| line.contains(&format!("{mark}/{file}")));
            if is_ours && let Some(pid) = rustix::process::Pid::from_raw(pid) {
                let killed = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
                // It may have ended meanwhile.
                assert!(matches!(killed, Ok(()) | Err(rustix::io::Errno::SRCH)), "{killed:?}");
            }
        }
    }
}
