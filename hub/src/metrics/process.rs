//! What every process has, by the names that all Prometheus clients give it; read from `/proc`, left out where there is none.

use super::page::Page;

/// Adds the families.
pub(super) fn render(page: &mut Page) {
    if let Some((cpu_s, start_s)) = times() {
        page.counter("process_cpu_seconds_total", "Processor time of user and system.");
        page.sample(&[], cpu_s);
        if let Some(start_s) = start_s {
            page.gauge("process_start_time_seconds", "When the process began, since the epoch.");
            page.sample(&[], start_s);
        }
    }
    for (name, help, key) in [
        ("process_resident_memory_bytes", "Memory in use.", "VmRSS:"),
        ("process_virtual_memory_bytes", "Address space in use.", "VmSize:"),
    ] {
        if let Some(bytes) = status(key) {
            page.gauge(name, help);
            page.sample(&[], bytes);
        }
    }
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        page.gauge("process_open_fds", "File descriptors in use.");
        // One of them is the look itself.
        page.sample(&[], open.count().saturating_sub(1));
    }
    if let Some(max) = rustix::process::getrlimit(rustix::process::Resource::Nofile).current {
        page.gauge("process_max_fds", "File descriptors that it may have.");
        page.sample(&[], max);
    }
}

/// Processor time in seconds, and when the process began.
fn times() -> Option<(f64, Option<f64>)> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name in parentheses may hold anything; fields are counted behind it, the first being the state, number 3.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let ticks = f64::from(u32::try_from(rustix::param::clock_ticks_per_second()).ok()?);
    let user: f64 = fields.nth(11)?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    let start: f64 = fields.nth(6)?.parse().ok()?;
    Some(((user + system) / ticks, booted().map(|booted| booted + start / ticks)))
}

/// When the machine started, since the epoch.
fn booted() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/stat").ok()?;
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

/// A line of the process' status, in bytes.
fn status(key: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().ok()?.checked_mul(1024)
}
