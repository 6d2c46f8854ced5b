//! The way between one agent and the hub, with seeded faults: cut, lossy, slow, repeating itself, out of order.

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use super::signal::Signal;
use axum::http::{Method, StatusCode};
use genesis_agent::ports::{EffectError, Entropy, ErrorKind, HubLink};
use genesis_agent::real::hub::refusal;
use genesis_agent::sim::{Crash, SimEntropy};
use genesis_shared::id::{DropletId, PublicKey};
use genesis_shared::life::Life;
use genesis_shared::limits::{POLL_COMMANDS_MAX, RECORD_BYTES_MAX, RESULTS_BATCH_MAX};
use genesis_shared::report::{Heartbeat, OutboxRecord};
use genesis_shared::secret::Secret;
use genesis_shared::wire::{
    CommandsAnswer, HandshakeAnswer, HandshakeRequest, HeartbeatAnswer, RenewAnswer, RenewRequest, ResultsAnswer,
    ResultsRequest, SIDECAR_PATH, TrustRootChain,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::house::{Ask, Gone, House, Told};
use crate::canary;

/// How long the real client waits for an answer that does not come.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// How bad the way is. Chances in percent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weather {
    /// A request is lost before the hub hears it.
    pub lost_before: u64,
    /// An answer is lost after the hub acted.
    pub lost_after: u64,
    /// A request arrives a second time, up to two minutes later: out of order.
    pub repeated: u64,
    /// An answer to a poll carries its commands twice, or in another order.
    pub shuffled: u64,
    /// Milliseconds on the way at most.
    pub delay_ms: u64,
}

/// Whom the way tells what passed over it.
pub trait Listener {
    /// The hub has stored these records; each is told at least once.
    fn stored(&self, records: &[OutboxRecord]);
    /// Something that must never be on this way.
    fn violation(&self, what: String);
}

/// One droplet's way to the hub.
pub struct Network {
    house: Rc<House>,
    entropy: SimEntropy,
    crash: Crash,
    weather: Cell<Weather>,
    cut: Signal<bool>,
    listener: Rc<dyn Listener>,
    sealing_key: RefCell<Option<PublicKey>>,
}

impl Network {
    /// A good way.
    pub fn new(house: Rc<House>, entropy: SimEntropy, crash: Crash, listener: Rc<dyn Listener>) -> Self {
        Self {
            house,
            entropy,
            crash,
            weather: Cell::default(),
            cut: Signal::default(),
            listener,
            sealing_key: RefCell::default(),
        }
    }

    /// Changes the weather.
    pub fn set_weather(&self, weather: Weather) {
        self.weather.set(weather);
    }

    /// Cuts the way, or mends it; what is under way is lost with it.
    pub fn set_cut(&self, cut: bool) {
        self.cut.set(cut);
    }

    /// What the droplet enrolled with.
    pub fn sealing_key(&self) -> Option<PublicKey> {
        *self.sealing_key.borrow()
    }

    fn happens(&self, percent: u64) -> bool {
        percent > 0 && self.entropy.number() % 100 < percent
    }

    /// One exchange.
    async fn exchange(&self, ask: Ask) -> Result<Told, EffectError> {
        // A request takes a moment, so that others get their turn.
        tokio::task::yield_now().await;
        self.crash.point().await;
        let weather = self.weather.get();
        if weather.delay_ms > 0 {
            tokio::time::sleep(Duration::from_millis(self.entropy.number() % weather.delay_ms)).await;
        }
        if self.cut.get() {
            return Err(unreachable_hub("no route to the hub"));
        }
        if self.happens(weather.lost_before) {
            return Err(self.lost().await);
        }
        if self.happens(weather.repeated) {
            self.repeat_later(ask.clone());
        }
        let is_cut = self.cut.wait_for(|cut| cut);
        let told = tokio::select! {
            biased;
            () = is_cut => None,
            told = self.house.call(&ask) => Some(told),
        };
        let Some(told) = told else { return Err(self.lost().await) };
        let told = told.map_err(|Gone| unreachable_hub("the hub closed the connection"))?;
        self.note(&ask, &told);
        if self.happens(weather.lost_after) {
            return Err(self.lost().await);
        }
        self.crash.point().await;
        Ok(told)
    }

    async fn lost(&self) -> EffectError {
        tokio::time::sleep(ANSWER_TIMEOUT).await;
        unreachable_hub("no answer in time")
    }

    fn repeat_later(&self, ask: Ask) {
        let pause = Duration::from_millis(self.entropy.number() % 120_000);
        let (house, listener) = (Rc::clone(&self.house), Rc::clone(&self.listener));
        tokio::task::spawn_local(async move {
            tokio::time::sleep(pause).await;
            if let Ok(told) = house.call(&ask).await {
                note(&*listener, &ask, &told);
            }
        });
    }

