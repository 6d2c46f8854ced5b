//! The packages as people meet them: installed, configured, upgraded, removed, purged; and the archive for other systems.
//! Run by dpkg in a folder of its own, with whatever binaries this build made.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock, PoisonError};

use tempfile::TempDir;

fn run(command: &mut Command) -> String {
    let ran = command.output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success(), "{command:?}: {out}{err}");
    out.into_owned()
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Stand-ins for the binaries: what is tested is what is around them.
fn packages(version: &str) -> PathBuf {
    static WORK: OnceLock<TempDir> = OnceLock::new();
    // One at a time: the same version is asked for more than once.
    static BUSY: Mutex<()> = Mutex::new(());
    let _busy = BUSY.lock().unwrap_or_else(PoisonError::into_inner);
    let work = WORK.get_or_init(|| TempDir::with_prefix("genesis-packages-").unwrap()).path();
    let (binaries, manual, out) = (work.join("bin"), work.join("manual"), work.join(version));
    fs::create_dir_all(&binaries).unwrap();
    for name in ["genesis-agent", "genesis-launcher", "genesis-hub", "genesisctl"] {
        fs::write(binaries.join(name), format!("#!/bin/sh\necho {name} {version}\n")).unwrap();
    }
    run(Command::new(genesis_tests::process::binary("genesis-manual")).arg(&manual));
    let mut package = Command::new(repository().join("packaging/package.sh"));
    run(package
        .args([&binaries, &manual, &out])
        .env("GENESIS_VERSION", version)
        .env("SOURCE_DATE_EPOCH", "1767225600")
        .env("GENESIS_DEB_COMPRESSION", "gzip"));
    out
}

/// A tree with a dpkg of its own.
struct Root(TempDir);

impl Root {
    fn new() -> Self {
        let root = Self(TempDir::with_prefix("genesis-root-").unwrap());
        for folder in ["var/lib/dpkg/updates", "var/lib/dpkg/info", "etc", "tmp"] {
            fs::create_dir_all(root.path(folder)).unwrap();
        }
        fs::write(root.path("var/lib/dpkg/status"), "").unwrap();
        fs::write(root.path("etc/passwd"), "root:x:0:0::/root:/bin/sh\n").unwrap();
        fs::write(root.path("etc/group"), "root:x:0:\n").unwrap();
        root
    }
    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }
    fn has(&self, path: &str) -> bool {
        self.path(path).exists()
    }
    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap()
    }
    fn mode(&self, path: &str) -> u32 {
        fs::metadata(self.path(path)).unwrap().permissions().mode() & 0o7777
    }
    fn dpkg(&self, args: &[&str]) {
        let mut dpkg = Command::new("dpkg");
        dpkg.arg(format!("--root={}", self.0.path().display()));
        dpkg.args(["--force-script-chrootless", "--force-depends", "--force-confold", "--no-triggers"]);
        run(dpkg.args(args).env("DEBIAN_FRONTEND", "noninteractive"));
    }
    fn install(&self, folder: &Path, package: &str) {
        let file = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).find(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            name.starts_with(&format!("{package}_")) && name.ends_with(".deb")
        });
        self.dpkg(&["--install", file.unwrap().to_str().unwrap()]);
    }
}

#[test]
fn packages_of_the_agent_keep_what_is_the_tenants_until_they_are_purged() {
    let (first, second) = (packages("0.1.0"), packages("0.2.0"));
    let root = Root::new();
    root.install(&first, "genesis-agent");
    for path in
        ["usr/bin/genesis-agent", "usr/lib/genesis/genesis-launcher", "lib/systemd/system/genesis-agent.service"]
    {
        assert!(root.has(path), "{path}");
    }
    assert!(root.has("usr/share/man/man1/genesis-agent-run.1.gz"));
    assert!(root.has("usr/share/bash-completion/completions/genesis-agent"));
    assert_eq!(root.mode("var/lib/genesis"), 0o700);
    fs::write(root.path("etc/default/genesis-agent"), "RUST_LOG=debug\n").unwrap();
    fs::write(root.path("etc/genesis/agent.toml"), "mine").unwrap();
    fs::write(root.path("var/lib/genesis/journal.db"), "journal").unwrap();
    fs::create_dir(root.path("var/lib/genesis/slots")).unwrap();
    fs::write(root.path("var/lib/genesis/slots/current"), "slot=a\n").unwrap();

    root.install(&second, "genesis-agent");
    assert!(root.read("usr/bin/genesis-agent").contains("0.2.0"));
    assert_eq!(root.read("etc/default/genesis-agent"), "RUST_LOG=debug\n", "what was edited stays");
    assert_eq!(root.read("etc/genesis/agent.toml"), "mine");
    assert_eq!(root.read("var/lib/genesis/journal.db"), "journal");
    assert!(!root.has("var/lib/genesis/slots/current"), "the packaged version is the one that was asked for");

    root.dpkg(&["--remove", "genesis-agent"]);
    assert!(!root.has("usr/bin/genesis-agent"));
    assert!(root.has("var/lib/genesis/journal.db") && root.has("etc/genesis/agent.toml"), "remove keeps data");
    root.install(&first, "genesis-agent");
    assert_eq!(root.read("var/lib/genesis/journal.db"), "journal");

    root.dpkg(&["--purge", "genesis-agent"]);
    for path in ["var/lib/genesis", "etc/genesis", "etc/default/genesis-agent"] {
        assert!(!root.has(path), "{path}");
    }
}

