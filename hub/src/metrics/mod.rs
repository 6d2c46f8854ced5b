//! What the hub counts about itself, for Prometheus (text format 0.0.4).
//!
//! Names begin with `genesis_hub_` and end with their unit, or `_total` where they only grow; what every process has goes
//! by the names that all Prometheus clients give it. Labels come from this source or from small fixed sets, so the number
//! of series is bounded: routes times the statuses that they answer, queues times states.

mod page;
mod process;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::api::ROUTES;
use crate::api::fleet::{Census, census};
use crate::error::ApiError;
use crate::hub::Hub;
use page::Page;

/// Upper bounds of the buckets of durations, in milliseconds: most answers take a few, a long poll takes up to 25 s.
const BOUNDS_MS: [u32; 12] = [1, 2, 5, 10, 25, 50, 100, 250, 1_000, 5_000, 15_000, 30_000];

/// Why a connection was not served, or no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dropped {
    /// Its address has as many as one address may have.
    Address,
    /// It spoke no TLS, or took too long to.
    Tls,
    /// It asked nothing in time.
    Idle,
    /// It broke off, sent garbage, or stopped in the middle.
    Broken,
}

impl Dropped {
    const ALL: [(Self, &'static str); 4] =
        [(Self::Address, "address"), (Self::Tls, "tls"), (Self::Idle, "idle"), (Self::Broken, "broken")];
}

/// The counters.
#[derive(Debug, Default)]
pub struct Metrics {
    /// By place in [`ROUTES`] (one more for what is none) and status.
    requests: Mutex<BTreeMap<(usize, u16), u64>>,
    durations: Mutex<BTreeMap<usize, Histogram>>,
    in_flight: AtomicI64,
    connections: AtomicI64,
    connections_total: AtomicU64,
    dropped: [AtomicU64; Dropped::ALL.len()],
    tls_reloads: AtomicU64,
    tls_reload_failures: AtomicU64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Histogram {
    buckets: [u64; BOUNDS_MS.len()],
    count: u64,
    sum: Duration,
}

/// Counts one thing for as long as it is there.
#[derive(Debug)]
pub struct Present<'a>(&'a AtomicI64);

impl Drop for Present<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn present(gauge: &AtomicI64) -> Present<'_> {
    gauge.fetch_add(1, Ordering::Relaxed);
    Present(gauge)
}

impl Metrics {
    /// A request that is being answered.
    pub fn request(&self) -> Present<'_> {
        present(&self.in_flight)
    }

