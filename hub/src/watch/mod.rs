//! The watch: who is heard of, who is late, who is silent, and when so many are that it is not theirs. Pure: signs of
//! life and time go in, transitions with their reasons come out. It asks nobody and does nothing to anybody.
//!
//! - L1. Any request with a droplet's token is a sign of life, polls and deliveries too.
//! - L2. Late after one heartbeat interval and a grace without one, silent after three and the grace: never earlier, and
//!   two seconds later at most.
//! - L3. Silence that a lifecycle explains (hibernating, maintenance, a restart) is no alarm; it ends with its time.
//! - L4. While the hub was away nobody could be heard: every droplet begins anew when the hub does.
//! - L5. Where a twentieth of the fleet or of a region, and at least ten, fall silent within one window, or where it
//!   happens right after the hub was away, it is one event, and it freezes: whoever would react must not, until most are
//!   back. A failure in the middle must not become a restart of every machine.

use std::collections::{BTreeMap, HashMap, VecDeque};

use genesis_shared::id::WorkspaceId;
use genesis_shared::limits::{MASS_SILENCE_MIN, MASS_SILENCE_SHARE, MISSED_BEATS_SILENT, WATCH_GRACE_MS};
use genesis_shared::timestamp::Timestamp;
use serde::{Deserialize, Serialize};

mod wheel;
pub use wheel::Wheel;

/// Whether a droplet is heard of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Liveness {
    /// Within the interval.
    Fresh,
    /// One heartbeat is missing.
    Late,
    /// Three are.
    Silent,
}

/// What a droplet's operators say it is doing, where that explains silence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Lifecycle {
    /// On its way to being switched off.
    Hibernating,
    /// Switched off, its disk a snapshot.
    Hibernated,
    /// On its way back.
    Waking,
    /// Somebody works on it.
    Maintenance,
    /// It starts again.
    Rebooting,
    /// On its way to its end.
    Decommissioning,
    /// Gone.
    Terminated,
}

impl Lifecycle {
    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hibernating => "hibernating",
            Self::Hibernated => "hibernated",
            Self::Waking => "waking",
            Self::Maintenance => "maintenance",
            Self::Rebooting => "rebooting",
            Self::Decommissioning => "decommissioning",
            Self::Terminated => "terminated",
        }
    }
}

impl Lifecycle {
    /// The one name for people (protocol.md, "Health").
    pub fn state_name(self) -> &'static str {
        match self {
            Self::Hibernating | Self::Hibernated => "HIBERNATING",
            Self::Waking => "WAKING",
            Self::Maintenance => "MAINTENANCE",
            Self::Rebooting => "REBOOTING",
            Self::Decommissioning => "DECOMMISSIONING",
            Self::Terminated => "TERMINATED",
        }
    }
}

/// A lifecycle, and until when it explains silence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Explained {
    /// What it is doing.
    pub lifecycle: Lifecycle,
    /// Until then; for good where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = "date-time")]
    pub until: Option<Timestamp>,
}

/// A droplet to watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watched {
    /// Its tenant, which names it here.
    pub workspace: WorkspaceId,
    /// Its region.
    pub region: Option<String>,
    /// What explains its silence.
    pub explained: Option<Explained>,
}

/// A change of somebody's liveness, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// Whose.
    pub workspace: WorkspaceId,
    /// What it is now.
    pub to: Liveness,
    /// Name of the event: [`SILENT`] alone is somebody's alarm.
    pub code: &'static str,
    /// For people.
    pub reason: String,
}

/// Silence that nothing explains.
pub const SILENT: &str = "droplet_silent";
/// Silence that a lifecycle explains.
pub const SILENCE_EXPLAINED: &str = "droplet_silence_explained";
/// Silence within a mass silence.
pub const SILENCE_FROZEN: &str = "droplet_silence_frozen";
/// One heartbeat is missing.
pub const LATE: &str = "droplet_late";
/// A droplet that was late or silent is heard of.
pub const BACK: &str = "droplet_back";

