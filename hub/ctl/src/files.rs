//! Reading and writing files: private ones are never overwritten, shared ones are replaced in one step.

use std::fs;
use std::io::{Read, Write};
use std::path::Path;

use genesis_shared::secret::Secret;
use serde::de::DeserializeOwned;

use crate::error::Error;

/// Most bytes that any input file may have; the largest thing to be signed is a bundle of 1 MiB.
pub const INPUT_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Reads a file, or standard input where the path is `-`.
///
/// # Errors
/// [`Error::Read`], and [`Error::Argument`] for what is too large to be meant.
pub fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let failed = |source| Error::Read { path: path.to_owned(), source };
    let input: Box<dyn Read> = if path == Path::new("-") {
        Box::new(std::io::stdin())
    } else {
        Box::new(fs::File::open(path).map_err(failed)?)
    };
    let mut bytes = Vec::new();
    input.take(INPUT_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > INPUT_BYTES_MAX {
        let why = format!("larger than {INPUT_BYTES_MAX} bytes");
        return Err(Error::Argument { what: path.display().to_string(), why });
    }
    Ok(bytes)
}

/// Reads strict JSON of a known shape.
///
/// # Errors
/// As [`read`], and [`Error::Json`].
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, Error> {
    let what = || path.display().to_string();
    genesis_shared::json::parse_as(&read(path)?).map_err(|source| Error::Json { what: what(), source })
}

/// Reads a text file that holds one secret, such as a token; white space around it is dropped.
///
/// # Errors
/// As [`read`], and [`Error::Argument`] for what is not text.
pub fn read_secret(path: &Path) -> Result<Secret<String>, Error> {
    let bytes = Secret::new(read(path)?);
    let text = std::str::from_utf8(bytes.expose())
        .map_err(|_| Error::Argument { what: path.display().to_string(), why: "is not text".into() })?;
    Ok(Secret::new(text.trim().to_owned()))
}

/// Makes a file that only its owner can read; an existing one is left alone.
///
/// # Errors
/// [`Error::Exists`], [`Error::Write`].
pub fn create_private(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    create(path, bytes, 0o600)
}

/// Makes a file that everybody may read; an existing one is left alone.
///
/// # Errors
/// [`Error::Exists`], [`Error::Write`].
pub fn create_public(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    create(path, bytes, 0o644)
}

fn create(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Error> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
    #[cfg(not(unix))]
    let _mode = mode;
    let mut file = options.open(path).map_err(|source| {
        let exists = source.kind() == std::io::ErrorKind::AlreadyExists;
        let path = path.to_owned();
        if exists { Error::Exists(path) } else { Error::Write { path, source } }
    })?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    written.map_err(|source| Error::Write { path: path.to_owned(), source })
}

/// Writes a file that may replace an older version of itself: the old or the new content is there, never a half.
///
/// # Errors
/// [`Error::Write`].
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let failed = |source| Error::Write { path: path.to_owned(), source };
    let folder = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
    file.write_all(bytes).map_err(failed)?;
    // A temporary file is private at first; documents written here are to be handed around.
    #[cfg(unix)]
    {
        let public = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        file.as_file().set_permissions(public).map_err(failed)?;
    }
    file.as_file().sync_all().map_err(failed)?;
    file.persist(path).map(drop).map_err(|e| failed(e.error))
}

/// Makes a folder for private files, its parents included.
///
/// # Errors
/// [`Error::Write`].
pub fn create_folder(path: &Path) -> Result<(), Error> {
    fs::create_dir_all(path).map_err(|source| Error::Write { path: path.to_owned(), source })
}
