//! Where attacks are played: a droplet under a trust root with every kind of key, and a hub that is the attacker's.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use data_encoding::BASE64URL_NOPAD;
use genesis_agent::ports::Clock;
use genesis_agent::sim::SimHub;
use genesis_agent::sim::forge::ForgedRoots;
use genesis_shared::audit::{self, Entry, Expected, event};
use genesis_shared::bundle::{Bundle, Force};
use genesis_shared::command::{Class, CommandWire};
use genesis_shared::delivery::Claims;
use genesis_shared::id::{Digest, JobId, WorkspaceId};
use genesis_shared::report::{OutcomeState, Record};
use genesis_shared::timestamp::Timestamp;
use genesis_shared::trust::{self, Allowance, NamedKey, OperatorKey, RootKeys, TrustRoot};
use genesisctl::keys::{Kind, PrivateKey, SigningKey};
use genesisctl::sign::Document;
use genesisctl::succession::{Change, successor};
use serde_json::{Value, json};

use crate::droplet::Droplet;
use crate::operator::{Operator, everything_at, named, sign_with};
use crate::scenario::{Held, held, recipient, small_tenant};

/// One minute and one hour in milliseconds.
pub const MINUTE_MS: i64 = 60_000;
/// See [`MINUTE_MS`].
pub const HOUR_MS: i64 = 60 * MINUTE_MS;

/// Virtual time in which the agent must have answered.
const PATIENCE: Duration = Duration::from_secs(2 * 3600);

/// The protected header of an honest bundle.
pub const HEADER: &str = r#"{"alg":"EdDSA","kid":"ops-1","typ":"genesis-bundle+json"}"#;

/// The key that follows from a label: the same label is the same key.
pub fn key_as(kid: &str, label: &str) -> SigningKey {
    PrivateKey::new(kid.parse().unwrap(), Kind::Signing, seed(label)).signing().unwrap()
}

/// The key of that name.
pub fn key(kid: &str) -> SigningKey {
    key_as(kid, kid)
}

fn seed(label: &str) -> [u8; 32] {
    *Digest::of(label.as_bytes()).as_bytes()
}

/// A signature by the key of that label.
pub fn sign_bytes(label: &str, bytes: &[u8]) -> Vec<u8> {
    let pair = ring::signature::Ed25519KeyPair::from_seed_unchecked(&seed(label)).unwrap();
    pair.sign(bytes).as_ref().to_vec()
}

/// base64url without padding.
pub fn encode(bytes: impl AsRef<[u8]>) -> String {
    BASE64URL_NOPAD.encode(bytes.as_ref())
}

/// A JWS with whatever header, signed by the key of that label.
pub fn raw(payload: &[u8], header: &str, label: &str) -> String {
    let (payload, protected) = (encode(payload), encode(header));
    let signature = encode(sign_bytes(label, format!("{protected}.{payload}").as_bytes()));
    json!({"payload": payload, "signatures": [{"protected": protected, "signature": signature}]}).to_string()
}

/// A bundle that is stopped in the hub: the workload's workflow would be switched off.
pub fn stop() -> Vec<CommandWire> {
    vec![command("DEACTIVATE_WORKFLOW", json!({"key": "hook"}))]
}

/// One command.
pub fn command(action: &str, payload: Value) -> CommandWire {
    CommandWire { action: action.into(), payload: Some(payload) }
}

/// The first root: two of three root keys must sign; besides two operators who may everything there is one of each
/// kind that may not.
pub fn first_root(delivery: NamedKey, now: Timestamp) -> TrustRoot {
    let may_everything = |kid: &str| everything_at(&key(kid), now);
    let mut operators: Vec<OperatorKey> =
        ["ops-1", "ops-2", "reader", "elsewhere", "guard", "early", "late", "soon", "gone"].map(may_everything).into();
    operators[2].allow = vec![Allowance::Class(Class::Read)];
    operators[3].workspaces = Some(vec![WorkspaceId::from_random([9; 16])]);
    operators[4].queues = Some(vec!["security".into()]);
    operators[5].not_before = now.plus_millis(24 * HOUR_MS);
    operators[6].not_after = now.plus_millis(-30 * MINUTE_MS);
    operators[7].not_after = now.plus_millis(HOUR_MS);
    let base = Operator::at(delivery.clone(), now);
    let mut root = TrustRoot::reread(base.root_document.as_bytes()).unwrap();
    root.root = RootKeys { keys: ["root-1", "root-2", "root-3"].map(|kid| named(&key(kid))).into(), threshold: 2 };
    root.operators = operators;
    root.delivery = vec![delivery, named(&key("hub-0"))];
    root.revoked = ["gone", "hub-0"].map(|kid| kid.parse().unwrap()).into();
    root
}