#[test]
fn packages_of_the_hub_make_its_user_and_keep_its_keys_until_they_are_purged() {
    let (first, second) = (packages("0.1.0"), packages("0.2.0"));
    let root = Root::new();
    root.install(&first, "genesis-hub");
    assert!(root.read("etc/passwd").contains("\ngenesis-hub:"));
    assert_eq!(root.mode("var/lib/genesis-hub"), 0o700);
    assert!(root.has("usr/share/man/man1/genesis-hub-token-create.1.gz"));
    fs::write(root.path("var/lib/genesis-hub/delivery.key"), "key").unwrap();
    fs::write(root.path("etc/genesis-hub/hub.toml"), "heartbeat_interval_s = 30\n").unwrap();

    root.install(&second, "genesis-hub");
    assert_eq!(root.read("etc/genesis-hub/hub.toml"), "heartbeat_interval_s = 30\n");
    assert_eq!(root.read("etc/passwd").matches("\ngenesis-hub:").count(), 1);
    root.dpkg(&["--remove", "genesis-hub"]);
    assert_eq!(root.read("var/lib/genesis-hub/delivery.key"), "key");
    root.dpkg(&["--purge", "genesis-hub"]);
    assert!(!root.has("var/lib/genesis-hub") && !root.has("etc/genesis-hub"));
}

#[test]
fn packages_are_the_same_each_time_and_the_archive_refuses_a_byte_that_is_not_its_own() {
    let out = packages("0.3.0");
    let sums = fs::read_to_string(out.join("SHA256SUMS")).unwrap();
    assert_eq!(sums.lines().count(), 5, "{sums}");
    assert_eq!(sums, fs::read_to_string(packages("0.3.0").join("SHA256SUMS")).unwrap());

    let unpacked = TempDir::new().unwrap();
    let archive =
        fs::read_dir(&out).unwrap().map(|e| e.unwrap().path()).find(|p| p.to_string_lossy().ends_with(".tar.gz"));
    run(Command::new("tar")
        .arg("-xzf")
        .arg(archive.unwrap())
        .arg("-C")
        .arg(unpacked.path())
        .arg("--strip-components=1"));
    let root = TempDir::new().unwrap();
    let install = || {
        let mut command = Command::new(unpacked.path().join("install.sh"));
        command.arg("--root").arg(root.path()).output().unwrap()
    };
    assert!(install().status.success());
    assert!(install().status.success(), "again");
    let agent = root.path().join("usr/bin/genesis-agent");
    assert!(fs::read_to_string(&agent).unwrap().contains("0.3.0"));
    fs::write(unpacked.path().join("bin/genesis-agent"), "another").unwrap();
    let refused = install();
    assert!(!refused.status.success(), "{}", String::from_utf8_lossy(&refused.stdout));
    assert!(fs::read_to_string(&agent).unwrap().contains("0.3.0"), "nothing was replaced");
}

#[test]
fn packages_come_with_a_list_of_what_is_in_them_that_names_no_path_of_the_builder() {
    let out = packages("0.1.0");
    let sbom =
        fs::read_dir(&out).unwrap().map(|e| e.unwrap().path()).find(|p| p.to_string_lossy().ends_with(".cdx.json"));
    let text = fs::read_to_string(sbom.unwrap()).unwrap();
    let sbom: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(sbom["bomFormat"], "CycloneDX");
    let names: Vec<_> = sbom["components"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"ring") && names.contains(&"genesis-launcher"));
    assert!(!names.contains(&"proptest") && !names.contains(&"genesis-tests"), "tests are not released");
    assert!(!text.contains(repository().to_str().unwrap()));
}

#[test]
fn packages_have_units_that_systemd_calls_well_confined() {
    for (unit, most) in [("genesis-agent", 3.0), ("genesis-hub", 1.5)] {
        let file = repository().join(format!("packaging/systemd/{unit}.service"));
        let text = run(Command::new("systemd-analyze").args(["security", "--offline=true", "--no-pager"]).arg(&file));
        let line = text.lines().find(|line| line.contains("Overall exposure level")).unwrap();
        let score: f64 = line.rsplit(": ").next().unwrap().split(' ').next().unwrap().parse().unwrap();
        assert!(score <= most, "{line}");
    }
}