/// What the watch has to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// Of one droplet.
    Changed(Transition),
    /// Of so many that it is not theirs: where, and the words.
    MassSilence(String),
    /// Most of them are back.
    MassSilenceEnded(String),
}

#[derive(Debug)]
struct Entry {
    region: Option<String>,
    explained: Option<Explained>,
    heard_at: Timestamp,
    liveness: Liveness,
    /// Whether its silence counts against its region and the fleet.
    is_counted: bool,
}

/// A place whose silences are counted together: a region, or, without a name, the fleet.
#[derive(Debug, Default)]
struct Place {
    size: usize,
    silent: usize,
    /// When droplets fell silent, within the last window.
    recent: VecDeque<Timestamp>,
    is_frozen: bool,
}

impl Place {
    fn threshold(&self) -> usize {
        // A twentieth, rounded up.
        (self.size.div_ceil(MASS_SILENCE_SHARE)).max(MASS_SILENCE_MIN)
    }
}

/// See the module.
#[derive(Debug)]
pub struct Watch {
    interval_ms: i64,
    entries: HashMap<WorkspaceId, Entry>,
    places: BTreeMap<Option<String>, Place>,
    wheel: Wheel<WorkspaceId>,
    /// Silence up to here may be the hub's own, which was away before.
    doubtful_until: Option<Timestamp>,
}

impl Watch {
    /// A watch that begins at `now` (L4); `was_away` where the hub was not there for longer than a restart takes.
    pub fn new(interval_ms: i64, droplets: impl IntoIterator<Item = Watched>, was_away: bool, now: Timestamp) -> Self {
        let mut watch = Self {
            interval_ms,
            entries: HashMap::new(),
            places: BTreeMap::new(),
            wheel: Wheel::new(),
            doubtful_until: None,
        };
        if was_away {
            watch.doubtful_until = Some(now.plus_millis(2 * watch.silent_after_ms()));
        }
        droplets.into_iter().for_each(|droplet| watch.add(droplet, now));
        watch
    }

    fn late_after_ms(&self) -> i64 {
        self.interval_ms + WATCH_GRACE_MS
    }

    fn silent_after_ms(&self) -> i64 {
        MISSED_BEATS_SILENT * self.interval_ms + WATCH_GRACE_MS
    }

    /// Watches one more droplet, from `now` on.
    pub fn add(&mut self, droplet: Watched, now: Timestamp) {
        let Watched { workspace, region, explained } = droplet;
        for place in [None, region.clone()].into_iter().take(1 + usize::from(region.is_some())) {
            self.places.entry(place).or_default().size += usize::from(!self.entries.contains_key(&workspace));
        }
        let entry = Entry { region, explained, heard_at: now, liveness: Liveness::Fresh, is_counted: false };
        self.entries.entry(workspace).or_insert(entry);
        self.wheel.set(workspace, now.plus_millis(self.late_after_ms()));
    }

    /// A sign of life (L1). Somebody who was late or silent is back.
    pub fn heard(&mut self, workspace: WorkspaceId, now: Timestamp) -> Vec<Told> {
        let late_at = now.plus_millis(self.late_after_ms());
        let Some(entry) = self.entries.get_mut(&workspace) else { return Vec::new() };
        let (before, silent_ms) = (entry.liveness, now.millis_since(entry.heard_at));
        entry.heard_at = entry.heard_at.max(now);
        entry.liveness = Liveness::Fresh;
        let counted = std::mem::take(&mut entry.is_counted).then(|| entry.region.clone());
        self.wheel.set(workspace, late_at);
        if before == Liveness::Fresh {
            return Vec::new();
        }
        let reason = format!("it is heard of again after {} s", silent_ms / 1000);
        let mut told = vec![Told::Changed(Transition { workspace, to: Liveness::Fresh, code: BACK, reason })];
        if let Some(region) = counted {
            told.extend(self.uncount(region));
        }
        told
    }

