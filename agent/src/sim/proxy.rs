//! A pretend proxy and pretend name servers: what they hold, what may go wrong, and where the agent may die.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

use genesis_shared::timestamp::Timestamp;
use serde_json::Value;

use super::crash::Crash;
use crate::ports::stack::Proxy;
use crate::ports::{EffectError, ErrorKind, Names};

/// When every pretend certificate ends, 2026-04-01T00:00:00Z in milliseconds.
const EXPIRES_MS: i64 = 1_775_001_600_000;

/// What goes wrong with one call of a proxy that loads a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyFault {
    /// It does not answer, and nothing has changed.
    Unreachable,
    /// It has loaded the configuration, and nobody hears of it.
    NoAnswer,
    /// It refuses the configuration.
    Refused,
}

/// The proxy. It survives a crash of the agent; a restart of its own is [`SimProxy::restart`].
#[derive(Default)]
pub struct SimProxy {
    running: RefCell<Value>,
    kept: RefCell<Value>,
    is_held: Cell<bool>,
    faults: RefCell<VecDeque<ProxyFault>>,
    refuses: Cell<bool>,
    is_down: Cell<bool>,
    /// Loads that were accepted.
    loads: Cell<u64>,
    crash: Crash,
}

impl SimProxy {
    /// One that runs with no configuration.
    pub fn new(crash: Crash) -> Self {
        Self { crash, ..Self::default() }
    }
    /// What goes wrong next, in order; each once.
    pub fn fail(&self, faults: &[ProxyFault]) {
        self.faults.borrow_mut().extend(faults);
    }
    /// From now on refuses every configuration, or takes them again.
    pub fn set_refusing(&self, refuses: bool) {
        self.refuses.set(refuses);
    }
    /// Puts a configuration in behind the agent's back.
    pub fn edit(&self, config: Value) {
        self.running.replace(config);
    }
    /// Its process ends; one that begins again is [`Self::restart`].
    pub fn set_down(&self, is_down: bool) {
        self.is_down.set(is_down);
    }
    /// Starts again with what was kept.
    pub fn restart(&self) {
        self.is_down.set(false);
        self.running.replace(self.kept.borrow().clone());
    }
    /// What it runs with.
    pub fn running(&self) -> Value {
        self.running.borrow().clone()
    }
    /// What a restart would run with.
    pub fn kept(&self) -> Value {
        self.kept.borrow().clone()
    }
    /// How many configurations it has taken.
    pub fn loads(&self) -> u64 {
        self.loads.get()
    }

    fn point(&self) -> Result<(), EffectError> {
        if self.crash.is_over() { Err(unreachable()) } else { Ok(()) }
    }

    fn hosts(&self) -> Vec<Value> {
        let running = self.running.borrow();
        let policies = running["apps"]["tls"]["automation"]["policies"].as_array().cloned().unwrap_or_default();
        policies.iter().filter_map(|policy| policy["subjects"].as_array().cloned()).flatten().collect()
    }
}

impl Proxy for SimProxy {
    fn shared_folder(&self) -> String {
        "/sim/proxy".into()
    }
    fn keep_config(&self, config: &Value) -> Result<(), EffectError> {
        if *self.kept.borrow() == *config {
            return Ok(());
        }
        self.point()?;
        self.kept.replace(config.clone());
        self.point()
    }
    async fn config(&self) -> Result<Value, EffectError> {
        self.crash.look().await;
        if self.is_down.get() { Err(unreachable()) } else { Ok(self.running()) }
    }
    async fn load(&self, config: &Value) -> Result<(), EffectError> {
        self.crash.point().await;
        if self.is_down.get() {
            return Err(unreachable());
        }
        let refusal = self.refuses.get().then_some(ProxyFault::Refused);
        let fault = refusal.or_else(|| self.faults.borrow_mut().pop_front());
        match fault {
            Some(ProxyFault::Unreachable) => return Err(unreachable()),
            Some(ProxyFault::Refused) => {
                let message = "the proxy refuses its configuration and keeps the former one: scripted fault";
                return Err(EffectError::new(ErrorKind::Permanent, "proxy_refused_config", message));
            }
            Some(ProxyFault::NoAnswer) | None => {}
        }
        self.running.replace(config.clone());
        self.loads.set(self.loads.get() + 1);
        self.crash.point().await;
        if fault == Some(ProxyFault::NoAnswer) {
            return Err(unreachable());
        }
        self.keep_config(config)
    }
    async fn hold(&self) -> Result<(), EffectError> {
        self.crash.point().await;
        self.is_held.set(true);
        self.crash.point().await;
        Ok(())
    }
    fn release(&self) -> Result<(), EffectError> {
        self.point()?;
        self.is_held.set(false);
        self.point()
    }
    fn is_held(&self) -> Result<bool, EffectError> {
        Ok(self.is_held.get())
    }
    async fn in_flight(&self) -> Option<u64> {
        Some(0)
    }
    async fn certificate_expires_at(&self, host: &str) -> Option<Timestamp> {
        self.crash.look().await;
        self.hosts().iter().any(|held| held == host).then(|| Timestamp::from_millis(EXPIRES_MS))
    }
}

fn unreachable() -> EffectError {
    EffectError::new(ErrorKind::Transient, "proxy_unreachable", "the proxy cannot be reached: scripted fault")
}

/// Name servers for which every host leads to one address, but those that were told otherwise.
pub struct SimNames {
    usual: IpAddr,
    others: RefCell<BTreeMap<String, Vec<IpAddr>>>,
    crash: Crash,
}

impl SimNames {
    /// Every host leads here.
    pub fn new(usual: IpAddr, crash: Crash) -> Self {
        Self { usual, others: RefCell::default(), crash }
    }
    /// From now on this host leads there, or nowhere.
    pub fn point(&self, host: &str, addresses: &[IpAddr]) {
        self.others.borrow_mut().insert(host.to_owned(), addresses.to_vec());
    }
}

impl Names for SimNames {
    async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, EffectError> {
        self.crash.look().await;
        Ok(self.others.borrow().get(host).cloned().unwrap_or_else(|| vec![self.usual]))
    }
}
