//! One simulated droplet of the lab: switched on with its user-data, looked into, cut off from power, removed.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use super::run;
use crate::engine::{CADDY_VARIABLE, N8N_VARIABLE, POSTGRES_VARIABLE};

/// The droplet; removed when dropped.
pub struct Machine {
    name: String,
}

/// The lab's script for droplets that are containers.
fn script() -> PathBuf {
    let lab = std::env::var_os("GENESIS_LAB").map_or_else(|| PathBuf::from("../shared/lab"), PathBuf::from);
    let from = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    from.join(lab).join("droplet/droplet-container.sh")
}

impl Machine {
    /// Switches a new droplet on. `vendor_data` is what the provider adds, a sample of the lab's; its usual one where
    /// nothing is given.
    pub fn up(name: &str, user_data: &str, vendor_data: Option<&str>) -> Self {
        let machine = Self { name: format!("{name}-{}", std::process::id()) };
        machine.switch_on(user_data, vendor_data);
        machine
    }

    /// The same with the stack's images in its engine.
    pub fn up_with_images(name: &str, user_data: &str, vendor_data: Option<&str>) -> Self {
        let seed = seed();
        let machine = Self { name: format!("{name}-{}", std::process::id()) };
        copy_volume(&seed, &machine.volume());
        machine.switch_on(user_data, vendor_data);
        machine
    }

    fn switch_on(&self, user_data: &str, vendor_data: Option<&str>) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), user_data).unwrap();
        let mut command = Command::new(script());
        command.args(["up", &self.name, "--user-data"]).arg(file.path());
        if let Some(sample) = vendor_data {
            command.env("VENDOR_DATA", script().parent().unwrap().join("samples").join(sample));
        }
        run(&mut command);
    }

    fn volume(&self) -> String {
        format!("gl-{}-docker", self.name)
    }

    fn lab(&self, args: &[&str]) -> Output {
        let mut command = Command::new(script());
        command.arg(args[0]).arg(&self.name).args(&args[1..]).output().unwrap()
    }

    /// Waits until cloud-init is done; what it says.
    pub fn wait(&self) -> String {
        String::from_utf8_lossy(&self.lab(&["wait"]).stdout).into_owned()
    }

    /// Runs a shell command in it: its output, if it succeeded.
    pub fn try_sh(&self, text: &str) -> Option<String> {
        let ran = self.lab(&["exec", "sh", "-c", text]);
        ran.status.success().then(|| String::from_utf8_lossy(&ran.stdout).into_owned())
    }

    /// The same, which must succeed.
    #[track_caller]
    pub fn sh(&self, text: &str) -> String {
        let ran = self.lab(&["exec", "sh", "-c", text]);
        let (out, err) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
        assert!(ran.status.success(), "{text}: {out}{err}");
        out.into_owned()
    }

    /// Puts a file into it, for root alone.
    pub fn put(&self, from: &std::path::Path, to: &str) {
        let content = std::fs::File::open(from).unwrap();
        let mut command = Command::new(script());
        command.args(["exec", &self.name, "sh", "-c", &format!("umask 077; cat >{to}")]).stdin(content);
        assert!(command.status().unwrap().success(), "{to}");
    }

    /// A clean end.
    pub fn power_off(&self) {
        self.lab(&["power-off"]);
    }

    /// Its next boot.
    pub fn power_on(&self) {
        let ran = self.lab(&["power-on"]);
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    }

    /// What its services have logged.
    pub fn journal(&self) -> String {
        self.try_sh("journalctl --no-pager --output short-precise -n 2000").unwrap_or_default()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log =
                self.try_sh("journalctl --no-pager -u 'genesis-*' -u 'cloud-*' -u docker -n 150").unwrap_or_default();
            #[allow(clippy::print_stderr, reason = "a test that fails says what the droplet said")]
            {
                eprintln!("{log}");
            }
        }
        self.lab(&["down"]);
    }
}

/// A volume that holds the stack's images as an engine keeps them; made once.
fn seed() -> String {
    let images: Vec<String> = [N8N_VARIABLE, POSTGRES_VARIABLE, CADDY_VARIABLE]
        .map(|variable| std::env::var(variable).unwrap_or_else(|_| panic!("{variable} names an image")))
        .into();
    let key = genesis_shared::id::Digest::of(images.join(" ").as_bytes()).to_string();
    let volume = format!("genesis-seed-{}", &key["sha256:".len()..][..12]);
    let listed = run(Command::new("docker").args(["volume", "ls", "--quiet", "--filter", &format!("name={volume}")]));
    if listed.contains(&volume) {
        return volume;
    }
    let machine = Machine::up("seed", "#cloud-config\n{}\n", None);
    machine.wait();
    machine.sh("systemctl start docker");
    let names: Vec<&str> = images.iter().map(|image| image.split('@').next().unwrap()).collect();
    let mut save = Command::new("docker").arg("save").args(&names).stdout(Stdio::piped()).spawn().unwrap();
    let loaded = Command::new(script())
        .args(["exec", &machine.name, "docker", "load", "--quiet"])
        .stdin(save.stdout.take().unwrap())
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(loaded.success() && save.wait().unwrap().success());
    machine.sh("systemctl stop docker docker.socket containerd && sync");
    copy_volume(&machine.volume(), &volume);
    volume
}

fn copy_volume(from: &str, to: &str) {
    run(Command::new("docker").args(["volume", "create", to]));
    let place = |name: &str| {
        let place = run(Command::new("docker").args(["volume", "inspect", "--format", "{{.Mountpoint}}", name]));
        place.trim().to_owned()
    };
    run(Command::new("cp").args(["-a", "--reflink=auto"]).arg(format!("{}/.", place(from))).arg(place(to)));
}