    /// A connection.
    pub fn connection(&self) -> Present<'_> {
        self.connections_total.fetch_add(1, Ordering::Relaxed);
        present(&self.connections)
    }

    /// A connection that was not served, or no longer.
    pub fn dropped(&self, why: Dropped) {
        for (counter, (known, _)) in self.dropped.iter().zip(Dropped::ALL) {
            if known == why {
                counter.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// A certificate was taken in, or could not be.
    pub fn reloaded(&self, done: bool) {
        let counter = if done { &self.tls_reloads } else { &self.tls_reload_failures };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// An answer. `method` in lower case; a route that is none counts as `other`.
    pub fn answered(&self, method: &str, path: &str, status: u16, took: Duration) {
        let place = ROUTES.iter().position(|route| route.path == path && route.method == method);
        let place = place.unwrap_or(ROUTES.len());
        *lock(&self.requests).entry((place, status)).or_default() += 1;
        let mut durations = lock(&self.durations);
        let histogram = durations.entry(place).or_default();
        histogram.count += 1;
        histogram.sum += took;
        let bucket = BOUNDS_MS.iter().position(|bound| took <= Duration::from_millis((*bound).into()));
        if let Some(bucket) = bucket {
            histogram.buckets[bucket] += 1;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Method and path of a place, as labels.
fn labels(place: usize) -> [(&'static str, &'static str); 2] {
    let (method, route) = ROUTES.get(place).map_or(("other", "other"), |route| (route.method, route.path));
    [("method", method), ("route", route)]
}

/// Everything as text.
///
/// # Errors
/// The store; the fleet is counted in it.
pub async fn render(hub: &Hub) -> Result<String, ApiError> {
    let census = census(hub).await?;
    let mut page = Page::default();
    page.gauge("genesis_hub_build_info", "Always 1; the label says which version runs.");
    page.sample(&[("version", env!("CARGO_PKG_VERSION"))], 1);
    requests(&mut page, &hub.metrics);
    connections(&mut page, hub);
    fleet(&mut page, &census);
    store(&mut page, hub);
    process::render(&mut page);
    Ok(page.into_text())
}

fn requests(page: &mut Page, metrics: &Metrics) {
    page.counter("genesis_hub_http_requests_total", "Requests that were answered.");
    for ((place, status), count) in lock(&metrics.requests).iter() {
        let [method, route] = labels(*place);
        page.sample(&[method, route, ("status", &status.to_string())], *count);
    }
    page.histogram("genesis_hub_http_request_duration_seconds", "From a request to its answer; a poll waits for work.");
    for (place, histogram) in lock(&metrics.durations).iter() {
        let bounds = BOUNDS_MS.map(|bound| f64::from(bound) / 1000.0);
        page.buckets(&labels(*place), &bounds, &histogram.buckets, histogram.count, histogram.sum.as_secs_f64());
    }
    page.gauge("genesis_hub_http_requests_in_flight", "Requests that are being answered, waiting polls among them.");
    page.sample(&[], metrics.in_flight.load(Ordering::Relaxed));
}

fn connections(page: &mut Page, hub: &Hub) {
    let metrics = &hub.metrics;
    page.gauge("genesis_hub_connections", "Connections that are open.");
    page.sample(&[], metrics.connections.load(Ordering::Relaxed));
    page.gauge("genesis_hub_connections_max", "Connections that may be open.");
    page.sample(&[], hub.settings.connections_max);
    page.counter("genesis_hub_connections_accepted_total", "Connections that were accepted.");
    page.sample(&[], metrics.connections_total.load(Ordering::Relaxed));
    page.counter("genesis_hub_connections_dropped_total", "Connections that the hub gave up, by the reason.");
    for ((_, reason), count) in Dropped::ALL.iter().zip(&metrics.dropped) {
        page.sample(&[("reason", reason)], count.load(Ordering::Relaxed));
    }
    page.gauge("genesis_hub_polls_waiting", "Tenants with a poll that waits for commands.");
    page.sample(&[], hub.notifier.waiting());
    page.gauge("genesis_hub_event_streams", "Readers of the event stream.");
    page.sample(&[], crate::hub::EVENT_STREAMS_MAX.saturating_sub(hub.streams.available_permits()));
    page.counter("genesis_hub_tls_reloads_total", "Certificates taken in while running, by how it went.");
    page.sample(&[("outcome", "done")], metrics.tls_reloads.load(Ordering::Relaxed));
    page.sample(&[("outcome", "failed")], metrics.tls_reload_failures.load(Ordering::Relaxed));
}

fn fleet(page: &mut Page, census: &Census) {
    page.gauge("genesis_hub_droplets", "Registered droplets by state.");
    for (state, count) in &census.states {
        page.sample(&[("state", state)], *count);
    }
    page.gauge("genesis_hub_jobs", "Jobs that are not over, and dead letters, by queue and state.");
    for (queue, states) in &census.queues {
        for (state, count) in states {
            page.sample(&[("queue", queue), ("state", state)], *count);
        }
    }
}

fn store(page: &mut Page, hub: &Hub) {
    page.counter("genesis_hub_store_commits_total", "Transactions committed.");
    page.sample(&[], hub.store.commits());
    page.counter("genesis_hub_events_total", "Number of the latest event.");
    page.sample(&[], *hub.store.latest_event().borrow());
    page.gauge("genesis_hub_store_bytes", "Size of the database's files.");
    let database = crate::setup::database(&hub.settings.data_dir);
    for (file, suffix) in [("main", ""), ("wal", "-wal")] {
        let mut path = database.clone().into_os_string();
        path.push(suffix);
        // A write-ahead log that is not there has no bytes.
        page.sample(&[("file", file)], std::fs::metadata(path).map_or(0, |file| file.len()));
    }
    page.gauge("genesis_hub_start_time_seconds", "When the hub began to listen, since the epoch.");
    page.sample(&[], hub.started_at.seconds());
}