    fn note(&self, ask: &Ask, told: &Told) {
        if canary::holds(&ask.body) {
            self.listener.violation(format!("I5: a secret is in a request to {}", ask.path));
        }
        note(&*self.listener, ask, told);
    }
}

/// Tells the listener what the hub now has.
fn note(listener: &dyn Listener, ask: &Ask, told: &Told) {
    if !ask.path.ends_with("/results") || !told.status.is_success() {
        return;
    }
    let request: ResultsRequest = serde_json::from_slice(&ask.body).unwrap();
    let answer: ResultsAnswer = serde_json::from_slice(&told.body).unwrap();
    if request.records.len() > RESULTS_BATCH_MAX {
        listener.violation(format!("I9: {} records at once", request.records.len()));
    }
    for record in &request.records {
        let size = serde_json::to_vec(&record.record).map_or(0, |bytes| bytes.len());
        if size > RECORD_BYTES_MAX {
            listener.violation(format!("I9: record {} has {size} bytes", record.seq));
        }
    }
    let stored: Vec<_> = request.records.into_iter().filter(|record| record.seq <= answer.stored_up_to).collect();
    listener.stored(&stored);
}

fn read<T: DeserializeOwned>(told: &Told) -> Result<T, EffectError> {
    if !told.status.is_success() {
        return Err(refusal(told.status, told.retry_after, &told.body));
    }
    serde_json::from_slice(&told.body).map_err(|e| EffectError::new(ErrorKind::Transient, "hub_answer", e.to_string()))
}

fn unreachable_hub(why: &str) -> EffectError {
    EffectError::new(ErrorKind::Transient, "hub_unreachable", why)
}

/// One life's end of the way.
pub struct Link {
    network: Rc<Network>,
    life: OnceCell<Life>,
}

impl Link {
    /// For a new life.
    pub fn new(network: &Rc<Network>) -> Self {
        Self { network: Rc::clone(network), life: OnceCell::new() }
    }

    fn get(&self, token: &Secret<String>, path: String) -> Ask {
        let token = Some(token.expose().clone());
        Ask { method: Method::GET, path, token, life: self.life.get().cloned(), body: vec![] }
    }

    async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        token: Option<&Secret<String>>,
        body: &impl Serialize,
    ) -> Result<T, EffectError> {
        let ask = Ask {
            method: Method::POST,
            path: format!("{SIDECAR_PATH}{path}"),
            token: token.map(|token| token.expose().clone()),
            life: self.life.get().cloned(),
            body: serde_json::to_vec(body).unwrap(),
        };
        read(&self.network.exchange(ask).await?)
    }
}

impl HubLink for Link {
    fn begin_life(&self, life: Life) {
        self.life.get_or_init(|| life);
    }

    async fn handshake(&self, request: &HandshakeRequest) -> Result<HandshakeAnswer, EffectError> {
        let answer = self.post("/handshake", None, request).await?;
        self.network.sealing_key.replace(Some(request.sealing_key));
        Ok(answer)
    }

    async fn renew(&self, _droplet: &DropletId, assertion: String) -> Result<RenewAnswer, EffectError> {
        self.post("/renew", None, &RenewRequest { assertion }).await
    }

    async fn reach(&self) -> Result<(), EffectError> {
        // Only an update asks, and no fleet is updated yet.
        std::future::ready(Ok(())).await
    }

    async fn heartbeat(&self, token: &Secret<String>, beat: &Heartbeat) -> Result<HeartbeatAnswer, EffectError> {
        self.post("/heartbeat", Some(token), beat).await
    }

    async fn poll(&self, token: &Secret<String>, wait: Duration, nonce: &str) -> Result<CommandsAnswer, EffectError> {
        let path = format!("{SIDECAR_PATH}/commands?wait={}&nonce={nonce}", wait.as_secs());
        let ask = self.get(token, path);
        let told = self.network.exchange(ask).await?;
        if told.status == StatusCode::NO_CONTENT {
            return Ok(CommandsAnswer { commands: vec![], trust_root_version: 0, quarantined: false });
        }
        let mut answer: CommandsAnswer = read(&told)?;
        if answer.commands.len() > POLL_COMMANDS_MAX {
            self.network.listener.violation(format!("I9: {} commands in one answer", answer.commands.len()));
        }
        if self.network.happens(self.network.weather.get().shuffled) {
            answer.commands = [answer.commands.clone(), answer.commands].concat();
            answer.commands.reverse();
        }
        Ok(answer)
    }

    async fn trust_roots(&self, token: &Secret<String>, after: u64) -> Result<TrustRootChain, EffectError> {
        let path = format!("{SIDECAR_PATH}/trust-root?after={after}");
        let ask = self.get(token, path);
        read(&self.network.exchange(ask).await?)
    }

    async fn results(&self, token: &Secret<String>, records: &[OutboxRecord]) -> Result<ResultsAnswer, EffectError> {
        self.post("/results", Some(token), &ResultsRequest { records: records.to_vec() }).await
    }
}