/// A root's document, signed by these.
pub fn sign_root(root: &TrustRoot, keys: &[SigningKey]) -> String {
    let mut document = Document::draft(&serde_json::to_vec(root).unwrap());
    for key in keys {
        document.sign(trust::TYP, key).unwrap();
    }
    document.to_text()
}

/// The scene of one attack.
pub struct Stage {
    /// The droplet with its workload.
    pub droplet: Droplet,
    /// The bundle that made the workload, long since run.
    pub first_bundle: String,
    /// Every bundle that was rightly signed on the way; what attackers made of it is something else.
    pub signed_log: RefCell<Vec<String>>,
    held: RefCell<Held>,
    jobs: RefCell<Vec<JobId>>,
    /// What was refused, by which rule; `None` is a trust root.
    refused: RefCell<Vec<(String, Option<JobId>)>>,
    executed: Cell<u32>,
    unexplained: RefCell<Vec<String>>,
}

impl Stage {
    /// A droplet with a small tenant that runs.
    pub async fn new() -> Self {
        let droplet = Droplet::under(5, |delivery, now| {
            let root = first_root(delivery, now);
            let root_document = sign_root(&root, &["root-1", "root-2"].map(key));
            let pin = Digest::of(&serde_json::to_vec(&root).unwrap());
            Operator { key: key("ops-1"), second: key("ops-2"), root: key("root-1"), root_document, pin }
        });
        let first_bundle = droplet.signed(small_tenant(recipient(&droplet).await));
        let job = droplet.outside.hub.push(&first_bundle);
        let result = droplet.while_running(droplet.result(job)).await;
        assert_eq!(result.state, OutcomeState::Succeeded, "{}", result.message);
        let held = RefCell::new(held(&droplet));
        let (jobs, executed, unexplained) = (RefCell::default(), Cell::default(), RefCell::default());
        let (signed_log, refused) = (RefCell::default(), RefCell::default());
        Self { droplet, first_bundle, signed_log, held, jobs, refused, executed, unexplained }
    }

    /// The droplet's time.
    pub fn now(&self) -> Timestamp {
        self.droplet.outside.clock.now()
    }

    /// The hub.
    pub fn hub(&self) -> &SimHub {
        &self.droplet.outside.hub
    }

    /// A bundle by the first operator for this droplet.
    pub fn bundle(&self, commands: Vec<CommandWire>) -> Bundle {
        self.droplet.operator.bundle_at(self.droplet.workspace, commands, self.now())
    }

    /// What a change makes of the bundle that stops the workload, rightly signed by these.
    pub fn signed(&self, keys: &[&str], change: impl FnOnce(&mut Bundle)) -> String {
        let mut bundle = self.bundle(stop());
        bundle.issuer = keys[0].parse().unwrap();
        change(&mut bundle);
        let keys: Vec<_> = keys.iter().map(|kid| key(kid)).collect();
        let text = sign_with(&bundle, &keys.iter().collect::<Vec<_>>());
        self.signed_log.borrow_mut().push(text.clone());
        text
    }

    /// A rightly signed bundle, taken apart.
    pub fn apart(&self) -> (Value, Value) {
        let document: Value = serde_json::from_str(&self.signed(&["ops-1"], |_| {})).unwrap();
        let payload = BASE64URL_NOPAD.decode(document["payload"].as_str().unwrap().as_bytes()).unwrap();
        (document, serde_json::from_slice(&payload).unwrap())
    }

    /// The root in force when the droplet was made.
    pub fn root(&self) -> TrustRoot {
        TrustRoot::reread(self.droplet.operator.root_document.as_bytes()).unwrap()
    }

