//! The stack's folders on this machine: what containers mount, secrets placed for them, and the end of it all.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind as IoKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use bollard::models::ContainerInspectResponse;
use genesis_shared::secret::Secret;

use crate::core::stack::N8N_FOLDER;
use crate::ports::stack::Mount;
use crate::ports::{EffectError, ErrorKind};

/// What n8n leaves behind when it is killed.
const CRASH_JOURNAL: &str = "crash.journal";
const SECRET_MODE: u32 = 0o400;

/// Makes what a container is to mount: a folder that is missing, with its owner. It appears whole or not at all: one
/// that belongs to the wrong user would look as if it had been made.
///
/// # Errors
/// `mount_missing` for a file that is not there, `disk_full`, `folder_unusable`.
pub fn prepare(mount: &Mount) -> Result<(), EffectError> {
    let path = Path::new(&mount.source);
    if fs::symlink_metadata(path).is_ok() {
        return Ok(());
    }
    if mount.read_only {
        let message = format!("{} is to be mounted and is not there; it has to be placed first", mount.source);
        return Err(EffectError::new(ErrorKind::Permanent, "mount_missing", message));
    }
    make_folder(path, mount.owner_uid).map_err(|error| unusable("make the folder", path, &error))
}

fn make_folder(path: &Path, owner_uid: u32) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
    }
    let new = beside(path);
    DirBuilder::new().recursive(true).mode(0o700).create(&new)?;
    fs::set_permissions(&new, Permissions::from_mode(0o700))?;
    own(&new, owner_uid)?;
    fs::rename(&new, path)?;
    sync_parent(path)
}

/// Puts a secret file into the stack's folder; one that is right already is left alone.
///
/// # Errors
/// `disk_full`, `folder_unusable`. The file that was there before is still there.
pub fn place_secret(folder: &Path, name: &str, owner_uid: u32, content: &Secret<Vec<u8>>) -> Result<(), EffectError> {
    let path = folder.join("secrets").join(name);
    if is_placed(&path, owner_uid, content) {
        return Ok(());
    }
    write_secret(&path, owner_uid, content).map_err(|error| unusable("write", &path, &error))
}

fn is_placed(path: &Path, owner_uid: u32, content: &Secret<Vec<u8>>) -> bool {
    let Ok(found) = fs::metadata(path) else { return false };
    let fits = found.uid() == owner_uid && found.permissions().mode() & 0o7777 == SECRET_MODE;
    fits && fs::read(path).map(Secret::new).is_ok_and(|there| there.expose() == content.expose())
}

fn write_secret(path: &Path, owner_uid: u32, content: &Secret<Vec<u8>>) -> io::Result<()> {
    let new = beside(path);
    if let Some(parent) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
    }
    match fs::remove_file(&new) {
        Err(error) if error.kind() != IoKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(SECRET_MODE).open(&new)?;
    file.write_all(content.expose())?;
    own(&new, owner_uid)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    sync_parent(path)
}

/// Removes n8n's crash journal from the folder that its container mounts; without it the next start does not wait.
///
/// # Errors
/// `folder_unusable`: it is still there.
pub fn remove_crash_journal(found: &ContainerInspectResponse) -> Result<(), EffectError> {
    let mounts = found.mounts.as_deref().unwrap_or_default();
    let folder = mounts.iter().find(|mount| mount.destination.as_deref() == Some(N8N_FOLDER));
    let Some(source) = folder.and_then(|mount| mount.source.as_deref()) else { return Ok(()) };
    let path = Path::new(source).join(CRASH_JOURNAL);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != IoKind::NotFound => Err(unusable("remove", &path, &error)),
        _ => Ok(()),
    }
}

/// The engine's own settings.
const ENGINE_SETTINGS: &str = "/etc/docker/daemon.json";

/// Whether logs are bounded by default. Of all drivers only one grows without a bound, and the engine does not tell
/// its options: they stand in its settings.
pub fn bounds_logs(log_driver: &str) -> bool {
    log_driver != "json-file" || fs::read(ENGINE_SETTINGS).is_ok_and(|text| names_a_bound(&text))
}

