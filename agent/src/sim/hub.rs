//! A hub in memory: it hands out what it is given with honest delivery tokens, and keeps what it is told.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use genesis_shared::audit::{Checkpoint, Entry};
use genesis_shared::bundle::Bundle;
use genesis_shared::delivery::{AUDIENCE, Claims, ISSUER};
use genesis_shared::id::{Digest, DropletId, JobId, LeaseId, PublicKey, WorkspaceId};
use genesis_shared::life::{Life, QUARANTINED};
use genesis_shared::limits::DELIVERY_TOKEN_TTL_S;
use genesis_shared::report::{CommandResult, Heartbeat, OutboxRecord, Record};
use genesis_shared::secret::Secret;
use genesis_shared::timestamp::Timestamp;
use genesis_shared::wire::{
    AgentConfig, CommandsAnswer, HandshakeAnswer, HandshakeRequest, HeartbeatAnswer, LeasedCommand, RenewAnswer,
    ResultsAnswer, TrustRootChain,
};
use ring::signature::{Ed25519KeyPair, KeyPair};
use tokio::sync::Notify;

use super::crash::Crash;
use super::forge::{ForgedRoots, Mint};
use super::parts::{SimClock, SimEntropy};
use crate::ports::{Clock, EffectError, Entropy, ErrorKind, HubLink, RENEWALS_USED_UP};

/// The delivery key's name.
pub const DELIVERY_KID: &str = "hub-1";

/// A queued bundle.
pub(super) struct Job {
    pub(super) id: JobId,
    bundle: String,
    confirmed: bool,
    pub(super) mint: Option<Mint>,
}

/// One droplet's hub.
pub struct SimHub {
    pub(super) seed: Secret<[u8; 32]>,
    entropy: SimEntropy,
    clock: SimClock,
    crash: Crash,
    pub(super) jobs: RefCell<Vec<Job>>,
    records: RefCell<Vec<OutboxRecord>>,
    /// Records of journals that the droplet has lost since.
    older: RefCell<Vec<OutboxRecord>>,
    roots: RefCell<Vec<String>>,
    /// Of the latest trust root.
    version: Cell<u64>,
    enrolled: RefCell<Option<HandshakeRequest>>,
    beats: Cell<u64>,
    last_beat: RefCell<Option<Heartbeat>>,
    away: Cell<bool>,
    forgotten: Cell<bool>,
    used_up: Cell<bool>,
    leaves: Cell<bool>,
    /// The sidecar token has ended; a renewal brings a new one.
    ended: Cell<bool>,
    renewals: Cell<u64>,
    quarantined: Cell<bool>,
    /// It says that the droplet is quarantined, and hands out and takes reports all the same.
    betrays: Cell<bool>,
    deaf: Cell<bool>,
    checkpoint: RefCell<Option<Checkpoint>>,
    pub(super) forged_roots: RefCell<Option<ForgedRoots>>,
    pub(super) flood: Cell<usize>,
    pub(super) pushed: Notify,
}

impl SimHub {
    pub(super) fn new(entropy: SimEntropy, clock: SimClock, crash: Crash) -> Self {
        let mut seed = [0; 32];
        entropy.fill(&mut seed);
        Self {
            seed: Secret::new(seed),
            entropy,
            clock,
            crash,
            jobs: RefCell::default(),
            records: RefCell::default(),
            older: RefCell::default(),
            roots: RefCell::default(),
            version: Cell::default(),
            enrolled: RefCell::default(),
            beats: Cell::default(),
            last_beat: RefCell::default(),
            used_up: Cell::default(),
            leaves: Cell::default(),
            ended: Cell::default(),
            renewals: Cell::default(),
            quarantined: Cell::default(),
            betrays: Cell::default(),
            forged_roots: RefCell::default(),
            flood: Cell::default(),
            deaf: Cell::default(),
            away: Cell::default(),
            forgotten: Cell::default(),
            checkpoint: RefCell::default(),
            pushed: Notify::new(),
        }
    }

    /// The public half of the delivery key, for a trust root.
    pub fn delivery_key(&self) -> PublicKey {
        let pair = Ed25519KeyPair::from_seed_unchecked(self.seed.expose()).expect("any 32 bytes are a seed");
        PublicKey::from_bytes(pair.public_key().as_ref().try_into().expect("an Ed25519 public key has 32 bytes"))
    }