    /// The root that would follow it.
    pub fn next(&self, change: impl FnOnce(&mut TrustRoot)) -> TrustRoot {
        follow(&self.root(), change)
    }

    /// Notes what somebody has to look at.
    pub fn unexplained(&self, what: impl Into<String>) {
        self.unexplained.borrow_mut().push(what.into());
    }

    /// What was asked rightly is done, and what is there then is what must stay.
    pub async fn lawful(&self, bundle: &str) {
        let job = self.hub().push(bundle);
        match self.answer(job).await {
            Some(Record::Result(result)) if result.state == OutcomeState::Succeeded => {}
            other => self.unexplained(format!("a rightful bundle came to {other:?}")),
        }
        self.held.replace(held(&self.droplet));
    }

    /// What was asked rightly cannot be done, says so, and leaves everything as it was.
    pub async fn fails(&self, what: &str, bundle: &str) {
        let job = self.hub().push(bundle);
        match self.answer(job).await {
            Some(Record::Result(result)) if result.state == OutcomeState::Failed => {}
            other => self.unexplained(format!("{what} came to {other:?}")),
        }
    }

    /// Hands a bundle out with a rightful token; it must be refused by this rule.
    pub async fn refuses(&self, rule: &str, bundle: &str) {
        let job = self.hub().push(bundle);
        self.refuses_job(rule, job).await;
    }

    /// The same with a token that the attacker makes.
    pub async fn refuses_token(&self, rule: &str, bundle: &str, mint: impl Fn(&SimHub, Claims) -> String + 'static) {
        let job = self.hub().push_forged(bundle, Rc::new(mint));
        self.refuses_job(rule, job).await;
    }

    /// Waits for what comes of a job, which must be a refusal by this rule.
    pub async fn refuses_job(&self, rule: &str, job: JobId) {
        self.jobs.borrow_mut().push(job);
        match self.answer(job).await {
            Some(Record::Result(result)) if result.state == OutcomeState::Rejected => {
                if result.code != rule {
                    self.unexplained(format!("{} instead of {rule}: {}", result.code, result.message));
                }
                self.expect_in_audit(rule, Some(job)).await;
            }
            Some(other) => self.unexplained(format!("{other:?} instead of a refusal by {rule}")),
            None => self.unexplained(format!("no answer instead of a refusal by {rule}")),
        }
    }

    /// Gives forged roots and a bundle that only they would let pass; the roots must be refused by this rule.
    pub async fn refuses_roots(&self, rule: &str, roots: ForgedRoots, bundle: &str) {
        self.hub().forge_roots(Some(roots));
        let job = self.hub().push(bundle);
        self.jobs.borrow_mut().push(job);
        tokio::time::sleep(Duration::from_secs(1800)).await;
        self.expect_in_audit(rule, None).await;
        self.hub().forge_roots(None);
        // What the forged root would have let pass is then refused like any stranger's.
        match self.answer(job).await {
            Some(Record::Result(result)) if result.state == OutcomeState::Rejected => {}
            other => self.unexplained(format!("{other:?} of a bundle under a forged root")),
        }
    }

    /// The refusal must reach the hub's copy of the audit chain within a minute, and be in the droplet's in the end.
    async fn expect_in_audit(&self, rule: &str, job: Option<JobId>) {
        self.refused.borrow_mut().push((rule.to_owned(), job));
        let told = || async { self.reaches_the_audit(rule, job).then_some(()) };
        if tokio::time::timeout(Duration::from_secs(60), crate::droplet::wait_for(told)).await.is_err() {
            self.unexplained(format!("the hub's copy of the audit has no refusal by {rule} of {job:?}"));
        }
    }

    /// Whether the hub has heard of a refusal by its rule, in the audit chain and in the result of its job or an event.
    pub fn reaches_the_audit(&self, rule: &str, job: Option<JobId>) -> bool {
        let told = self.hub().records().iter().any(|record| match (&record.record, job) {
            (Record::Result(result), Some(job)) => result.job_id == job && result.code == rule,
            (Record::Event(event), None) => format!("{}: {}", event.code, event.message).contains(rule),
            (Record::Result(_), None)
            | (Record::Event(_), Some(_))
            | (Record::Accepted { .. } | Record::Metrics(_) | Record::Escrow(_) | Record::Audit(_), _) => false,
        });
        told && notes(&self.hub().audit(), rule, job)
    }

