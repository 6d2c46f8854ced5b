//! The real hub without sockets, threads and system randomness: requests go to its router, a restart opens its files
//! again.

use std::cell::RefCell;
use std::path::Path;

use super::signal::Signal;
use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, StatusCode, header};
use genesis_hub::api;
use genesis_hub::clock::Clock;
use genesis_hub::config::{Raw, Settings};
use genesis_hub::hub::Hub;
use genesis_hub::{random, setup, sweep};
use genesis_shared::id::{Digest, JobId, WorkspaceId};
use genesis_shared::life::{BOOT_EPOCH_HEADER, HIGH_WATER_HEADER, Life};
use genesis_shared::trust::NamedKey;
use genesis_shared::wire::{JobView, PushAnswer};
use http_body_util::BodyExt;
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde::de::DeserializeOwned;
use tokio::task::JoinHandle;
use tower::ServiceExt;

/// Seconds between two sweeps: half of what a lease lasts is often enough, and an idle hour stays cheap.
const SWEEP_S: u64 = 30;

/// DER around the two halves of an Ed25519 key (RFC 8410, with the public key as ring wants it).
const PKCS8_BEGIN: [u8; 16] = *b"\x30\x53\x02\x01\x01\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20";
const PKCS8_MIDDLE: [u8; 5] = *b"\xa1\x23\x03\x21\x00";

/// A request that can be sent more than once.
#[derive(Clone)]
pub struct Ask {
    /// Method.
    pub method: Method,
    /// Path and query.
    pub path: String,
    /// Bearer token.
    pub token: Option<String>,
    /// The life of the agent that asks.
    pub life: Option<Life>,
    /// JSON.
    pub body: Vec<u8>,
}

/// An answer.
pub struct Told {
    /// Status.
    pub status: StatusCode,
    /// `retry-after`, in seconds.
    pub retry_after: Option<u64>,
    /// Body.
    pub body: Vec<u8>,
}

/// There is no hub, or it went away in the middle.
#[derive(Clone, Copy, Debug)]
pub struct Gone;

struct Running {
    hub: Hub,
    router: Router,
    sweeper: JoinHandle<()>,
}

/// Where the hub lives.
pub struct House {
    settings: Settings,
    clock: Clock,
    admin: String,
    delivery: NamedKey,
    running: RefCell<Option<Running>>,
    /// Grows with every end of a hub.
    ends: Signal<u64>,
    /// Requests that the hub has taken and not answered.
    under_way: Signal<usize>,
}

/// One request under way, until it is answered or whoever asked is gone.
struct UnderWay<'a>(&'a Signal<usize>);

