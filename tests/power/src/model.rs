//! What is on a disk, what was only handed to it, and what a power cut leaves of that.
//!
//! Until a file is synced, any subset of what was written to it may have reached the disk, in any order and of each
//! write any of its sectors; so may the creation and the removal of the file itself. What was synced stays.

use std::collections::BTreeMap;
use std::sync::Arc;

/// What a disk writes at once, in bytes: a write is torn only between such sectors.
const SECTOR: usize = 512;

/// A change that SQLite asked for.
#[derive(Clone, Debug)]
pub enum Op {
    /// A new empty file.
    Create(String),
    /// Bytes at an offset.
    Write(String, usize, Arc<[u8]>),
    /// A new length.
    Truncate(String, usize),
    /// What was written before is to be on the disk.
    Sync(String),
    /// The file is to go; `true`: and its folder to be synced.
    Delete(String, bool),
}

/// How an operation fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// There is no space left: writes fail, all else works.
    Full,
    /// The disk is broken: writes and syncs fail.
    Broken,
}

/// What of the unsynced is there after a power cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Survival {
    /// Nothing.
    Nothing,
    /// All of it.
    Everything,
    /// All of it, but of each file's last write only the first half of the sectors.
    LastTorn,
    /// Any subset of the writes, and of some of them any subset of the sectors, as the seed has it.
    Some(u64),
}

/// An unsynced change of a file's content.
#[derive(Clone, Debug)]
enum Pending {
    Write(usize, Arc<[u8]>),
    Truncate(usize),
}

#[derive(Clone, Debug, Default)]
struct File {
    /// Whether the file itself would be there after a cut.
    is_durable: bool,
    synced: Vec<u8>,
    pending: Vec<Pending>,
    /// What its reader sees: `synced` with all of `pending`.
    seen: Vec<u8>,
}

/// The files of a disk. A clone is another disk with the same content.
#[derive(Clone, Debug, Default)]
pub struct Platter {
    files: BTreeMap<String, File>,
    /// Removed, but the folder was not synced since.
    ghosts: BTreeMap<String, File>,
}

impl Platter {
    /// Applies a change as its reader sees it.
    pub fn apply(&mut self, op: &Op) {
        match op {
            Op::Create(name) => drop(self.files.entry(name.clone()).or_default()),
            Op::Write(name, offset, bytes) => {
                let file = self.files.entry(name.clone()).or_default();
                put(&mut file.seen, *offset, bytes);
                file.pending.push(Pending::Write(*offset, Arc::clone(bytes)));
            }
            Op::Truncate(name, size) => {
                let file = self.files.entry(name.clone()).or_default();
                file.seen.resize(*size, 0);
                file.pending.push(Pending::Truncate(*size));
            }
            Op::Sync(name) => {
                if let Some(file) = self.files.get_mut(name) {
                    for pending in std::mem::take(&mut file.pending) {
                        match pending {
                            Pending::Write(offset, bytes) => put(&mut file.synced, offset, &bytes),
                            Pending::Truncate(size) => file.synced.resize(size, 0),
                        }
                    }
                    // As SQLite does on Unix, the first sync of a new log includes the folder with all its entries.
                    let is_log = name.ends_with("-journal") || name.ends_with("-wal");
                    if is_log && !file.is_durable {
                        self.files.values_mut().for_each(|file| file.is_durable = true);
                        self.ghosts.clear();
                    }
                }
            }
            Op::Delete(name, is_synced) => {
                if let Some(file) = self.files.remove(name).filter(|file| file.is_durable && !is_synced) {
                    self.ghosts.insert(name.clone(), file);
                }
            }
        }
    }

    /// Whether there is such a file.
    pub fn has(&self, name: &str) -> bool {
        self.files.contains_key(name)
    }

    /// A file as its reader sees it; empty if there is none.
    pub fn content(&self, name: &str) -> &[u8] {
        self.files.get(name).map_or(&[], |file| &file.seen)
    }

    /// The disk after a power cut at this moment.
    #[must_use]
    pub fn cut(&self, survival: Survival) -> Self {
        let mut coin = Coin(if let Survival::Some(seed) = survival { seed } else { 0 });
        let mut after = Self::default();
        for (name, file) in &self.files {
            let is_there = match survival {
                Survival::Nothing => file.is_durable,
                Survival::Everything | Survival::LastTorn => true,
                Survival::Some(_) => file.is_durable || coin.toss(),
            };
            if is_there {
                after.files.insert(name.clone(), on_disk(survive(file, survival, &mut coin)));
            }
        }
        for (name, ghost) in &self.ghosts {
            let is_back = match survival {
                Survival::Nothing => true,
                Survival::Everything | Survival::LastTorn => false,
                Survival::Some(_) => coin.toss(),
            };
            if is_back && !after.has(name) {
                after.files.insert(name.clone(), on_disk(survive(ghost, survival, &mut coin)));
            }
        }
        after
    }
}