    /// After the agent's life: its own chain holds, has every refusal by its rule and no acceptance of what the attacker
    /// gave, and what the hub heard is a part of it.
    pub fn check_own_audit(&self) {
        let (own, heard) = (self.droplet.audit(), self.hub().audit());
        if let Err(broken) = audit::verify(&self.droplet.chain(), Expected::WHOLE, own.clone(), &[]) {
            self.unexplained(format!("the droplet's audit is broken: {broken}"));
        }
        for (rule, job) in self.refused.borrow().iter().filter(|(rule, job)| !notes(&own, rule, *job)) {
            self.unexplained(format!("the droplet's audit has no refusal by {rule} of {job:?}"));
        }
        if let Some(entry) = heard.iter().find(|entry| !own.contains(entry)) {
            self.unexplained(format!("the hub has heard entry {} otherwise than it is", entry.seq));
        }
        let accepted = |job: &JobId| {
            let text = job.to_string();
            own.iter().any(|entry| entry.event == event::COMMAND_ACCEPTED && entry.detail.contains(&text))
        };
        if let Some(job) = self.jobs.borrow().iter().find(|job| accepted(job)) {
            self.unexplained(format!("the droplet's audit has accepted {job}"));
        }
    }

    /// The result of a job, or that it was accepted and has none yet after a while.
    async fn answer(&self, job: JobId) -> Option<Record> {
        let result = || async { self.hub().results(job).into_iter().next() };
        let waited = tokio::time::timeout(PATIENCE, crate::droplet::wait_for(result)).await;
        match waited {
            Ok(result) => Some(Record::Result(result)),
            Err(_) => self.hub().has_accepted(job).then_some(Record::Accepted { job_id: job }),
        }
    }

    /// After the attack: the agent lives, beats, and does what is rightly asked.
    pub async fn aftermath(&self) {
        self.count();
        self.droplet.outside.clock.set_skew_ms(0);
        let before = self.hub().beats();
        let mut honest = self.bundle(vec![CommandWire { action: "HEALTH_CHECK".into(), payload: None }]);
        honest.issuer = "ops-2".parse().unwrap();
        self.lawful(&sign_with(&honest, &[&key("ops-2")])).await;
        tokio::time::sleep(Duration::from_secs(3 * 60)).await;
        if self.hub().beats() < before + 2 {
            self.unexplained("heartbeats have stopped");
        }
        self.count();
    }

    /// Counts what was carried out that nobody had the right to ask.
    fn count(&self) {
        let ran = |job: &JobId| {
            let results = self.hub().results(*job);
            self.hub().has_accepted(*job) || results.iter().any(|r| r.state != OutcomeState::Rejected)
        };
        let accepted = self.jobs.borrow().iter().any(ran);
        if accepted || held(&self.droplet) != *self.held.borrow() {
            self.executed.set(1);
        }
    }

    /// What it came to: carried out, not explained.
    pub fn outcome(&self) -> (u32, Vec<String>) {
        (self.executed.get(), self.unexplained.borrow().clone())
    }
}

/// Whether a chain has a refusal by this rule: of this job, or of a trust root.
fn notes(entries: &[Entry], rule: &str, job: Option<JobId>) -> bool {
    let name = if job.is_some() { event::COMMAND_REFUSED } else { event::TRUST_ROOT_REFUSED };
    entries.iter().filter(|entry| entry.event == name).any(|entry| {
        let detail: Value = serde_json::from_str(&entry.detail).unwrap();
        detail["rule"] == rule && job.is_none_or(|job| detail["job"] == json!(job))
    })
}

/// The root that follows another.
pub fn follow(root: &TrustRoot, change: impl FnOnce(&mut TrustRoot)) -> TrustRoot {
    let mut next = successor(root, Change::default(), root.issued_at).unwrap();
    change(&mut next);
    next
}

/// What makes a destructive bundle complete.
pub fn force(workflows: u64) -> Option<Force> {
    Some(Force { reason: "a test".into(), expect: [("workflows_deleted".to_owned(), workflows)].into() })
}
