//! Finds the binaries that the demo runs; under cargo it builds them first, so that they are never stale.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use crate::error::Error;

/// Paths of the binaries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binaries {
    /// `genesis-hub`.
    pub hub: PathBuf,
    /// `genesis-agent`.
    pub agent: PathBuf,
    /// `genesis-standin`, if it was asked for.
    pub standin: Option<PathBuf>,
}

/// Finds `genesis-hub`, `genesis-agent` and, if wanted, `genesis-standin` beside this very executable.
///
/// # Errors
/// [`Error::NotInstalled`], [`Error::Build`].
pub async fn find(with_standin: bool) -> Result<Binaries, Error> {
    let own =
        std::env::current_exe().map_err(|e| Error::Build(format!("where this executable is cannot be told: {e}")))?;
    let built = match (std::env::var_os("CARGO"), std::env::var_os("CARGO_MANIFEST_DIR")) {
        (Some(cargo), Some(package)) => {
            let (cargo, package) = (Path::new(&cargo), Path::new(&package));
            let mut built = build(cargo, package, &own, &["--bin", "genesis-hub", "--bin", "genesis-agent"]).await?;
            if with_standin {
                // By itself, for what it needs of the agent's crate must not get into the agent.
                let standin = ["-p", "genesis-agent", "--features", "sim", "--bin", "genesis-standin"];
                built.extend(build(cargo, package, &own, &standin).await?);
            }
            built
        }
        _ => BTreeMap::new(),
    };
    let get = |name: &str| match built.get(name) {
        Some(path) => Ok(path.clone()),
        None => beside(&own, name),
    };
    let standin = if with_standin { Some(get("genesis-standin")?) } else { None };
    Ok(Binaries { hub: get("genesis-hub")?, agent: get("genesis-agent")?, standin })
}

fn beside(own: &Path, name: &str) -> Result<PathBuf, Error> {
    let path = folder_of(own).join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    if path.is_file() { Ok(path) } else { Err(Error::NotInstalled(path)) }
}

/// The folder where cargo puts binaries; the executable of a test sits one deeper.
fn folder_of(own: &Path) -> &Path {
    let folder = own.parent().unwrap_or(Path::new("."));
    match folder.file_name() {
        Some(name) if name == "deps" => folder.parent().unwrap_or(folder),
        _ => folder,
    }
}

/// The profile that a folder of cargo's belongs to.
fn profile_of(own: &Path) -> String {
    let name = folder_of(own).file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    if name == "debug" { "dev".to_owned() } else { name }
}

/// One line of cargo's `--message-format=json`, as far as it matters here.
#[derive(Deserialize)]
struct Message {
    target: Option<Target>,
    executable: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

/// Builds and asks cargo itself where the binaries are, which `--target-dir` and the like may have moved.
async fn build(cargo: &Path, package: &Path, own: &Path, what: &[&str]) -> Result<BTreeMap<String, PathBuf>, Error> {
    let failed = |e: std::io::Error| Error::Build(e.to_string());
    let mut command = Command::new(cargo);
    command
        .args(["build", "--profile", &profile_of(own), "--message-format=json-render-diagnostics"])
        .arg("--manifest-path")
        .arg(package.join("../../Cargo.toml"))
        .args(what)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        // Cargo shows its own progress on standard error.
        .kill_on_drop(true);
    // What `cargo run` says of this package would make build scripts of others run anew, and all that depends on them.
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(is_of_this_package) {
            command.env_remove(name);
        }
    }
    let mut child = command.spawn().map_err(failed)?;
    let mut built = BTreeMap::new();
    if let Some(output) = child.stdout.take() {
        let mut lines = BufReader::new(output).lines();
        while let Some(line) = lines.next_line().await.map_err(failed)? {
            if let Ok(Message { target: Some(target), executable: Some(path) }) = serde_json::from_str(&line) {
                built.insert(target.name, path);
            }
        }
    }
    let status = child.wait().await.map_err(failed)?;
    if status.success() { Ok(built) } else { Err(Error::Build(format!("cargo ended with {status}"))) }
}

/// Whether `cargo run` sets the variable for the package that it runs, and not the person for their builds.
fn is_of_this_package(name: &str) -> bool {
    ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_CRATE_NAME", "CARGO_BIN_", "CARGO_PRIMARY_PACKAGE"]
        .iter()
        .any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_the_profile_and_folder_of_an_executable() {
        for (path, profile) in [
            ("/x/target/debug/genesisctl", "dev"),
            ("/x/target/release/genesisctl", "release"),
            ("/x/target/debug/deps/demo-0123", "dev"),
            ("/x/target/x86_64-unknown-linux-musl/dist/genesisctl", "dist"),
        ] {
            assert_eq!(profile_of(Path::new(path)), profile, "{path}");
        }
    }

    #[test]
    fn a_persons_own_settings_for_cargo_are_kept() {
        assert!(is_of_this_package("CARGO_MANIFEST_DIR") && is_of_this_package("CARGO_PKG_NAME"));
        assert!(!is_of_this_package("CARGO_HOME") && !is_of_this_package("CARGO_TARGET_DIR"));
    }

    #[test]
    fn a_missing_binary_is_named_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let own = folder.path().join("genesisctl");
        let refused = beside(&own, "genesis-hub").unwrap_err();
        assert!(refused.to_string().contains("genesis-hub"), "{refused}");
        assert!(refused.next_step().contains("install") && refused.next_step().contains("--n8n-url"));
        std::fs::write(folder.path().join("genesis-hub"), "").unwrap();
        assert!(beside(&own, "genesis-hub").is_ok());
    }
}