impl<'a> UnderWay<'a> {
    fn begin(count: &'a Signal<usize>) -> Self {
        count.set(count.get() + 1);
        Self(count)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl House {
    /// Makes a hub's folder and starts it. Call [`genesis_hub::sim::seed`] before.
    pub async fn new(folder: &Path, clock: Clock) -> Self {
        let raw = Raw { sweep_interval_s: Some(SWEEP_S), ..Raw::default() };
        let settings = Settings::new(folder, "127.0.0.1:0".parse().unwrap(), raw).unwrap();
        let seed: [u8; 32] = random::bytes();
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).unwrap();
        let public = pair.public_key().as_ref();
        std::fs::create_dir_all(folder).unwrap();
        let pkcs8 = [&PKCS8_BEGIN[..], &seed, &PKCS8_MIDDLE, public].concat();
        std::fs::write(setup::delivery_key(folder), &pkcs8).unwrap();
        let public_key = genesis_hub::delivery::public_key(&pkcs8).unwrap();
        let delivery = NamedKey { kid: settings.delivery_kid.clone(), public_key };
        let admin = random::token();
        let (running, ends, under_way) = (RefCell::default(), Signal::default(), Signal::default());
        let house = Self { settings, clock, admin, delivery, running, ends, under_way };
        house.start();
        let (digest, now) = (Digest::of(house.admin.as_bytes()), house.clock.now());
        let store = house.hub().unwrap().store.clone();
        assert!(store.create_api_token("simulation".into(), "admin".into(), digest, now).await.unwrap());
        house
    }

    /// For a trust root.
    pub fn delivery(&self) -> NamedKey {
        self.delivery.clone()
    }

    /// Starts the hub, if it is not there.
    pub fn start(&self) {
        if self.is_up() {
            return;
        }
        let hub = Hub::open_inline(self.settings.clone(), self.clock.clone()).unwrap();
        let router = api::router(hub.clone());
        let sweeper = tokio::task::spawn_local(sweep::run(hub.clone()));
        self.running.replace(Some(Running { hub, router, sweeper }));
    }

    /// Ends the hub without a word to those who wait for an answer.
    pub async fn crash(&self) {
        let Some(running) = self.running.take() else { return };
        running.sweeper.abort();
        self.ends.set(self.ends.get() + 1);
        // Requests under way hold the store; the next hub must find the file free.
        running.hub.store.close().await.unwrap();
    }

    /// Ends the hub as SIGTERM does: it takes nothing more, polls that wait are answered at once, and what is under way
    /// may finish within its grace. Answers whether all of it did.
    pub async fn stop(&self) -> bool {
        let Some(running) = self.running.take() else { return true };
        running.hub.stop();
        let answered = self.under_way.wait_for(|count| count == 0);
        let in_time = tokio::time::timeout(self.settings.stop_grace, answered).await.is_ok();
        running.sweeper.await.unwrap();
        self.ends.set(self.ends.get() + 1);
        running.hub.store.close().await.unwrap();
        in_time
    }

    /// Whether there is a hub.
    pub fn is_up(&self) -> bool {
        self.running.borrow().is_some()
    }

    fn hub(&self) -> Option<Hub> {
        self.running.borrow().as_ref().map(|running| running.hub.clone())
    }

    /// Sends a request to the hub's router.
    pub async fn call(&self, ask: &Ask) -> Result<Told, Gone> {
        let router = self.running.borrow().as_ref().map(|running| running.router.clone()).ok_or(Gone)?;
        let mut request = Request::builder().method(ask.method.clone()).uri(&ask.path);
        if let Some(token) = &ask.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        if let Some(life) = &ask.life {
            request = request.header(BOOT_EPOCH_HEADER, &life.boot_epoch);
            request = request.header(HIGH_WATER_HEADER, life.journal_high_water);
        }
        if !ask.body.is_empty() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let request = request.body(Body::from(ask.body.clone())).unwrap();
        let now = self.ends.get();
        let _under_way = UnderWay::begin(&self.under_way);
        let answer = async {
            let response = router.oneshot(request).await.unwrap_or_else(|never| match never {});
            let (parts, body) = response.into_parts();
            let body = body.collect().await.map(|body| body.to_bytes().to_vec()).unwrap_or_default();
            let retry_after = parts.headers.get(header::RETRY_AFTER).and_then(|v| v.to_str().ok()?.parse().ok());
            Told { status: parts.status, retry_after, body }
        };
        let ended = self.ends.wait_for(|ends| ends != now);
        tokio::select! {
            biased;
            () = ended => Err(Gone),
            told = answer => Ok(told),
        }
    }

    /// An operator's request; answers status and body.
    ///
    /// # Panics
    /// There is no hub.
    pub async fn operate(&self, method: Method, path: &str, body: Vec<u8>) -> (StatusCode, Vec<u8>) {
        let ask = Ask { method, path: path.to_owned(), token: Some(self.admin.clone()), life: None, body };
        let told = self.call(&ask).await.expect("the hub is up");
        (told.status, told.body)
    }

    /// The same, where only a success will do.
    ///
    /// # Panics
    /// There is no hub, or it refused.
    pub async fn must<T: DeserializeOwned>(&self, method: Method, path: &str, body: Vec<u8>) -> T {
        let (status, body) = self.operate(method, path, body).await;
        assert!(status.is_success(), "{path}: {status} {}", String::from_utf8_lossy(&body));
        serde_json::from_slice(&body).unwrap()
    }

    /// Pushes a bundle as an operator does; the code of the refusal otherwise.
    pub async fn push(&self, document: &str) -> Result<PushAnswer, String> {
        let (status, body) = self.operate(Method::POST, "/api/v1/bundles", document.as_bytes().to_vec()).await;
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        if status.is_success() {
            return Ok(serde_json::from_value(body).unwrap());
        }
        Err(body["code"].as_str().unwrap_or_default().to_owned())
    }

    /// Queues bytes as a stolen hub would.
    pub async fn smuggle(&self, workspace: WorkspaceId, document: &str) -> JobId {
        self.hub().expect("the hub is up").enqueue_unchecked(workspace, document.as_bytes()).await.unwrap()
    }

    /// A job as operators see it.
    pub async fn job(&self, job: JobId) -> JobView {
        self.must(Method::GET, &format!("/api/v1/jobs/{job}"), vec![]).await
    }

    /// Everything that the hub has on disk.
    pub fn bytes(&self) -> Vec<u8> {
        let read = |file| std::fs::read(self.settings.data_dir.join(file)).unwrap_or_default();
        [read("hub.db"), read("hub.db-wal")].concat()
    }
}