    /// Stores a signed trust root of this version, the first or one that follows.
    pub fn put_root(&self, version: u64, document: &str) {
        self.roots.borrow_mut().push(document.to_owned());
        self.version.set(version);
    }

    /// Takes the hub away, or brings it back.
    pub fn set_away(&self, away: bool) {
        self.away.set(away);
        self.pushed.notify_one();
    }

    /// Loses everything that it knew of the droplet: until a new handshake its tokens and its identity are strangers'.
    pub fn forget(&self) {
        self.forgotten.set(true);
        self.enrolled.replace(None);
        self.pushed.notify_one();
    }

    /// Queues a bundle.
    pub fn push(&self, bundle: &str) -> JobId {
        let mut bytes = [0; 16];
        self.entropy.fill(&mut bytes);
        let id = JobId::from_random(bytes);
        self.jobs.borrow_mut().push(Job { id, bundle: bundle.to_owned(), confirmed: false, mint: None });
        self.pushed.notify_one();
        id
    }

    /// Hands a bundle out again that was confirmed, as a hub does that was restored from an older copy.
    pub fn redeliver(&self, id: JobId) {
        self.jobs.borrow_mut().iter_mut().filter(|job| job.id == id).for_each(|job| job.confirmed = false);
        self.pushed.notify_one();
    }

    /// What the droplet enrolled with.
    pub fn enrolled(&self) -> Option<HandshakeRequest> {
        self.enrolled.borrow().clone()
    }

    /// Heartbeats heard.
    pub fn beats(&self) -> u64 {
        self.beats.get()
    }

    /// Goes away as soon as it has handed something out.
    pub fn leave_after_lease(&self) {
        self.leaves.set(true);
    }

    /// The latest heartbeat.
    pub fn last_beat(&self) -> Option<Heartbeat> {
        self.last_beat.borrow().clone()
    }

    /// Ends the sidecar tokens, and refuses renewals until a new handshake.
    pub fn use_up_renewals(&self) {
        self.used_up.set(true);
        self.pushed.notify_one();
    }

    /// Ends the sidecar token, as a month without a heartbeat does.
    pub fn end_token(&self) {
        self.ended.set(true);
        self.pushed.notify_one();
    }

    /// Renewals so far.
    pub fn renewals(&self) -> u64 {
        self.renewals.get()
    }

    /// Quarantines the droplet, or resumes it.
    pub fn set_quarantined(&self, quarantined: bool) {
        self.quarantined.set(quarantined);
        self.pushed.notify_one();
    }

    /// Whether it serves a quarantined droplet like any other, as a hub in wrong hands may.
    pub fn betray_quarantine(&self, betrays: bool) {
        self.betrays.set(betrays);
        self.pushed.notify_one();
    }

    fn withholds(&self) -> bool {
        self.quarantined.get() && !self.betrays.get()
    }

    /// Hands out as before and takes no reports, or takes them again.
    pub fn set_deaf(&self, deaf: bool) {
        self.deaf.set(deaf);
    }

    /// What the next heartbeats are told of the hub's audit chain.
    pub fn set_checkpoint(&self, checkpoint: Checkpoint) {
        self.checkpoint.replace(Some(checkpoint));
    }

    fn sign(&self, checkpoint: &Checkpoint) -> String {
        let pair = Ed25519KeyPair::from_seed_unchecked(self.seed.expose()).expect("any 32 bytes are a seed");
        let kid = DELIVERY_KID.parse().expect("a key id");
        let sign = |bytes: &[u8]| Ok::<_, ()>(BASE64URL_NOPAD.encode(pair.sign(bytes).as_ref()));
        checkpoint.sign(&kid, sign).expect("it cannot fail")
    }

    /// The droplet's audit chain, as far as it was heard, in order.
    pub fn audit(&self) -> Vec<Entry> {
        let entries = self.records().into_iter().filter_map(|record| match record.record {
            Record::Audit(entry) => Some(entry),
            Record::Accepted { .. } | Record::Event(_) | Record::Metrics(_) | Record::Escrow(_) | Record::Result(_) => {
                None
            }
        });
        entries.collect()
    }

