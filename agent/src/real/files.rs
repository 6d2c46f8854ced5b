//! The agent's small secret files: 0600, replaced atomically, synced with their folder.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use genesis_shared::secret::Secret;

use crate::ports::{FileError, Files};

/// The folder `secrets` in the data folder.
#[derive(Debug)]
pub struct RealFiles {
    folder: PathBuf,
}

impl RealFiles {
    /// Makes the data folder and its `secrets` folder (0700) where they are missing.
    ///
    /// # Errors
    /// They cannot be made.
    pub fn new(data_dir: &Path) -> Result<Self, FileError> {
        let folder = data_dir.join("secrets");
        DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(|e| failed("create", &folder, e))?;
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
    use std::os::unix::fs::PermissionsExt;

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
    fn removing_what_is_gone_is_a_success() {
        let dir = tempfile::tempdir().unwrap();
        let files = RealFiles::new(dir.path()).unwrap();
        files.remove_outside(dir.path().join("nothing").to_str().unwrap()).unwrap();
    }
}
