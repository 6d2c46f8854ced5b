//! The machine's numbers, from sysinfo.

use std::cell::RefCell;
use std::io::Write;
use std::net::{IpAddr, TcpListener};
use std::path::{Path, PathBuf};

use genesis_shared::id::DropletId;
use genesis_shared::wire::Preflight;
use sysinfo::{DiskRefreshKind, Disks, MemoryRefreshKind, System};

use super::clock::RealEntropy;
use crate::ports::{Entropy, FileError, Host, HostSample};

const MIB: u64 = 1024 * 1024;

/// Within the data folder.
const BALLAST_FILE: &str = "ballast";

/// This machine.
pub struct RealHost {
    system: RefCell<System>,
    data_dir: PathBuf,
    droplet_id_file: Option<PathBuf>,
    boot_epoch: String,
}

impl RealHost {
    /// Watches the disk that holds `data_dir`. In `droplet_id_file` the machine says which droplet it is.
    pub fn new(data_dir: &Path, droplet_id_file: Option<&Path>) -> Self {
        if let Some(path) = droplet_id_file.filter(|path| droplet_id(path).is_none()) {
            let path = path.display();
            tracing::warn!(
                code = "droplet_id_file",
                "{path} names no droplet, so a copy of this machine is noticed by the hub alone"
            );
        }
        let mut system = System::new();
        // Processor use is the difference between two looks; this is the first.
        system.refresh_cpu_usage();
        // The kernel's own id of this boot; where there is none, the moment of the start serves.
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
            .map_or_else(|_| format!("boot-{}", System::boot_time()), |id| id.trim().to_owned());
        // Two machines made of one memory image share that; two processes never share this.
        let boot_epoch = format!("{boot}.{:016x}", RealEntropy.number());
        let (data_dir, droplet_id_file) = (data_dir.to_owned(), droplet_id_file.map(Path::to_owned));
        Self { system: RefCell::new(system), data_dir, droplet_id_file, boot_epoch }
    }

    fn disk(&self) -> Option<(u64, u64)> {
        disk(&self.data_dir)
    }
}

/// What a file says which droplet this is.
fn droplet_id(path: &Path) -> Option<DropletId> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// Bytes in all and free of the disk that holds a path, where the system lists it.
fn disk(path: &Path) -> Option<(u64, u64)> {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let disks = Disks::new_with_refreshed_list_specifics(DiskRefreshKind::nothing().with_storage());
    let holding = disks.iter().filter(|disk| path.starts_with(disk.mount_point()));
    let nearest = holding.max_by_key(|disk| disk.mount_point().components().count());
    nearest.map(|disk| (disk.total_space(), disk.available_space()))
}

/// Bytes free on the disk that holds a path; `None` where the system does not tell.
pub fn free_bytes(path: &Path) -> Option<u64> {
    disk(path).map(|(_, free)| free)
}

impl Host for RealHost {
    fn sample(&self) -> HostSample {
        let mut system = self.system.borrow_mut();
        system.refresh_cpu_usage();
        system.refresh_memory_specifics(MemoryRefreshKind::everything());
        let (total, free) = self.disk().unwrap_or_default();
        HostSample {
            cpu_usage_percent: system.global_cpu_usage(),
            memory_usage_mb: system.used_memory() / MIB,
            memory_total_mb: system.total_memory() / MIB,
            disk_usage_percent: used_percent(total, free),
            swap_used_mb: system.used_swap() / MIB,
            uptime_seconds: System::uptime(),
        }
    }

    fn preflight(&self) -> Preflight {
        let mut system = self.system.borrow_mut();
        system.refresh_memory_specifics(MemoryRefreshKind::everything());
        Preflight {
            swap_total_mb: system.total_swap() / MIB,
            memory_total_mb: system.total_memory() / MIB,
            disk_free_mb: self.free_mb().unwrap_or_default(),
            cpus: u32::try_from(system.cpus().len()).unwrap_or(u32::MAX),
            ..Preflight::default()
        }
    }

    fn kernel(&self) -> Option<String> {
        System::kernel_version()
    }

    fn port_is_free(&self, address: &str, port: u16) -> bool {
        let Ok(address) = address.parse::<IpAddr>() else { return true };
        let tried = TcpListener::bind((address, port));
        !tried.is_err_and(|error| error.kind() == std::io::ErrorKind::AddrInUse)
    }

    fn free_mb(&self) -> Option<u64> {
        self.disk().map(|(_, free)| free / MIB)
    }

    fn set_ballast(&self, mb: u64) -> Result<bool, FileError> {
        let path = self.data_dir.join(BALLAST_FILE);
        let failed = |operation: &'static str| {
            let path = path.display().to_string();
            move |source| FileError { operation, path, source }
        };
        let there = std::fs::metadata(&path).map_or(0, |meta| meta.len());
        match mb * MIB {
            0 if there == 0 => Ok(false),
            0 => std::fs::remove_file(&path).map(|()| true).map_err(failed("remove")),
            wanted if there == wanted => Ok(false),
            wanted => {
                let file = std::fs::File::create(&path).map_err(failed("write"))?;
                // Written, not only set long: a hole takes no room.
                let zeros = vec![0; 64 * 1024];
                let written = (0..wanted / zeros.len() as u64).try_for_each(|_| (&file).write_all(&zeros));
                written.and_then(|()| file.sync_all()).map(|()| true).map_err(|error| {
                    // Half of it would only be in the way.
                    if let Err(left) = std::fs::remove_file(&path) {
                        tracing::warn!("half a ballast is left at {}: {left}", path.display());
                    }
                    failed("write")(error)
                })
            }
        }
    }

    fn boot_epoch(&self) -> String {
        self.boot_epoch.clone()
    }
    /// Read anew each time: on a new machine cloud-init may run later than the agent.
    fn droplet_id(&self) -> Option<DropletId> {
        self.droplet_id_file.as_deref().and_then(droplet_id)
    }
}

#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "a percentage needs few digits")]
fn used_percent(total: u64, free: u64) -> f32 {
    if total == 0 { 0.0 } else { ((total - free.min(total)) as f64 * 100.0 / total as f64) as f32 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sees_a_machine_with_memory_a_disk_and_a_boot() {
        let dir = tempfile::tempdir().unwrap();
        let host = RealHost::new(dir.path(), None);
        let sample = host.sample();
        assert!(sample.memory_total_mb > 0 && sample.memory_usage_mb <= sample.memory_total_mb, "{sample:?}");
        assert!((0.0..=100.0).contains(&sample.disk_usage_percent), "{sample:?}");
        assert!(host.preflight().disk_free_mb > 0);
        assert!(host.kernel().is_some_and(|kernel| kernel.starts_with(|c: char| c.is_ascii_digit())));
        let listens = TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(!host.port_is_free("127.0.0.1", listens.local_addr().unwrap().port()));
        assert_eq!(host.boot_epoch(), host.boot_epoch());
        assert_ne!(host.boot_epoch(), RealHost::new(dir.path(), None).boot_epoch(), "each start has its own");
        assert_eq!(host.droplet_id(), None);
    }

    #[test]
    fn the_machine_is_asked_anew_each_time_which_droplet_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("instance-id");
        let host = RealHost::new(dir.path(), Some(&file));
        assert_eq!(host.droplet_id(), None, "nothing tells yet");
        std::fs::write(&file, "412001\n").unwrap();
        assert_eq!(host.droplet_id(), Some("412001".parse().unwrap()));
        std::fs::write(&file, "no id at all\n").unwrap();
        assert_eq!(host.droplet_id(), None);
    }
}
