//! Exported audit chains: reads the file line by line and holds it against checkpoints from anywhere.

use std::cell::RefCell;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use genesis_shared::audit::{self, Checkpoint, Entry, Expected, Head, Line};
use genesis_shared::id::PublicKey;
use genesis_shared::json;
use genesis_shared::limits::RECORD_BYTES_MAX;
use genesis_shared::trust::TrustRoot;

use crate::error::Error;

/// Keys that somebody vouches for.
#[derive(Debug, Default)]
pub struct Keys {
    /// Their delivery keys sign a hub's checkpoints.
    pub roots: Vec<TrustRoot>,
    /// These sign a droplet's.
    pub identities: Vec<PublicKey>,
}

/// What a chain came to.
#[derive(Debug, serde::Serialize)]
pub struct Verdict {
    /// The chain's name.
    pub chain: String,
    /// Where it is.
    #[serde(flatten)]
    pub head: Head,
    /// Checkpoints of this chain that it was held against.
    pub checkpoints: usize,
    /// Of these, those whose signature was checked with a key that was given.
    pub checked: usize,
    /// Checkpoints of other chains in the same files.
    pub of_others: usize,
}

/// Verifies an exported chain against itself, against the checkpoints in it, and against those in other files.
///
/// # Errors
/// [`Error::Audit`] where it is broken, [`Error::Jws`] for a checkpoint that no given key has signed, and what reading
/// meets.
pub fn verify(file: &Path, others: &[PathBuf], keys: &Keys, expected: Expected) -> Result<Verdict, Error> {
    let (mut chain, mut texts) = (None, Vec::new());
    for line in lines(file)? {
        match line? {
            Line::Chain(name) if chain.is_none() => chain = Some(name),
            Line::Chain(_) => return Err(unusable(file, "it holds more than one chain")),
            Line::Checkpoint(text) => texts.push(text),
            Line::Entry(_) => {}
        }
    }
    let chain = chain.ok_or_else(|| unusable(file, "it does not name its chain; `genesisctl audit export` does"))?;
    for other in others {
        for line in lines(other)? {
            if let Line::Checkpoint(text) = line? {
                texts.push(text);
            }
        }
    }
    let (mut checkpoints, mut checked, mut of_others) = (Vec::new(), 0, 0);
    for text in &texts {
        let held = Checkpoint::read_unverified(text.as_bytes())?;
        if held.chain != chain {
            of_others += 1;
            continue;
        }
        checked += usize::from(check(text, &held, keys)?);
        checkpoints.push(held);
    }
    let failed = RefCell::new(None);
    let entries = lines(file)?.map_while(|line| line.map_err(|error| failed.replace(Some(error))).ok());
    let entries = entries.filter_map(|line| if let Line::Entry(entry) = line { Some(entry) } else { None });
    let verdict = audit::verify(&chain, expected, entries, &checkpoints);
    if let Some(error) = failed.into_inner() {
        return Err(error);
    }
    let head = verdict.map_err(|broken| Error::Audit { chain: chain.clone(), broken })?;
    Ok(Verdict { chain, head, checkpoints: checkpoints.len(), checked, of_others })
}

/// Whether a checkpoint's signature could be checked; one that does not fit the keys that were given is an error.
fn check(text: &str, held: &Checkpoint, keys: &Keys) -> Result<bool, Error> {
    let text = text.as_bytes();
    let by_root = |root: &TrustRoot| Checkpoint::verify(text, |kid| root.delivery_key(kid));
    let by_key = |key: &PublicKey| Checkpoint::verify(text, |_| Some(*key));
    let tried: Vec<_> = if held.chain.starts_with("hub/") {
        keys.roots.iter().map(by_root).collect()
    } else {
        keys.identities.iter().map(by_key).collect()
    };
    if tried.iter().any(Result::is_ok) {
        return Ok(true);
    }
    tried.into_iter().next_back().transpose()?;
    Ok(false)
}

fn unusable(file: &Path, why: &str) -> Error {
    Error::Argument { what: file.display().to_string(), why: why.to_owned() }
}

/// The lines of a file; a file that is one signed checkpoint is one line.
fn lines(file: &Path) -> Result<impl Iterator<Item = Result<Line, Error>>, Error> {
    let failed = |source| Error::Read { path: file.to_owned(), source };
    let mut reader = BufReader::new(File::open(file).map_err(failed)?);
    let (path, mut number) = (file.to_owned(), 0);
    let mut next = move || -> Result<Option<Line>, Error> {
        let mut bytes = Vec::new();
        // What an agent reports fits a record; 1 KiB is for the name around it.
        let most = RECORD_BYTES_MAX as u64 + 1024;
        let read = reader.by_ref().take(most).read_until(b'\n', &mut bytes);
        if read.map_err(|source| Error::Read { path: path.clone(), source })? == 0 {
            return Ok(None);
        }
        number += 1;
        if let Ok(held) = std::str::from_utf8(&bytes)
            && Checkpoint::read_unverified(held.trim().as_bytes()).is_ok()
        {
            return Ok(Some(Line::Checkpoint(held.trim().to_owned())));
        }
        let what = || format!("line {number} of {}", path.display());
        json::parse_as(&bytes).map(Some).map_err(|source| Error::Json { what: what(), source })
    };
    Ok(std::iter::from_fn(move || next().transpose()))
}

/// The lines as a file holds them.
pub fn to_text(lines: &[Line]) -> String {
    let text = |line| serde_json::to_string(line).expect("a line has a JSON form") + "\n";
    lines.iter().map(text).collect()
}

/// How many entries there are among the lines.
pub fn count(lines: &[Line]) -> usize {
    lines.iter().filter(|line| matches!(line, Line::Entry(Entry { .. }))).count()
}