    /// Every record heard, each once, in order.
    pub fn records(&self) -> Vec<OutboxRecord> {
        [self.older.borrow().clone(), self.records.borrow().clone()].concat()
    }

    /// Every result heard for a job. There must never be two that differ.
    pub fn results(&self, job: JobId) -> Vec<CommandResult> {
        let records = self.records();
        let results = records.iter().filter_map(|record| match &record.record {
            Record::Result(result) => Some(result),
            Record::Accepted { .. } | Record::Event(_) | Record::Metrics(_) | Record::Escrow(_) | Record::Audit(_) => {
                None
            }
        });
        results.filter(|result| result.job_id == job).cloned().collect()
    }

    /// A request on its way: others get their turn, and this life may end before it arrives.
    async fn heard(&self) -> Result<(), EffectError> {
        tokio::task::yield_now().await;
        self.crash.point().await;
        self.reachable()
    }

    fn reachable(&self) -> Result<(), EffectError> {
        if self.away.get() {
            return Err(EffectError::new(ErrorKind::Transient, "hub_unreachable", "the hub is away"));
        }
        if self.forgotten.get() {
            return Err(EffectError::new(
                ErrorKind::Permanent,
                "hub_unauthorised",
                "the hub does not know this droplet",
            ));
        }
        if self.used_up.get() || self.ended.get() {
            return Err(EffectError::new(ErrorKind::Permanent, "hub_unauthorised", "the token has ended"));
        }
        Ok(())
    }

    fn lease(&self, nonce: &str) -> Vec<LeasedCommand> {
        let Some(enrolled) = self.enrolled.borrow().clone().filter(|_| !self.withholds()) else { return vec![] };
        let jobs = self.jobs.borrow();
        let open = jobs.iter().filter(|job| !job.confirmed);
        open.map(|job| LeasedCommand {
            lease_id: LeaseId::from_random([7; 16]),
            job_id: job.id,
            bundle: job.bundle.clone(),
            delivery_token: self.token(job, enrolled.workspace_id, &enrolled.droplet_id, nonce),
        })
        .collect()
    }

    fn token(&self, job: &Job, workspace: WorkspaceId, droplet: &DropletId, nonce: &str) -> String {
        let action = Bundle::reread(job.bundle.as_bytes()).map(|b| b.action_label()).unwrap_or_default();
        let iat = self.clock.now().seconds();
        let claims = Claims {
            iss: ISSUER.into(),
            sub: workspace,
            aud: AUDIENCE.into(),
            iat,
            exp: iat + DELIVERY_TOKEN_TTL_S,
            jti: HEXLOWER.encode(&self.entropy.number().to_le_bytes()),
            action,
            droplet_id: droplet.clone(),
            bundle: Digest::of(job.bundle.as_bytes()),
            nonce: nonce.to_owned(),
        };
        match &job.mint {
            Some(mint) => mint(self, claims),
            None => self.sign_claims(&claims),
        }
    }

    fn renewed(&self) -> RenewAnswer {
        RenewAnswer { sidecar_token: "token".into(), token_expires_at: Timestamp::from_millis(i64::MAX) }
    }
}

impl HubLink for SimHub {
    fn begin_life(&self, _life: Life) {}

    async fn handshake(&self, request: &HandshakeRequest) -> Result<HandshakeAnswer, EffectError> {
        self.forgotten.set(false);
        self.used_up.set(false);
        self.heard().await?;
        self.enrolled.replace(Some(request.clone()));
        let lost: Vec<_> =
            self.records.borrow_mut().extract_if(.., |record| record.seq >= request.outbox_next).collect();
        self.older.borrow_mut().extend(lost);
        self.crash.point().await;
        let config = AgentConfig {
            heartbeat_interval_s: 60,
            poll_wait_s: 25,
            metrics_interval_s: 900,
            reconcile_interval_s: 900,
        };
        let RenewAnswer { sidecar_token, token_expires_at } = self.renewed();
        let forged = self.forged_roots.borrow().clone().map(|forged| forged.documents);
        let trust_root = forged.unwrap_or_else(|| self.roots.borrow().clone());
        Ok(HandshakeAnswer { sidecar_token, token_expires_at, config, trust_root })
    }