fn names_a_bound(settings: &[u8]) -> bool {
    let settings: serde_json::Value = serde_json::from_slice(settings).unwrap_or_default();
    settings["log-opts"]["max-size"].is_string()
}

/// Removes the stack's folder.
///
/// # Errors
/// `folder_unusable`: something of it is still there, or it is no folder that could be the stack's.
pub fn remove_all(folder: &Path) -> Result<(), EffectError> {
    if !folder.is_absolute() || folder.components().count() < 3 {
        let error = io::Error::new(IoKind::InvalidInput, "too close to the root of the file system to be removed");
        return Err(unusable("remove", folder, &error));
    }
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != IoKind::NotFound => Err(unusable("remove", folder, &error)),
        _ => Ok(()),
    }
}

fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    path.with_file_name(format!("{name}.new"))
}

/// Gives it to the user, where it is not theirs already: only root can.
fn own(path: &Path, uid: u32) -> io::Result<()> {
    if fs::metadata(path)?.uid() == uid { Ok(()) } else { chown(path, Some(uid), Some(uid)) }
}

/// A rename must survive power loss: that is the folder's content.
fn sync_parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
}

fn unusable(doing: &str, path: &Path, error: &io::Error) -> EffectError {
    let is_full = matches!(error.kind(), IoKind::StorageFull | IoKind::QuotaExceeded);
    let (kind, code) =
        if is_full { (ErrorKind::Transient, "disk_full") } else { (ErrorKind::Permanent, "folder_unusable") };
    let message = format!("cannot {doing} {}: {error}; the agent needs to own the stack's folder", path.display());
    EffectError::new(kind, code, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn me() -> u32 {
        fs::metadata("/proc/self").unwrap().uid()
    }

    #[test]
    fn a_secret_is_placed_readable_by_its_owner_alone_and_an_equal_one_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let place = |text: &str| place_secret(dir.path(), "k", me(), &Secret::new(text.as_bytes().to_vec())).unwrap();
        place("one");
        let path = dir.path().join("secrets/k");
        let first = fs::metadata(&path).unwrap();
        assert_eq!(first.permissions().mode() & 0o777, 0o400);
        place("one");
        assert_eq!(fs::metadata(&path).unwrap().ino(), first.ino(), "not written again");
        place("two");
        assert_eq!(fs::read(&path).unwrap(), b"two");
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        place("two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o400);
    }

    #[test]
    fn a_missing_folder_is_made_and_a_missing_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let source = dir.path().join("stack/n8n").to_string_lossy().into_owned();
        let mut mount = Mount { source, target: "/x".into(), read_only: false, owner_uid: me() };
        // What a crash between two steps of the making left behind.
        fs::create_dir_all(dir.path().join("stack/n8n.new")).unwrap();
        prepare(&mount).unwrap();
        prepare(&mount).unwrap();
        assert_eq!(fs::metadata(&mount.source).unwrap().permissions().mode() & 0o777, 0o700);
        mount.source.push_str("/key");
        mount.read_only = true;
        assert_eq!(prepare(&mount).unwrap_err().code, "mount_missing");
    }

    #[test]
    fn a_bound_of_logs_is_found_in_the_engines_settings() {
        assert!(names_a_bound(br#"{"log-driver": "json-file", "log-opts": {"max-size": "10m", "max-file": "3"}}"#));
        for settings in ["{}", r#"{"log-opts": {"max-file": "3"}}"#, "no JSON", ""] {
            assert!(!names_a_bound(settings.as_bytes()), "{settings}");
        }
        assert!(bounds_logs("local") && bounds_logs("journald"));
    }

    #[test]
    fn removes_no_folder_near_the_root() {
        for path in ["/", "/var", "relative/path"] {
            assert_eq!(remove_all(Path::new(path)).unwrap_err().code, "folder_unusable", "{path}");
        }
        let dir = tempfile::tempdir().unwrap();
        let stack = dir.path().join("stack");
        fs::create_dir_all(stack.join("n8n")).unwrap();
        remove_all(&stack).unwrap();
        remove_all(&stack).unwrap();
        assert!(!stack.exists());
    }
}
