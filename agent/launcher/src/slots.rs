//! The folder of the two slots: small text files, each replaced whole.
//!
//! IMPORTANT: these files are read and written by agents of other versions; their form never changes.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// One of the two places for a binary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// The file `a`.
    A,
    /// The file `b`.
    B,
}

impl Slot {
    /// The file's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::A, Self::B].into_iter().find(|slot| slot.name() == text)
    }
}

/// A version on probation: the lines `slot=`, `sha256=`, `budget_ms=`, `starts=`, and `hub=`, which is the agent's matter.
/// What of its time is over stands in a file of its own, so that writing that down never brings an ended trial back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trial {
    /// Which.
    pub slot: Slot,
    /// For whoever reads `rejected`.
    pub sha256: String,
    /// For how long in all.
    pub budget: Duration,
    /// How much of that is over.
    pub spent: Duration,
    /// How often it was started.
    pub starts: u32,
    /// Whether the hub was heard before.
    pub hub: String,
}

/// The folder.
#[derive(Debug)]
pub struct Slots(PathBuf);

impl Slots {
    /// This folder, which need not exist.
    pub fn new(folder: PathBuf) -> Self {
        Self(folder)
    }

    /// The binary of a slot.
    pub fn binary(&self, slot: Slot) -> PathBuf {
        self.0.join(slot.name())
    }

    /// Which slot runs; `None` means the packaged version.
    pub fn current(&self) -> Option<Slot> {
        // The file of its trial: confirming is to give that another name.
        let text = fs::read_to_string(self.0.join("current")).ok()?;
        text.lines().find_map(|line| Slot::parse(line.strip_prefix("slot=")?))
    }

    /// The version on probation, if there is one.
    pub fn trial(&self) -> Result<Option<Trial>, String> {
        match fs::read_to_string(self.0.join("trial")) {
            Ok(text) => {
                parse(&text, self.spent()).map(Some).ok_or_else(|| "its file says nothing that can be read".to_owned())
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(format!("its file cannot be read: {error}")),
        }
    }

    fn spent(&self) -> Duration {
        let text = fs::read_to_string(self.0.join("spent")).ok();
        Duration::from_millis(text.and_then(|text| text.trim().parse().ok()).unwrap_or_default())
    }

    /// Keeps how often a trial was begun; before its version runs.
    pub fn note(&self, trial: &Trial) -> Result<(), String> {
        let text = format!(
            "slot={}\nsha256={}\nbudget_ms={}\nstarts={}\nhub={}\n",
            trial.slot.name(),
            trial.sha256,
            trial.budget.as_millis(),
            trial.starts,
            trial.hub
        );
        self.write("trial", &text)
    }

    /// Keeps how much of its time is over.
    pub fn note_spent(&self, spent: Duration) -> Result<(), String> {
        self.write("spent", &format!("{}\n", spent.as_millis()))
    }

    /// Ends a trial and says why. Also on a full disk, where only removing works.
    pub fn reject(&self, trial: Option<&Trial>, why: &str) -> Result<(), String> {
        let sha256 = trial.map_or("", |trial| trial.sha256.as_str());
        let said = self.write("rejected", &format!("sha256={sha256}\nwhy={}\n", why.replace('\n', " ")));
        for name in ["trial", "spent"] {
            match fs::remove_file(self.0.join(name)) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(format!("{name}: {error}")),
                _ => {}
            }
        }
        self.sync()?;
        said
    }

    fn write(&self, name: &str, text: &str) -> Result<(), String> {
        let new = self.0.join(format!("{name}.new"));
        let written = write_synced(&new, text).and_then(|()| fs::rename(&new, self.0.join(name)));
        written.map_err(|error| error.to_string()).and_then(|()| self.sync())
    }

    fn sync(&self) -> Result<(), String> {
        File::open(&self.0).and_then(|folder| folder.sync_all()).map_err(|error| error.to_string())
    }
}

fn write_synced(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn parse(text: &str, spent: Duration) -> Option<Trial> {
    let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    Some(Trial {
        slot: Slot::parse(value("slot")?)?,
        sha256: value("sha256")?.to_owned(),
        budget: Duration::from_millis(value("budget_ms")?.parse().ok()?),
        spent,
        starts: value("starts")?.parse().ok()?,
        hub: value("hub").unwrap_or_default().to_owned(),
    })
}