    /// What its operators say a droplet is doing from now on (L3).
    pub fn explain(&mut self, workspace: WorkspaceId, explained: Option<Explained>, now: Timestamp) -> Vec<Told> {
        let late_at = now.plus_millis(self.late_after_ms());
        let Some(entry) = self.entries.get_mut(&workspace) else { return Vec::new() };
        let ends = entry.explained.is_some() && explained.is_none();
        entry.explained = explained;
        if ends && entry.liveness != Liveness::Fresh {
            // It has its whole time again from the moment at which it should speak.
            entry.heard_at = now;
            entry.liveness = Liveness::Fresh;
            self.wheel.set(workspace, late_at);
        }
        let counted = std::mem::take(&mut entry.is_counted).then(|| entry.region.clone());
        counted.map_or_else(Vec::new, |region| self.uncount(region))
    }

    /// Time passes (L2).
    pub fn tick(&mut self, now: Timestamp) -> Vec<Told> {
        let mut told = Vec::new();
        for workspace in self.wheel.over(now) {
            told.extend(self.overdue(workspace, now));
        }
        if self.doubtful_until.is_some_and(|until| until <= now) {
            self.doubtful_until = None;
            let names: Vec<_> = self.places.keys().cloned().collect();
            names.into_iter().for_each(|name| told.extend(self.thaw(name)));
        }
        told
    }

    fn overdue(&mut self, workspace: WorkspaceId, now: Timestamp) -> Vec<Told> {
        let (late_after, silent_after) = (self.late_after_ms(), self.silent_after_ms());
        let Some(entry) = self.entries.get_mut(&workspace) else { return Vec::new() };
        if let Some(explained) = entry.explained.clone() {
            match explained.until {
                Some(until) if until <= now => {
                    // The explanation is over: from here on its silence is its own.
                    entry.explained = None;
                    entry.heard_at = entry.heard_at.max(until);
                }
                Some(until) => {
                    self.wheel.set(workspace, until.plus_millis(late_after));
                    return Self::explained_silence(entry, workspace, explained.lifecycle);
                }
                None => return Self::explained_silence(entry, workspace, explained.lifecycle),
            }
        }
        let missing_ms = now.millis_since(entry.heard_at);
        if missing_ms >= silent_after && entry.liveness != Liveness::Silent {
            entry.liveness = Liveness::Silent;
            entry.is_counted = true;
            let region = entry.region.clone();
            return self.fell_silent(workspace, region, missing_ms, now);
        }
        let next = if missing_ms >= late_after { silent_after } else { late_after };
        self.wheel.set(workspace, entry.heard_at.plus_millis(next));
        if missing_ms < late_after || entry.liveness != Liveness::Fresh {
            return Vec::new();
        }
        entry.liveness = Liveness::Late;
        let reason = format!("nothing was heard of it for {} s", missing_ms / 1000);
        vec![Told::Changed(Transition { workspace, to: Liveness::Late, code: LATE, reason })]
    }

    fn explained_silence(entry: &mut Entry, workspace: WorkspaceId, lifecycle: Lifecycle) -> Vec<Told> {
        if entry.liveness == Liveness::Silent {
            return Vec::new();
        }
        entry.liveness = Liveness::Silent;
        let reason = format!("it is {}", lifecycle.name());
        vec![Told::Changed(Transition { workspace, to: Liveness::Silent, code: SILENCE_EXPLAINED, reason })]
    }

