//! The password of the owner that the agent makes in a real n8n: kept between demos, so that a second one on the same
//! n8n can log in again.
//!
//! n8n keeps its owner, and the demo's folder goes away with the agent's secrets. The file is this person's alone.

use std::path::{Path, PathBuf};

use genesis_shared::id::Digest;
use genesis_shared::secret::Secret;

use crate::error::Error;
use crate::{files, system};

/// Where an agent keeps the password, below its data folder.
const SECRETS: &str = "secrets";
const PASSWORD: &str = "n8n-owner-password";

/// Gives the agent of a demo the password for this n8n: the one kept, or a new one, which is kept first. Answers where;
/// `None` where there is no place to keep it, and then this demo is the only one that this n8n will let in.
///
/// # Errors
/// A file cannot be read or written.
pub fn provide(n8n_url: &str, agent_folder: &Path) -> Result<Option<PathBuf>, Error> {
    let Some(folder) = state_folder() else { return Ok(None) };
    files::create_folder(&folder)?;
    // The address as a name: it may hold anything.
    let name = Digest::of(n8n_url.trim_end_matches('/').as_bytes()).to_string().replace(':', "-");
    let kept = folder.join(name);
    let password = if kept.is_file() { files::read_secret(&kept)? } else { new_password()? };
    if !kept.is_file() {
        files::create_private(&kept, password.expose().as_bytes())?;
    }
    let secrets = agent_folder.join(SECRETS);
    files::create_folder(&secrets)?;
    files::create_private(&secrets.join(PASSWORD), password.expose().as_bytes())?;
    Ok(Some(kept))
}

/// As n8n wants it: 8 to 64 characters, a digit, a capital.
fn new_password() -> Result<Secret<String>, Error> {
    let bytes: [u8; 24] = system::random()?;
    Ok(Secret::new(format!("{}A1", data_encoding::BASE64URL_NOPAD.encode(&bytes))))
}

/// The folder for state of this person's programs (XDG Base Directory Specification).
fn state_folder() -> Option<PathBuf> {
    let given = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let base = given.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".local/state")))?;
    Some(base.join("genesis/demo-n8n"))
}
