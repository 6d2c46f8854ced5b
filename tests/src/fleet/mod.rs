//! A fleet in one thread: several agents, the real hub's handlers, an operator and a tenant, a seeded clock and
//! network, and a model that says what must hold.
//!
//! [`simulate`] plays one seed: some dozens of [`transition`]s over about two simulated hours, then everything is
//! healed and time goes on until rest. The invariants are checked after every transition and at rest ([`check`]):
//! I1 what admission must refuse has no effect; I2 an accepted job ends in one outcome, the same at hub and agent;
//! I3 n8n is asked to create each thing once, wherever the agent dies; I4 n8n holds each managed thing once, as the model says, and the tenant's own untouched; I5 secrets appear nowhere
//! in clear; I7 the outbox drains; I8 the journal's map is what n8n holds, and a fresh agent agrees; I9 what has a
//! bound keeps it. The same seed gives the same [`trace`].

mod check;
mod droplet;
mod held;
mod house;
mod model;
mod network;
mod operator;
mod play;
mod signal;
mod trace;
mod transition;
mod wish;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use axum::http::Method;
use genesis_agent::sim::{Outside, SimClock};
use genesis_hub::clock::Clock;
use genesis_shared::report::OutboxRecord;
use genesis_shared::wire::{DropletCreate, ProvisioningToken};
use tempfile::TempDir;
use tokio::task::LocalSet;

use droplet::{FleetDroplet, Parts, workspace};
use held::Held;
use house::House;
use model::Tenant;
use network::{Listener, Network};
use operator::Operators;
use trace::Trace;
use transition::Generator;

/// Agents in the fleet.
const DROPLETS: usize = 3;

/// Transitions of a seed before everything is healed.
const TRANSITIONS: usize = 40;

/// Breaks something on purpose, to see that the invariants notice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sabotage {
    /// Nothing is broken.
    #[default]
    None,
    /// n8n holds a managed workflow twice at the end.
    Doubled,
    /// The hub forgets what a droplet reported and makes an outcome up.
    ForgedOutcome,
    /// A secret is written into the hub's log.
    Leak,
    /// A managed credential gets another value behind everybody's back.
    Swapped,
}

/// What one seed came to.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What was violated; empty is good.
    pub violations: Vec<String>,
    /// Simulated time of the whole fleet.
    pub seconds: f64,
    /// SHA-256 of the trace, in hex.
    pub trace_hash: String,
    /// Jobs that ended, by how they ended.
    pub ended: std::collections::BTreeMap<String, u64>,
}

/// Plays one seed in a runtime of its own whose time is paused. With `aloud` the trace goes to stderr.
///
/// # Panics
/// The simulation itself is broken, or a part of the system panicked.
pub fn simulate(seed: u64, aloud: bool, sabotage: Sabotage) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let local = LocalSet::new();
    local.block_on(&runtime, async {
        let fleet = Fleet::new(seed, aloud).await;
        fleet.run(seed, sabotage).await;
        fleet.outcome()
    })
}

/// Violations of one run. Clones share them.
#[derive(Clone)]
struct Court {
    found: Rc<RefCell<Vec<String>>>,
    trace: Trace,
}

impl Court {
    fn hold(&self, holds: Result<(), String>) {
        if let Err(what) = holds {
            self.trace.line(format_args!("VIOLATION {what}"));
            self.found.borrow_mut().push(what);
        }
    }
    fn is_clean(&self) -> bool {
        self.found.borrow().is_empty()
    }
}

/// Hears what the hub stores of one droplet, for the model.
struct Ear {
    index: usize,
    tenant: Rc<RefCell<Tenant>>,
    outside: Outside,
    court: Court,
}

impl Listener for Ear {
    fn stored(&self, records: &[OutboxRecord]) {
        for record in records {
            let heard = self.tenant.borrow_mut().hear(record);
            match heard {
                Ok(Some(job)) => {
                    let mut tenant = self.tenant.borrow_mut();
                    let result = tenant.tasks.iter().find(|task| task.job == job).and_then(|task| task.result.as_ref());
                    let (state, code) = result.map(|r| (r.state, r.code.clone())).unzip();
                    let line = format!("droplet-{} {job} {state:?} {}", self.index, code.unwrap_or_default());
                    self.court.trace.line(line);
                    // Reported means done: n8n holds it now, not soon.
                    self.court.hold(check::settled_state(&mut tenant, &self.outside.n8n.borrow()));
                }
                Ok(None) => {}
                Err(what) => self.court.hold(Err(format!("droplet-{}: {what}", self.index))),
            }
        }
    }
    fn violation(&self, what: String) {
        self.court.hold(Err(what));
    }
}