    fn fell_silent(
        &mut self,
        workspace: WorkspaceId,
        region: Option<String>,
        missing_ms: i64,
        now: Timestamp,
    ) -> Vec<Told> {
        let is_doubtful = self.doubtful_until.is_some_and(|until| now < until);
        let mut told = Vec::new();
        for name in [None, region.clone()].into_iter().take(1 + usize::from(region.is_some())) {
            let window_ms = self.interval_ms;
            let Some(place) = self.places.get_mut(&name) else { continue };
            place.silent += 1;
            place.recent.push_back(now);
            while place.recent.front().is_some_and(|at| now.millis_since(*at) > window_ms) {
                place.recent.pop_front();
            }
            let is_mass = place.recent.len() >= place.threshold() || is_doubtful;
            if is_mass && !place.is_frozen {
                place.is_frozen = true;
                let whom = name.map_or_else(|| "the fleet".to_owned(), |name| format!("region {name}"));
                let why = if is_doubtful { ", right after the hub itself was away" } else { "" };
                let (silent, size) = (place.silent, place.size);
                told.push(Told::MassSilence(format!(
                    "{silent} of {size} droplets of {whom} are silent{why}: reactions are frozen until most are back"
                )));
            }
        }
        let (code, more) = match self.is_frozen(region.as_deref()) {
            true => (SILENCE_FROZEN, "; so many are that it need not be its own"),
            false => (SILENT, ""),
        };
        let reason = format!("nothing was heard of it for {} s{more}", missing_ms / 1000);
        told.push(Told::Changed(Transition { workspace, to: Liveness::Silent, code, reason }));
        told
    }

    /// Somebody's silence does not count any more.
    fn uncount(&mut self, region: Option<String>) -> Vec<Told> {
        let mut told = Vec::new();
        for name in [None, region.clone()].into_iter().take(1 + usize::from(region.is_some())) {
            if let Some(place) = self.places.get_mut(&name) {
                place.silent = place.silent.saturating_sub(1);
            }
            told.extend(self.thaw(name));
        }
        told
    }

    /// Ends a mass silence when most are back: at half of what begins one, so that one droplet does not begin and end it
    /// all the time. Who is silent still is somebody's alarm from then on.
    fn thaw(&mut self, name: Option<String>) -> Vec<Told> {
        let is_doubtful = self.doubtful_until.is_some();
        let Some(place) = self.places.get_mut(&name) else { return Vec::new() };
        if !place.is_frozen || is_doubtful || place.silent > place.threshold() / 2 {
            return Vec::new();
        }
        place.is_frozen = false;
        place.recent.clear();
        let whom = name.as_ref().map_or_else(|| "the fleet".to_owned(), |name| format!("region {name}"));
        let mut told = vec![Told::MassSilenceEnded(format!("{} droplets of {whom} are silent still", place.silent))];
        let is_there = |entry: &Entry| name.is_none() || entry.region == name;
        let silent = self.entries.iter().filter(|(_, entry)| entry.is_counted && is_there(entry));
        let silent = silent.filter(|(_, entry)| !self.is_frozen(entry.region.as_deref()));
        let mut silent: Vec<_> = silent.map(|(workspace, _)| *workspace).collect();
        silent.sort();
        told.extend(silent.into_iter().map(|workspace| {
            let reason = "it is silent still, though most are back".to_owned();
            Told::Changed(Transition { workspace, to: Liveness::Silent, code: SILENT, reason })
        }));
        told
    }

    /// Whether whoever would react to the silence of a droplet there must not.
    pub fn is_frozen(&self, region: Option<&str>) -> bool {
        let is_frozen = |name: &Option<String>| self.places.get(name).is_some_and(|place| place.is_frozen);
        is_frozen(&None) || region.is_some_and(|region| is_frozen(&Some(region.to_owned())))
    }

    /// A droplet's liveness; `None` if it is not watched.
    pub fn liveness(&self, workspace: WorkspaceId) -> Option<Liveness> {
        self.entries.get(&workspace).map(|entry| entry.liveness)
    }

    /// What explains a droplet's silence.
    pub fn explained(&self, workspace: WorkspaceId) -> Option<Lifecycle> {
        self.entries.get(&workspace)?.explained.as_ref().map(|explained| explained.lifecycle)
    }

    /// How many are fresh, late and silent.
    pub fn counts(&self) -> (usize, usize, usize) {
        self.entries.values().fold((0, 0, 0), |(fresh, late, silent), entry| match entry.liveness {
            Liveness::Fresh => (fresh + 1, late, silent),
            Liveness::Late => (fresh, late + 1, silent),
            Liveness::Silent => (fresh, late, silent + 1),
        })
    }
}

#[cfg(test)]
mod tests;