    async fn renew(&self, _droplet: &DropletId, _assertion: String) -> Result<RenewAnswer, EffectError> {
        match self.heard().await {
            Err(_) if self.used_up.get() => {
                Err(EffectError::new(ErrorKind::Permanent, RENEWALS_USED_UP, "renewed too often"))
            }
            Err(_) if !self.away.get() && !self.forgotten.get() && self.ended.take() => {
                self.renewals.set(self.renewals.get() + 1);
                Ok(self.renewed())
            }
            heard => heard.map(|()| self.renewed()),
        }
    }

    async fn reach(&self) -> Result<(), EffectError> {
        self.crash.point().await;
        if self.away.get() {
            Err(EffectError::new(ErrorKind::Transient, "hub_unreachable", "scripted fault"))
        } else {
            Ok(())
        }
    }

    async fn heartbeat(&self, _token: &Secret<String>, beat: &Heartbeat) -> Result<HeartbeatAnswer, EffectError> {
        self.heard().await?;
        self.beats.set(self.beats.get() + 1);
        self.last_beat.replace(Some(beat.clone()));
        let hub_time = self.clock.now();
        let audit_checkpoint = self.checkpoint.borrow().as_ref().map(|checkpoint| self.sign(checkpoint));
        Ok(HeartbeatAnswer {
            work_waiting: false,
            next_interval_s: 60,
            hub_time,
            rotated: None,
            quarantined: self.quarantined.get(),
            audit_checkpoint,
        })
    }

    async fn poll(&self, _token: &Secret<String>, wait: Duration, nonce: &str) -> Result<CommandsAnswer, EffectError> {
        self.heard().await?;
        if self.lease(nonce).is_empty() && self.flood.get() == 0 {
            // Nothing came in time, or something did: either way the answer is what there is now.
            drop(tokio::time::timeout(wait, self.pushed.notified()).await);
            self.reachable()?;
        }
        let mut commands = self.lease(nonce);
        commands.extend(self.rubbish());
        if !commands.is_empty() && self.leaves.take() {
            self.away.set(true);
        }
        let forged = self.forged_roots.borrow().as_ref().map(|forged| forged.version);
        let trust_root_version = forged.unwrap_or(self.version.get());
        Ok(CommandsAnswer { commands, trust_root_version, quarantined: self.quarantined.get() })
    }

    async fn trust_roots(&self, _token: &Secret<String>, after: u64) -> Result<TrustRootChain, EffectError> {
        self.heard().await?;
        if let Some(forged) = self.forged_roots.borrow().as_ref() {
            return Ok(TrustRootChain { trust_root: forged.documents.clone() });
        }
        let roots = self.roots.borrow();
        let newer = roots.iter().filter(|text| {
            genesis_shared::trust::TrustRoot::reread(text.as_bytes()).is_ok_and(|root| root.version > after)
        });
        Ok(TrustRootChain { trust_root: newer.cloned().collect() })
    }

    async fn results(&self, _token: &Secret<String>, records: &[OutboxRecord]) -> Result<ResultsAnswer, EffectError> {
        self.heard().await?;
        if self.withholds() {
            return Err(EffectError::new(ErrorKind::Permanent, QUARANTINED, "quarantined"));
        }
        if self.deaf.get() || self.flood.get() > 0 {
            return Err(EffectError::new(ErrorKind::Permanent, "hub_refused", "the hub takes no reports"));
        }
        for record in records {
            if self.records.borrow().iter().any(|known| known.seq == record.seq) {
                continue;
            }
            let (Record::Accepted { job_id } | Record::Result(CommandResult { job_id, .. })) = &record.record else {
                self.records.borrow_mut().push(record.clone());
                continue;
            };
            for job in self.jobs.borrow_mut().iter_mut().filter(|job| job.id == *job_id) {
                job.confirmed = true;
            }
            self.records.borrow_mut().push(record.clone());
        }
        self.crash.point().await;
        Ok(ResultsAnswer { stored_up_to: self.records.borrow().last().map_or(0, |record| record.seq) })
    }
}