/// One droplet with what the model knows of it.
struct Member {
    droplet: Rc<FleetDroplet>,
    tenant: Rc<RefCell<Tenant>>,
}

/// Everything.
pub struct Fleet {
    house: Rc<House>,
    members: Vec<Member>,
    operators: Operators,
    generator: RefCell<Generator>,
    court: Court,
    trace: Trace,
    /// Grows with each restart of the hub, so that an older wait does not bring it back.
    restarts: Rc<Cell<u64>>,
    /// The clock of everybody but droplets whose own is wrong.
    right_clock: SimClock,
    _folder: TempDir,
}

impl Fleet {
    async fn new(seed: u64, aloud: bool) -> Self {
        genesis_hub::sim::seed(seed);
        let trace = Trace::new(aloud);
        trace.line(format_args!("seed {seed}"));
        let base = std::path::Path::new("/dev/shm");
        let folder = if base.is_dir() { TempDir::new_in(base) } else { TempDir::new() }.unwrap();
        let first = Outside::new(seed);
        let now = genesis_agent::ports::Clock::now(&first.clock);
        let house = Rc::new(House::new(&folder.path().join("hub"), Clock::of_runtime(now)).await);
        let operators = Operators::new(seed, house.delivery(), now);
        let root = operators.root_document().as_bytes().to_vec();
        let _: serde_json::Value = house.must(Method::PUT, "/api/v1/trust-root", root).await;
        let court = Court { found: Rc::default(), trace: trace.clone() };
        let mut members = Vec::new();
        for index in 0..DROPLETS {
            let outside = Outside::new(seed.wrapping_mul(31).wrapping_add(index as u64));
            members.push(member(index, outside, &house, &operators, &court, folder.path()).await);
        }
        let generator = RefCell::new(Generator::new(seed, DROPLETS));
        Self {
            house,
            members,
            operators,
            generator,
            court,
            trace,
            restarts: Rc::default(),
            right_clock: first.clock,
            _folder: folder,
        }
    }

    async fn run(&self, seed: u64, sabotage: Sabotage) {
        self.start();
        tokio::time::sleep(Duration::from_secs(10)).await;
        self.found_tenants().await;
        for _ in 0..TRANSITIONS {
            let (transition, pause) = {
                let mut generator = self.generator.borrow_mut();
                (generator.next(), generator.pause())
            };
            self.play(transition).await;
            tokio::time::sleep(pause).await;
            self.check();
            if !self.court.is_clean() {
                return;
            }
        }
        self.heal().await;
        self.sabotage(sabotage, seed);
        self.rest().await;
    }

    /// Starts every agent.
    fn start(&self) {
        for member in &self.members {
            tokio::task::spawn_local(Rc::clone(&member.droplet).supervise());
        }
    }

    fn outcome(&self) -> Outcome {
        let mut ended = std::collections::BTreeMap::new();
        for member in &self.members {
            for result in member.tenant.borrow().tasks.iter().filter_map(|task| task.result.as_ref()) {
                *ended.entry(format!("{:?} {}", result.state, result.code)).or_insert(0) += 1;
            }
        }
        Outcome {
            violations: self.court.found.borrow().clone(),
            seconds: self.trace.seconds(),
            trace_hash: self.trace.hash(),
            ended,
        }
    }
}

async fn member(
    index: usize,
    outside: Outside,
    house: &Rc<House>,
    operators: &Operators,
    court: &Court,
    folder: &std::path::Path,
) -> Member {
    let tenant = Rc::new(RefCell::new(Tenant::default()));
    let ear = Ear { index, tenant: Rc::clone(&tenant), outside: outside.clone(), court: court.clone() };
    let weather = outside.entropy.clone();
    let network = Rc::new(Network::new(Rc::clone(house), weather, outside.crash.clone(), Rc::new(ear)));
    let pin = operators.pin();
    let parts = Parts { index, outside, network, pin, folder, trace: court.trace.clone() };
    let droplet = FleetDroplet::new(parts);
    let create = DropletCreate {
        workspace_id: workspace(index),
        droplet_id: droplet.id.clone(),
        name: None,
        region: None,
        labels: std::collections::BTreeMap::new(),
    };
    let body = serde_json::to_vec(&create).unwrap();
    let token: ProvisioningToken = house.must(Method::POST, "/api/v1/droplets", body).await;
    droplet.provision(&token.provisioning_token);
    Member { droplet: Rc::new(droplet), tenant }
}
