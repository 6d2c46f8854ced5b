//! What every request handler shares.

use std::net::IpAddr;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use genesis_shared::audit::Checkpoint;
use genesis_shared::chain::Chain;
use genesis_shared::id::{JobId, WorkspaceId};
use genesis_shared::timestamp::Timestamp;
use serde_json::json;
use tokio::sync::{Notify, Semaphore};

use crate::api::fleet::Census;
use crate::auth::Caller;
use crate::cached::Cached;
use crate::clock::Clock;
use crate::config::Settings;
use crate::delivery::{DeliveryError, DeliveryKey};
use crate::denials::{Counted, Denials};
use crate::error::ApiError;
use crate::history::History;
use crate::metrics::Metrics;
use crate::notify::Notifier;
use crate::pace::Pace;
use crate::rate::Buckets;
use crate::setup;
use crate::store::{Remembered, Store, StoreError};
use crate::watching::Watching;

/// Readers of the event stream at once: every open dashboard is one. Each holds a page of events at most, 100 of 5 KiB,
/// so all of them 128 MB; commonly a hundredth of that.
pub const EVENT_STREAMS_MAX: usize = 256;

/// The hub's parts. Clones share them.
#[derive(Clone, Debug)]
pub struct Hub(Arc<Parts>);

/// See [`Hub`].
#[derive(Debug)]
pub struct Parts {
    /// What it runs with.
    pub settings: Settings,
    /// What is durable.
    pub store: Store,
    /// The time.
    pub clock: Clock,
    /// Who waits for commands.
    pub notifier: Notifier,
    /// Signs delivery tokens.
    pub delivery: DeliveryKey,
    /// Before this moment the hub itself was away, so no droplet's silence counts.
    pub started_at: Timestamp,
    /// Refused requests that are not in the audit yet.
    pub denials: Denials,
    /// Who may start now.
    pub pace: Pace,
    /// Who is heard of.
    pub watching: Watching,
    /// How often each token has asked.
    pub rates: Buckets<Caller>,
    /// The fleet as counted last.
    pub census: Cached<Census>,
    /// How droplets were over the last hours.
    pub history: History,
    /// What the hub counts about itself.
    pub metrics: Metrics,
    /// Readers of the event stream that there is room for.
    pub streams: Arc<Semaphore>,
    is_stopping: AtomicBool,
    stopping: Notify,
}

impl std::ops::Deref for Hub {
    type Target = Parts;
    fn deref(&self) -> &Parts {
        &self.0
    }
}

