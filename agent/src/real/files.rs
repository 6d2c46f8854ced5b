//! The agent's small secret files: 0600, replaced atomically, synced with their folder.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use genesis_shared::secret::Secret;

use crate::ports::{FileError, Files};

/// The folder `secrets` in the data folder.
#[derive(Debug)]
pub struct RealFiles {
    folder: PathBuf,
}

impl RealFiles {
    /// Makes the data folder and its `secrets` folder (0700) where they are missing. What is there already and could be
    /// read by others is made private again, with a line in the log: somebody may have read it.
    ///
    /// # Errors
    /// They cannot be made, or something in them belongs to another user.
    pub fn new(data_dir: &Path) -> Result<Self, FileError> {
        let folder = data_dir.join("secrets");
        DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(|e| failed("create", &folder, e))?;
        tighten(data_dir, 0o700)?;
        tighten(&folder, 0o700)?;
        // Beside them there may be what a file system brings with it; that is not ours.
        let journal =
            |path: &Path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("journal.db"));
        for path in files_in(data_dir)?.iter().filter(|path| journal(path)).chain(&files_in(&folder)?) {
            tighten(path, 0o600)?;
        }
        Ok(Self { folder })
    }
}

impl Files for RealFiles {
    fn read_secret(&self, name: &str) -> Result<Option<Secret<Vec<u8>>>, FileError> {
        read(&self.folder.join(name))
    }

    fn write_secret(&self, name: &str, content: &Secret<Vec<u8>>) -> Result<(), FileError> {
        let (path, new) = (self.folder.join(name), self.folder.join(format!("{name}.new")));
        write_synced(&new, content.expose())
            .and_then(|()| fs::rename(&new, &path))
            // The rename itself must survive power loss: that is the folder's content.
            .and_then(|()| File::open(&self.folder)?.sync_all())
            .map_err(|e| failed("write", &path, e))
    }

    fn read_outside(&self, path: &str) -> Result<Option<Secret<Vec<u8>>>, FileError> {
        read(Path::new(path))
    }

    fn remove_outside(&self, path: &str) -> Result<(), FileError> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(failed("remove", Path::new(path), error)),
            _ => Ok(()),
        }
    }
}

/// Makes a file that only its owner may read, where there is none.
///
/// # Errors
/// It cannot be made.
pub fn make_private(path: &Path) -> Result<(), FileError> {
    let made = OpenOptions::new().create(true).append(true).mode(0o600).open(path);
    made.map(drop).map_err(|e| failed("create", path, e))
}

fn files_in(folder: &Path) -> Result<Vec<PathBuf>, FileError> {
    let unreadable = |e| failed("read", folder, e);
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        if entry.file_type().map_err(unreadable)?.is_file() {
            files.push(entry.path());
        }
    }
    Ok(files)
}

/// Refuses what is another user's, and takes from what is ours the rights that others have.
fn tighten(path: &Path, mode: u32) -> Result<(), FileError> {
    let found = fs::metadata(path).map_err(|e| failed("look at", path, e))?;
    // Where the system does not tell who we are, the first write will.
    let me = fs::metadata("/proc/self").map_or(found.uid(), |own| own.uid());
    if found.uid() != me {
        let why = format!(
            "it belongs to the user with id {}, and this process runs as {me}: start it as that user, or chown the folder",
            found.uid()
        );
        return Err(failed("use", path, io::Error::new(ErrorKind::PermissionDenied, why)));
    }
    let bits = found.permissions().mode() & 0o7777;
    if bits == mode {
        return Ok(());
    }
    tracing::warn!(
        code = "file_mode",
        "{} had mode {bits:o} and could be read by others; it is {mode:o} again",
        path.display()
    );
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(|e| failed("change the mode of", path, e))
}

fn read(path: &Path) -> Result<Option<Secret<Vec<u8>>>, FileError> {
    match fs::read(path) {
        Ok(content) => Ok(Some(Secret::new(content))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("read", path, error)),
    }
}

fn write_synced(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

fn failed(operation: &'static str, path: &Path, source: io::Error) -> FileError {
    FileError { operation, path: path.display().to_string(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_file_is_readable_by_its_owner_alone_and_replaced_whole() {
        let dir = tempfile::tempdir().unwrap();
        let files = RealFiles::new(dir.path()).unwrap();
        assert!(files.read_secret("k").unwrap().is_none());
        files.write_secret("k", &Secret::new(b"one".to_vec())).unwrap();
        files.write_secret("k", &Secret::new(b"2".to_vec())).unwrap();
        assert_eq!(files.read_secret("k").unwrap().unwrap().expose(), b"2");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&dir.path().join("secrets/k")), 0o600);
        assert_eq!(mode(&dir.path().join("secrets")), 0o700);
        assert!(!dir.path().join("secrets/k.new").exists());
    }

    #[test]
    fn what_others_could_read_is_made_private_and_what_is_another_users_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        RealFiles::new(dir.path()).unwrap().write_secret("k", &Secret::new(b"one".to_vec())).unwrap();
        make_private(&dir.path().join("journal.db")).unwrap();
        let mode = |name: &str| fs::metadata(dir.path().join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode("journal.db"), 0o600);
        for (name, loose, tight) in
            [("secrets/k", 0o640, 0o600), ("journal.db", 0o644, 0o600), ("secrets", 0o711, 0o700)]
        {
            fs::set_permissions(dir.path().join(name), fs::Permissions::from_mode(loose)).unwrap();
            RealFiles::new(dir.path()).unwrap();
            assert_eq!(mode(name), tight, "{name}");
        }
        // Only root can give a file away.
        if std::os::unix::fs::chown(dir.path().join("secrets/k"), Some(12345), None).is_ok() {
            let refusal = genesis_shared::chain::Chain(&RealFiles::new(dir.path()).unwrap_err()).to_string();
            assert!(refusal.contains("secrets/k") && refusal.contains("12345"), "{refusal}");
        }
    }

    #[test]
    fn removing_what_is_gone_is_a_success() {
        let dir = tempfile::tempdir().unwrap();
        let files = RealFiles::new(dir.path()).unwrap();
        files.remove_outside(dir.path().join("nothing").to_str().unwrap()).unwrap();
    }
}
