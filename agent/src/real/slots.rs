//! The folder of the two slots (`agent/launcher` has its form), and the way that binaries come there.

use std::fs::{self, File};
use std::io::{ErrorKind as Io, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use data_encoding::HEXLOWER;
use genesis_shared::chain::Chain;
use genesis_shared::id::Digest;
use genesis_shared::limits::{AGENT_FETCH_S, PROBATION_MS};
use ring::digest::{Context, SHA256};

use crate::core::update::Facts;
use crate::ports::slots::{Slots, Standing};
use crate::ports::{EffectError, ErrorKind};

/// The launcher says in it as what it started this process.
const SLOT_VARIABLE: &str = "GENESIS_SLOT";
/// How long a binary may take to say what it is, on a machine that swaps.
const FACTS_TIME: Duration = Duration::from_secs(10);
/// Between two looks at whether it has.
const FACTS_EVERY: Duration = Duration::from_millis(10);
/// A few numbers as JSON.
const FACTS_BYTES_MAX: u64 = 4096;
/// For a connection, and for each part of what comes.
const SILENCE: Duration = Duration::from_secs(30);

/// The slots of this machine.
#[derive(Debug)]
pub struct RealSlots {
    folder: PathBuf,
    client: reqwest::Client,
    /// `a`, `b` or `packaged`; `None` without a launcher.
    me: Option<String>,
}

impl RealSlots {
    /// The slots in a data folder; they need not be there.
    ///
    /// # Errors
    /// There can be no HTTP client.
    pub fn new(data_dir: &Path) -> Result<Self, reqwest::Error> {
        let client = reqwest::Client::builder().connect_timeout(SILENCE).read_timeout(SILENCE);
        let client = client.timeout(Duration::from_secs(AGENT_FETCH_S)).build()?;
        Ok(Self { folder: data_dir.join("slots"), client, me: std::env::var(SLOT_VARIABLE).ok() })
    }

    fn me(&self) -> Result<&str, EffectError> {
        let message = "no launcher has started this agent, so none would take an update back; install the package, whose unit has one";
        self.me.as_deref().ok_or_else(|| EffectError::new(ErrorKind::Permanent, "update_no_launcher", message))
    }

    /// The slot that is neither this process' nor the one that a restart would run.
    fn free(&self) -> Result<&'static str, EffectError> {
        let current = self.lines("current")?.and_then(|text| value(&text, "slot"));
        let is_taken = |slot: &str| self.me.as_deref() == Some(slot) || current.as_deref() == Some(slot);
        Ok(if is_taken("a") { "b" } else { "a" })
    }

    fn lines(&self, name: &str) -> Result<Option<String>, EffectError> {
        match fs::read_to_string(self.folder.join(name)) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == Io::NotFound => Ok(None),
            Err(error) => Err(failed("read", name, &error)),
        }
    }

    fn write(&self, name: &str, text: &str) -> Result<(), EffectError> {
        let new = self.folder.join(format!("{name}.new"));
        let written = write_synced(&new, text.as_bytes()).and_then(|()| fs::rename(&new, self.folder.join(name)));
        written.and_then(|()| self.sync()).map_err(|error| failed("write", name, &error))
    }

    fn remove(&self, name: &str) -> Result<(), EffectError> {
        match fs::remove_file(self.folder.join(name)) {
            Err(error) if error.kind() != Io::NotFound => Err(failed("remove", name, &error)),
            _ => Ok(()),
        }
    }

    fn sync(&self) -> std::io::Result<()> {
        File::open(&self.folder)?.sync_all()
    }

    /// Writes what a URL gives into a file, and answers its digest; never more than `size`, and never in memory at once.
    async fn download(&self, url: &str, size: u64, part: &Path) -> Result<String, EffectError> {
        let unreachable = |error: reqwest::Error| {
            let message = format!("cannot fetch {url}: {}", Chain(&error.without_url()));
            EffectError::new(ErrorKind::Transient, "update_unreachable", message)
        };
        let response = self.client.get(url).send().await.and_then(reqwest::Response::error_for_status);
        let mut response = response.map_err(unreachable)?;
        let not_written = |error: std::io::Error| failed("write", "part", &error);
        let mut file = new_file(part, 0o755).map_err(not_written)?;
        let (mut digest, mut length) = (Context::new(&SHA256), 0);
        while let Some(bytes) = response.chunk().await.map_err(unreachable)? {
            length += bytes.len() as u64;
            if length > size {
                break;
            }
            digest.update(&bytes);
            file.write_all(&bytes).map_err(not_written)?;
        }
        if length != size {
            let message = format!("{url} gives {length} bytes or more where the bundle says {size}");
            return Err(EffectError::new(ErrorKind::Permanent, "update_size", message));
        }
        file.sync_all().map_err(not_written)?;
        Ok(text_of(digest))
    }

    async fn bring(&self, url: &str, sha256: Digest, size: u64, slot: &str) -> Result<(), EffectError> {
        let part = self.folder.join(format!("{slot}.part"));
        let found = self.download(url, size, &part).await?;
        if found != sha256.to_string() {
            let message = format!("{url} gives {found}, the bundle says {sha256}");
            return Err(EffectError::new(ErrorKind::Permanent, "update_digest", message));
        }
        let placed = fs::rename(&part, self.folder.join(slot)).and_then(|()| self.sync());
        placed.map_err(|error| failed("write", slot, &error))
    }
}