/// Why the hub cannot start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The database.
    #[error("cannot open the database {0}")]
    Store(String, #[source] StoreError),
    /// The delivery key.
    #[error("cannot read the delivery key {0}; `genesis-hub init` makes one")]
    KeyFile(String, #[source] std::io::Error),
    /// The delivery key's content.
    #[error("cannot use the delivery key {0}")]
    Key(String, #[source] DeliveryError),
}

impl Hub {
    /// Opens what is in the data folder.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(settings: Settings, clock: Clock) -> Result<Self, OpenError> {
        let database = setup::database(&settings.data_dir);
        let opened = Store::open_remembering(&database);
        let opened = opened.map_err(|e| OpenError::Store(database.display().to_string(), e))?;
        Self::with(settings, clock, opened)
    }

    /// **For simulations only**: the same hub without threads; see [`Store::inline`].
    ///
    /// # Errors
    /// [`OpenError`].
    #[cfg(feature = "sim")]
    pub fn open_inline(settings: Settings, clock: Clock) -> Result<Self, OpenError> {
        let database = setup::database(&settings.data_dir);
        let opened = Store::inline(&database);
        let opened = opened.map_err(|e| OpenError::Store(database.display().to_string(), e))?;
        Self::with(settings, clock, opened)
    }

    fn with(settings: Settings, clock: Clock, (store, remembered): (Store, Remembered)) -> Result<Self, OpenError> {
        let name = |path: &Path| path.display().to_string();
        let key_file = setup::delivery_key(&settings.data_dir);
        let pkcs8 = std::fs::read(&key_file).map_err(|e| OpenError::KeyFile(name(&key_file), e))?;
        let delivery = DeliveryKey::new(settings.delivery_kid.clone(), &pkcs8);
        let delivery = delivery.map_err(|e| OpenError::Key(name(&key_file), e))?;
        let (denials, rates) = (Denials::default(), Buckets::default());
        let streams = Arc::new(Semaphore::new(EVENT_STREAMS_MAX));
        let (notifier, started_at) = (Notifier::default(), clock.now());
        let (is_stopping, stopping) = (AtomicBool::new(false), Notify::new());
        let pace = Pace::new(&remembered, settings.lease_ttl_ms, started_at);
        let interval_ms = i64::try_from(settings.agent.heartbeat_interval_s).unwrap_or(i64::MAX).saturating_mul(1000);
        let watching = Watching::new(&remembered, interval_ms, started_at);
        Ok(Self(Arc::new(Parts {
            settings,
            store,
            clock,
            notifier,
            delivery,
            started_at,
            denials,
            pace,
            watching,
            rates,
            census: Cached::default(),
            history: History::default(),
            metrics: Metrics::default(),
            streams,
            is_stopping,
            stopping,
        })))
    }

    /// Asks waiting polls to end.
    pub fn stop(&self) {
        self.is_stopping.store(true, Ordering::SeqCst);
        self.stopping.notify_waiters();
    }

    /// Waits until the hub was asked to stop.
    pub async fn stopped(&self) {
        // Before the look, or a stop between look and wait would be missed. Those who wait are woken in the order in
        // which they came, so that a simulation replays.
        let mut stopping = pin!(self.stopping.notified());
        stopping.as_mut().enable();
        if !self.is_stopping.load(Ordering::SeqCst) {
            stopping.await;
        }
    }

    /// **For tests of the agent's admission only**: see [`Store::enqueue_unchecked`]. Wakes the droplet's poll.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn enqueue_unchecked(&self, workspace: WorkspaceId, bundle: &[u8]) -> Result<JobId, StoreError> {
        let job = self.store.enqueue_unchecked(workspace, bundle, self.clock.now()).await?;
        self.notifier.wake(workspace);
        Ok(job)
    }

    /// Where the hub's audit chain is, signed; `None` before its first entry.
    ///
    /// # Errors
    /// The store, or the key.
    pub async fn checkpoint(&self) -> Result<Option<String>, ApiError> {
        let Some((chain, head)) = self.store.audit_head().await? else { return Ok(None) };
        let checkpoint = Checkpoint { chain, seq: head.seq, hash: head.hash, at: self.clock.now() };
        self.delivery.checkpoint(&checkpoint).map(Some).map_err(|error| {
            tracing::error!(error = %Chain(&error), "no checkpoint");
            ApiError::internal()
        })
    }

    /// Counts a refused request for the audit, if it was for want of a right.
    pub async fn count_denial(&self, error: &ApiError, peer: Option<IpAddr>) {
        let status = error.status.as_u16();
        if !matches!(status, 401 | 403) {
            return;
        }
        if let Some(counted) = self.denials.count(status, error.code, self.clock.now()) {
            self.note_denials(counted, peer).await;
        }
    }

    async fn note_denials(&self, counted: Counted, peer: Option<IpAddr>) {
        let Counted { event, code, count } = counted;
        let detail = json!({"code": code, "count": count, "last_from": peer});
        if let Err(error) = self.store.note(event, detail, self.clock.now()).await {
            // The caller is refused whether or not it can be written down.
            tracing::error!(error = %Chain(&error), code, count, "refusals are not in the audit");
        }
    }

    /// Ends what ran out, once.
    pub async fn sweep(&self) {
        self.rates.forget_full(self.clock.now());
        for counted in self.denials.over(self.clock.now()) {
            self.note_denials(counted, None).await;
        }
        match self.store.sweep(self.clock.now()).await {
            Ok(swept) => {
                self.pace.release(swept.freed);
                swept.workspaces.into_iter().for_each(|workspace| self.notifier.wake(workspace));
            }
            // The next sweep does what this one could not.
            Err(error) => tracing::warn!(error = %Chain(&error), "the sweep failed"),
        }
        if let Err(error) = self.store.prune(self.settings.retention, self.clock.now()).await {
            tracing::warn!(error = %Chain(&error), "nothing was pruned");
        }
        self.advance_rollouts().await;
        // What silent droplets held has become free with time.
        self.dispatch();
    }
}