fn on_disk(content: Vec<u8>) -> File {
    File { is_durable: true, synced: content.clone(), pending: vec![], seen: content }
}

fn survive(file: &File, survival: Survival, coin: &mut Coin) -> Vec<u8> {
    let mut content = file.synced.clone();
    let last = file.pending.iter().rposition(|pending| matches!(pending, Pending::Write(..)));
    for (n, pending) in file.pending.iter().enumerate() {
        let (is_kept, is_torn) = match survival {
            Survival::Nothing => (false, false),
            Survival::Everything => (true, false),
            Survival::LastTorn => (true, Some(n) == last),
            Survival::Some(_) => (coin.toss(), coin.toss() && coin.toss()),
        };
        match pending {
            Pending::Truncate(size) if is_kept => content.resize(*size, 0),
            Pending::Write(offset, bytes) if is_kept && !is_torn => put(&mut content, *offset, bytes),
            Pending::Write(offset, bytes) if is_kept => {
                let sectors = sectors(*offset, bytes.len());
                for (n, (from, to)) in sectors.iter().enumerate() {
                    let is_kept = if let Survival::Some(_) = survival { coin.toss() } else { n < sectors.len() / 2 };
                    if is_kept {
                        put(&mut content, offset + from, &bytes[*from..*to]);
                    }
                }
            }
            Pending::Truncate(_) | Pending::Write(..) => {}
        }
    }
    content
}

/// The parts of a write that lie in one sector each, as ranges of its bytes.
fn sectors(offset: usize, len: usize) -> Vec<(usize, usize)> {
    let mut parts = Vec::new();
    let mut from = 0;
    while from < len {
        let to = len.min(from + SECTOR - (offset + from) % SECTOR);
        parts.push((from, to));
        from = to;
    }
    parts
}

fn put(content: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[offset..end].copy_from_slice(bytes);
}

/// Chance that follows from a seed (SplitMix64).
struct Coin(u64);

impl Coin {
    fn toss(&mut self) -> bool {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) & 1 == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(platter: &mut Platter, offset: usize, bytes: Vec<u8>) {
        platter.apply(&Op::Write("a-wal".into(), offset, bytes.into()));
    }

    fn sync(platter: &mut Platter) {
        platter.apply(&Op::Sync("a-wal".into()));
    }

    #[test]
    fn what_was_synced_stays_and_what_was_not_may_go() {
        let mut platter = Platter::default();
        write(&mut platter, 0, vec![1; 600]);
        sync(&mut platter);
        write(&mut platter, 0, vec![2; 600]);
        assert_eq!(platter.content("a-wal"), vec![2; 600]);
        assert_eq!(platter.cut(Survival::Nothing).content("a-wal"), vec![1; 600]);
        assert_eq!(platter.cut(Survival::Everything).content("a-wal"), vec![2; 600]);
        let torn = platter.cut(Survival::LastTorn);
        assert_eq!((torn.content("a-wal")[511], torn.content("a-wal")[512]), (2, 1), "torn between its sectors");
    }

    #[test]
    fn writes_survive_in_any_combination() {
        let mut platter = Platter::default();
        write(&mut platter, 0, vec![0; 1024]);
        sync(&mut platter);
        write(&mut platter, 0, vec![1; 512]);
        write(&mut platter, 512, vec![1; 512]);
        let seen: std::collections::BTreeSet<_> = (0..64)
            .map(|seed| {
                let after = platter.cut(Survival::Some(seed));
                (after.content("a-wal")[0], after.content("a-wal")[512])
            })
            .collect();
        assert_eq!(seen.len(), 4, "none, the first, only the second, both");
    }

    #[test]
    fn an_unsynced_file_may_vanish_and_an_unsynced_removal_may_not_hold() {
        let mut platter = Platter::default();
        platter.apply(&Op::Create("a".into()));
        platter.apply(&Op::Create("a-wal".into()));
        platter.apply(&Op::Sync("a".into()));
        assert!(!platter.cut(Survival::Nothing).has("a"), "a database's sync is not its folder's");
        platter.apply(&Op::Sync("a-wal".into()));
        assert!(platter.cut(Survival::Nothing).has("a"), "a new log's is");
        platter.apply(&Op::Delete("a-wal".into(), false));
        assert!(!platter.has("a-wal") && platter.cut(Survival::Nothing).has("a-wal"));
        assert!(!platter.cut(Survival::Everything).has("a-wal"));
        platter.apply(&Op::Create("a-journal".into()));
        platter.apply(&Op::Sync("a-journal".into()));
        assert!(!platter.cut(Survival::Nothing).has("a-wal"), "now it is gone for good");
    }
}