impl Slots for RealSlots {
    async fn fetch(&self, url: &str, sha256: Digest, size: u64) -> Result<(), EffectError> {
        self.me()?;
        let slot = self.free()?;
        fs::create_dir_all(&self.folder).map_err(|error| failed("create", "slots", &error))?;
        let path = self.folder.join(slot);
        if !holds(&path, sha256)
            && let Err(error) = self.bring(url, sha256, size, slot).await
        {
            // What is left of it would be in the way of whoever needs the room.
            self.remove(&format!("{slot}.part"))?;
            return Err(error);
        }
        self.remove("rejected")
    }

    async fn facts(&self) -> Result<Facts, EffectError> {
        let no = |why: &str| {
            EffectError::new(ErrorKind::Permanent, "update_not_a_program", format!("the fetched binary {why}"))
        };
        let mut command = Command::new(self.folder.join(self.free()?));
        command.arg("facts").env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().map_err(|error| no(&format!("cannot be started: {error}")))?;
        let ended = ends(&mut child).await;
        let mut text = String::new();
        if let Some(out) = child.stdout.take() {
            out.take(FACTS_BYTES_MAX).read_to_string(&mut text).map_err(|_| no("says what is no text"))?;
        }
        if !ended {
            return Err(no("does not say what it is"));
        }
        serde_json::from_str(&text).map_err(|_| no("says nothing sensible of itself"))
    }

    fn standing(&self, sha256: Digest) -> Result<Standing, EffectError> {
        let me = self.me()?;
        let named = |name: &str| {
            let text = self.lines(name)?.filter(|text| value(text, "sha256") == Some(sha256.to_string()));
            Ok::<_, EffectError>(text)
        };
        let is_me = |text: &String| value(text, "slot").as_deref() == Some(me);
        if let Some(trial) = named("trial")?.filter(is_me) {
            return Ok(Standing::OnTrial { hub_was_there: value(&trial, "hub").as_deref() != Some("away") });
        }
        if named("current")?.is_some_and(|text| is_me(&text)) {
            return Ok(Standing::Current);
        }
        let why = named("rejected")?.map(|text| value(&text, "why").unwrap_or_default());
        Ok(why.map_or(Standing::Elsewhere, Standing::Rejected))
    }

    async fn begin_trial(&self, sha256: Digest, hub_is_there: bool) -> Result<(), EffectError> {
        self.me()?;
        let slot = self.free()?;
        self.remove("spent")?;
        self.remove("rejected")?;
        let hub = if hub_is_there { "there" } else { "away" };
        self.write("trial", &format!("slot={slot}\nsha256={sha256}\nbudget_ms={PROBATION_MS}\nstarts=0\nhub={hub}\n"))?;
        tracing::info!(%sha256, slot, hub, "ending for a new version on probation");
        std::process::exit(0);
    }

    fn confirm(&self, sha256: Digest) -> Result<(), EffectError> {
        if self.standing(sha256)? == Standing::Current {
            return Ok(());
        }
        // One rename: the launcher never sees a moment in which the trial is over and nothing came of it.
        let (trial, current) = (self.folder.join("trial"), self.folder.join("current"));
        fs::rename(trial, current).and_then(|()| self.sync()).map_err(|error| failed("write", "current", &error))?;
        self.remove("spent")
    }

    async fn give_up(&self, sha256: Digest, why: &str) -> Result<(), EffectError> {
        self.write("rejected", &format!("sha256={sha256}\nwhy={}\n", why.replace('\n', " ")))?;
        self.remove("trial")?;
        self.remove("spent")?;
        self.sync().map_err(|error| failed("write", "slots", &error))?;
        tracing::warn!(%sha256, "ending for the former version: {why}");
        std::process::exit(0);
    }

    fn discard(&self, sha256: Digest) -> Result<(), EffectError> {
        let slot = self.free()?;
        self.remove(&format!("{slot}.part"))?;
        if holds(&self.folder.join(slot), sha256) { self.remove(slot) } else { Ok(()) }
    }
}

/// Whether it ended well in time; one that does not is ended.
async fn ends(child: &mut Child) -> bool {
    let mut waited = Duration::ZERO;
    while waited < FACTS_TIME {
        match child.try_wait() {
            Ok(Some(status)) => return status.success(),
            Ok(None) => tokio::time::sleep(FACTS_EVERY).await,
            Err(_) => break,
        }
        waited += FACTS_EVERY;
    }
    // Errors say that it has ended already.
    drop(child.kill());
    drop(child.wait());
    false
}

/// Whether a file is this binary; read in parts, for the agent is small.
fn holds(path: &Path, sha256: Digest) -> bool {
    let Ok(mut file) = File::open(path) else { return false };
    let (mut digest, mut buffer) = (Context::new(&SHA256), vec![0; 64 * 1024]);
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return text_of(digest) == sha256.to_string(),
            Ok(length) => digest.update(&buffer[..length]),
            Err(_) => return false,
        }
    }
}

fn text_of(digest: Context) -> String {
    format!("sha256:{}", HEXLOWER.encode(digest.finish().as_ref()))
}

/// The value of a line `name=value`.
fn value(text: &str, name: &str) -> Option<String> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')).map(str::to_owned)
}

fn write_synced(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let mut file = new_file(path, 0o600)?;
    file.write_all(content)?;
    file.sync_all()
}

/// A new file in the place of any old one, so that its mode is this one.
fn new_file(path: &Path, mode: u32) -> std::io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != Io::NotFound => return Err(error),
        _ => {}
    }
    fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path)
}

fn failed(operation: &str, name: &str, error: &std::io::Error) -> EffectError {
    let full = error.kind() == Io::StorageFull;
    let code = if full { "disk_full" } else { "slots" };
    EffectError::new(
        ErrorKind::Transient,
        code,
        format!("cannot {operation} {name} among the agent's binaries: {error}"),
    )
}
