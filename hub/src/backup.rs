//! Copies of a hub while it runs, and a hub from a copy.
//!
//! A copy holds everything: the database as of one moment, the delivery key, the TLS files. It is as secret as the hub's
//! own folder, and cannot make a command either.

use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::setup;
use crate::store::{self, StoreError};

/// Files beside the database that make a hub; those that are not there were not used.
const FILES: &[&str] = &["delivery.key", "ca.pem", "tls-cert.pem", "tls-key.pem", "tls-hosts"];

/// What was copied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Copied {
    /// Where to.
    pub folder: PathBuf,
    /// Bytes of the database there.
    pub database_bytes: u64,
    /// The other files.
    pub files: Vec<String>,
}

/// Why there is no copy.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// A file.
    #[error("cannot copy to or from {0}")]
    File(PathBuf, #[source] std::io::Error),
    /// The database cannot be read, or is damaged.
    #[error("cannot copy the database {0}")]
    Database(PathBuf, #[source] StoreError),
    /// Something is there already.
    #[error("{0} exists already; name a folder that does not")]
    Exists(PathBuf),
    /// Nothing is there.
    #[error("there is no hub in {0}")]
    Nothing(PathBuf),
}

/// Copies the hub in `data_dir` to the new folder `to`, whether it runs or not.
///
/// # Errors
/// [`BackupError`]; what was begun stays for a look and is no copy.
pub fn backup(data_dir: &Path, to: &Path) -> Result<Copied, BackupError> {
    copy(data_dir, to)
}

/// Makes the hub in the new folder `data_dir` from a copy, whose database is verified first.
///
/// # Errors
/// As [`backup`].
pub fn restore(from: &Path, data_dir: &Path) -> Result<Copied, BackupError> {
    let database = setup::database(from);
    if !database.exists() {
        return Err(BackupError::Nothing(from.to_owned()));
    }
    store::verify_file(&database).map_err(|e| BackupError::Database(database, e))?;
    copy(from, data_dir)
}

fn copy(from: &Path, to: &Path) -> Result<Copied, BackupError> {
    let database = setup::database(from);
    if !database.exists() {
        return Err(BackupError::Nothing(from.to_owned()));
    }
    if to.exists() {
        return Err(BackupError::Exists(to.to_owned()));
    }
    // Under another name until it is whole and durable: a copy that was cut off is none.
    let half = to.with_extension("incomplete");
    std::fs::create_dir_all(&half).map_err(|e| BackupError::File(half.clone(), e))?;
    set_mode(&half, 0o700)?;
    let mut files = Vec::new();
    for name in FILES {
        let (source, target) = (from.join(name), half.join(name));
        if !source.exists() {
            continue;
        }
        std::fs::copy(&source, &target).map_err(|e| BackupError::File(source.clone(), e))?;
        sync(&target)?;
        files.push((*name).to_owned());
    }
    let target = setup::database(&half);
    store::copy_file(&database, &target).map_err(|e| BackupError::Database(database, e))?;
    set_mode(&target, 0o600)?;
    sync(&target)?;
    sync(&half)?;
    std::fs::rename(&half, to).map_err(|e| BackupError::File(to.to_owned(), e))?;
    if let Some(parent) = to.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        sync(parent)?;
    }
    let target = setup::database(to);
    let database_bytes = std::fs::metadata(&target).map_err(|e| BackupError::File(target, e))?.len();
    Ok(Copied { folder: to.to_owned(), database_bytes, files })
}

fn set_mode(path: &Path, mode: u32) -> Result<(), BackupError> {
    std::fs::set_permissions(path, Permissions::from_mode(mode)).map_err(|e| BackupError::File(path.to_owned(), e))
}

fn sync(path: &Path) -> Result<(), BackupError> {
    let file = File::open(path).and_then(|file| file.sync_all());
    file.map_err(|e| BackupError::File(path.to_owned(), e))
}
