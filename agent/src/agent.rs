//! The agent's lanes: `link` asks the hub for commands, `hand` runs those that change something, `eye` those that only
//! look, `mail` delivers reports, `pulse` reports health, `gauge` counts executions, `watch` looks at machine and stack. They are polled in one task, are
//! never spawned, and meet only in the journal.

pub mod audit;
pub mod by_hand;
mod enrol;
mod escrow;
mod gauge;
mod link;
mod quarantine;
pub mod status;
mod survival;
mod trust;
mod watch;

use std::cell::{Cell, RefCell};
use std::time::Duration;

use genesis_shared::audit::droplet_chain;
use genesis_shared::id::Digest;
use genesis_shared::life::Life;
use genesis_shared::limits::CLOCK_SKEW_S;
use genesis_shared::report::{Heartbeat, N8nStatus};
use genesis_shared::secret::Secret;
use genesis_shared::timestamp::Timestamp;
use genesis_shared::trust::{TrustError, TrustRoot};
use genesis_shared::wire::AgentConfig;
use tokio::sync::Notify;

use crate::config::{PACE, Settings};
use crate::core::health::Condition;
use crate::core::timer::{backoff, beat_after, first_beat, patient, reconnect};
use crate::exec::outbox::{Delivered, deliver};
use crate::exec::reconcile::Reconciled;
use crate::exec::{Exec, RETRY_AFTER_MAX};
use crate::identity::{Identity, IdentityError};
use crate::journal::{Journal, JournalError, Lane};
use crate::ports::{Clock, EffectError, Entropy, ErrorKind, Files, Host, HubLink, Workflows, World};
use crate::stack_secrets::StackSecrets;

/// Keys of the journal's single values.
const META_PACE: &str = "pace";

/// Secret file of the sidecar token.
const TOKEN_FILE: &str = "sidecar-token";

/// A full disk is looked at again after some seconds, not at once and not after half a minute.
const DISK_FULL_ATTEMPT: u32 = 5;

/// The code of the hub's 401.
const UNAUTHORISED: &str = "hub_unauthorised";

/// What ends the agent; everything else it survives.
#[derive(Debug, thiserror::Error)]
pub enum Fatal {
    /// The journal failed.
    #[error("the journal failed")]
    Journal(#[from] JournalError),
    /// There are no usable keys.
    #[error("there are no usable keys")]
    Identity(#[from] IdentityError),
    /// The trust root kept in the journal does not verify: another droplet's folder, or another digest in the file.
    #[error("the trust root in the journal is not the one in the configuration")]
    TrustRoot(#[from] TrustError),
}

impl Fatal {
    /// Stable machine-readable name.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Journal(error) => error.code(),
            Self::Identity(_) => "no_keys",
            Self::TrustRoot(_) => "trust_root_differs",
        }
    }
}

/// One droplet's agent.
pub struct Agent<W> {
    world: W,
    settings: Settings,
    journal: Journal,
    identity: Identity,
    stack: StackSecrets,
    root: RefCell<Option<TrustRoot>>,
    /// Why the last trust root that was refused was refused.
    refused_root: RefCell<String>,
    token: RefCell<Option<Secret<String>>>,
    pace: Cell<AgentConfig>,
    /// Managed things that differ and were not put right, by the last round; `None` before the first.
    drifts: Cell<Option<u32>>,
    /// The hub's last word on it.
    quarantined: Cell<bool>,
    /// What the last looks at machine and stack have shown.
    watched: watch::Watched,
    /// The droplet's clock less the hub's.
    clock_offset_ms: Cell<Option<i64>>,
    /// When the hub answered last.
    hub_heard_at: Cell<Option<Timestamp>>,
    /// There may be a command that changes something.
    work: Notify,
    /// There may be a command that only looks.
    looks: Notify,
    /// There may be a report to deliver.
    mail: Notify,
    /// The hub has something: end a pause.
    call: Notify,
    /// A command has ended.
    ended: Notify,
}

impl<W: World> Agent<W> {
    /// An agent over these ports and this journal.
    ///
    /// # Errors
    /// Every [`Fatal`].
    pub fn new(world: W, settings: Settings, mut journal: Journal) -> Result<Self, Fatal> {
        let chain = droplet_chain(settings.workspace_id, &settings.droplet_id);
        journal.own_audit(chain, host_boot(&world.host().boot_epoch()).to_owned());
        let identity = Identity::load_or_create(world.files(), world.entropy())?;
        let stack = StackSecrets::load_or_create(world.files(), world.entropy()).map_err(IdentityError::File)?;
        let root = trust::latest(&trust::kept_chain(&journal)?, settings.trust_root_digest)?;
        let pace = journal.meta(META_PACE)?.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let token = world.files().read_secret(TOKEN_FILE).map_err(IdentityError::File)?;
        let token = token.and_then(|bytes| String::from_utf8(bytes.expose().clone()).ok());
        // What the hub is to hold against this life: what the journal had used when it began.
        let life = Life { boot_epoch: world.host().boot_epoch(), journal_high_water: journal.outbox_state()?.0 };
        world.hub().begin_life(life);
        let quarantined = quarantine::kept(&journal)?;
        Ok(Self {
            world,
            settings,
            journal,
            identity,
            stack,
            root: RefCell::new(root),
            refused_root: RefCell::default(),
            token: RefCell::new(token.map(Secret::new)),
            pace: Cell::new(pace.unwrap_or(PACE)),
            drifts: Cell::new(None),
            quarantined: Cell::new(quarantined),
            watched: watch::Watched::default(),
            clock_offset_ms: Cell::new(None),
            hub_heard_at: Cell::new(None),
            work: Notify::new(),
            looks: Notify::new(),
            mail: Notify::new(),
            call: Notify::new(),
            ended: Notify::new(),
        })
    }

    /// Runs all lanes until one meets something fatal. Dropping the future is a clean stop: every lane may be cut
    /// off at any await, which is what a crash does too.
    ///
    /// # Errors
    /// Every [`Fatal`].
    pub async fn run(&self) -> Result<(), Fatal> {
        tokio::try_join!(self.link(), self.hand(), self.eye(), self.mail(), self.pulse(), self.gauge(), self.watch())
            .map(drop)
    }

    /// Looks whether the agent still works: whoever is answered was answered by the task that all lanes share, and by the
    /// journal.
    ///
    /// # Errors
    /// [`Fatal::Journal`].
    pub fn is_alive(&self) -> Result<(), Fatal> {
        Ok(self.journal.outbox_state().map(drop)?)
    }

    fn exec(&self) -> Exec<'_, W> {
        Exec {
            world: &self.world,
            journal: &self.journal,
            identity: &self.identity,
            workspace_id: self.settings.workspace_id,
            stack: self.settings.stack.as_ref(),
            stack_secrets: &self.stack,
        }
    }

    /// Runs commands that only look, oldest first; they wait for no change that is under way.
    async fn eye(&self) -> Result<(), Fatal> {
        let exec = self.exec();
        loop {
            if let Err(error) = self.has_space() {
                self.pause("run commands", &error, DISK_FULL_ATTEMPT).await;
            } else if exec.run_next(Lane::Look).await? {
                self.mail.notify_one();
                self.ended.notify_waiters();
            } else {
                self.looks.notified().await;
            }
        }
    }

    /// Runs commands that change something, oldest first, and keeps n8n as it should be in between.
    async fn hand(&self) -> Result<(), Fatal> {
        let exec = self.exec();
        let mut reported: Option<Reconciled> = None;
        // A round that could not be finished may have left things that the id map does not know of yet: one more try,
        // before a command meets them.
        let mut is_behind = false;
        loop {
            // A command in the middle waits too: its next event could not be kept.
            if let Err(error) = self.has_space() {
                self.pause("run commands", &error, DISK_FULL_ATTEMPT).await;
                continue;
            }
            if let Err(error) = self.may_change() {
                tracing::warn!(code = error.code, "{error}");
                self.work.notified().await;
                continue;
            }
            if !is_behind && self.change_once(&exec).await? {
                is_behind = matches!(reported, Some(Reconciled::NotNow(_)));
                continue;
            }
            if self.journal.prune()? {
                // A step at a time, so that the others get their turn.
                tokio::task::yield_now().await;
                continue;
            }
            self.converge(&exec).await?;
            let round = exec.reconcile().await?;
            if let Reconciled::NotNow(error) = &round {
                tracing::warn!(code = error.code, "cannot compare n8n with what was deployed: {error}");
            }
            // The same words every quarter of an hour would only hide what is new.
            if reported.as_ref() != Some(&round) {
                exec.report_round(&round)?;
                self.mail.notify_one();
            }
            self.drifts.set(round.left_over().or(self.drifts.get()));
            let was_behind = std::mem::replace(&mut is_behind, matches!(round, Reconciled::NotNow(_)));
            reported = Some(round);
            if was_behind && self.may_change().is_ok() && self.change_once(&exec).await? {
                continue;
            }
            tokio::select! {
                // Fixed orders everywhere: what an agent does follows from what happens to it, and from nothing else.
                biased;
                () = self.work.notified() => {}
                () = self.world.clock().sleep(self.until_next_round()) => {}
            }
        }
    }

    /// Puts the stack right. What cannot be done now is done by a later round.
    async fn converge(&self, exec: &Exec<'_, W>) -> Result<(), Fatal> {
        match exec.converge().await? {
            Ok(done) if done.is_empty() => {}
            Ok(_) => self.mail.notify_one(),
            Err(error) => tracing::warn!(code = error.code, "cannot put the stack right: {error}"),
        }
        Ok(())
    }

    /// Runs the oldest open command that changes something; answers whether there was one.
    async fn change_once(&self, exec: &Exec<'_, W>) -> Result<bool, Fatal> {
        if !exec.run_next(Lane::Change).await? {
            return Ok(false);
        }
        self.mail.notify_one();
        self.ended.notify_waiters();
        self.journal.prune()?;
        Ok(true)
    }

    fn until_next_round(&self) -> Duration {
        self.a_little_later(self.pace.get().reconcile_interval_s)
    }

    /// The hub's pace, up to a tenth later: a fleet that was restarted together does not act all at once.
    fn a_little_later(&self, interval_s: u64) -> Duration {
        let interval_ms = interval_s.clamp(1, 24 * 3600) * 1000;
        Duration::from_millis(interval_ms + self.world.entropy().number() % (interval_ms / 10 + 1))
    }

    /// Delivers reports.
    async fn mail(&self) -> Result<(), Fatal> {
        let mut attempt = 0;
        loop {
            let Some(token) = self.current_token() else {
                self.mail.notified().await;
                continue;
            };
            // Forgetting what was delivered is a write, too.
            if let Err(error) = self.has_space() {
                self.pause("deliver reports", &error, DISK_FULL_ATTEMPT).await;
                continue;
            }
            match deliver(&self.journal, self.world.hub(), &token).await? {
                Delivered::Empty => {
                    attempt = 0;
                    self.mail.notified().await;
                }
                Delivered::Some => attempt = 0,
                Delivered::NotNow(error) => {
                    attempt += 1;
                    self.note_refusal(&error)?;
                    self.forget_refused_token(&token, &error);
                    self.pause_for_hub("deliver reports", &error, attempt).await;
                }
            }
        }
    }

    /// Reports health at the hub's pace.
    async fn pulse(&self) -> Result<(), Fatal> {
        let random = || self.world.entropy().number();
        if self.current_token().is_some() {
            // Started again, perhaps with the whole fleet; one that enrols is waited for.
            let usual = Duration::from_secs(self.pace.get().heartbeat_interval_s.clamp(1, 3600));
            self.world.clock().sleep(first_beat(usual, random())).await;
        }
        loop {
            let Some(token) = self.current_token() else {
                self.world.clock().sleep(Duration::from_secs(1)).await;
                continue;
            };
            let beat = self.heartbeat().await?;
            let pause = match self.world.hub().heartbeat(&token, &beat).await {
                Ok(answer) => {
                    self.note_quarantine(answer.quarantined)?;
                    if let Some(renewed) = answer.rotated {
                        self.keep_token(&Secret::new(renewed.sidecar_token))?;
                    }
                    if answer.work_waiting {
                        // Ends a pause, never a poll under way.
                        self.call.notify_waiters();
                    }
                    self.note_clock_offset(answer.hub_time);
                    self.forget_first_boot()?;
                    if let Some(checkpoint) = answer.audit_checkpoint {
                        self.hold_against_hub(checkpoint)?;
                    }
                    Duration::from_secs(answer.next_interval_s.clamp(1, 3600))
                }
                Err(error) => {
                    self.forget_refused_token(&token, &error);
                    // Never faster than the usual pace: a hub in trouble is not helped by more beats.
                    Duration::from_secs(self.pace.get().heartbeat_interval_s.clamp(1, 3600))
                }
            };
            self.world.clock().sleep(beat_after(pause, random())).await;
        }
    }

    async fn heartbeat(&self) -> Result<Heartbeat, Fatal> {
        let sample = self.last_sample();
        let seen = self.watched.n8n();
        let around = self.around_n8n().await;
        let n8n = self.world.workflows();
        let n8n_status = n8n.status().await;
        let n8n_version = if n8n_status == N8nStatus::Running { n8n.version().await.ok() } else { None };
        let active_workflows = match n8n_status {
            N8nStatus::Running => n8n.workflows().await.ok().map(|all| {
                let managed = all.iter().filter(|w| w.active && w.key.is_some()).count();
                u32::try_from(managed).unwrap_or(u32::MAX)
            }),
            N8nStatus::Starting | N8nStatus::Down | N8nStatus::Locked => None,
        };
        let (journal_high_water, outbox_depth) = self.journal.outbox_state()?;
        Ok(Heartbeat {
            workspace_id: self.settings.workspace_id,
            droplet_id: self.settings.droplet_id.clone(),
            timestamp: self.world.clock().now(),
            state: self.state_name(n8n_status).to_owned(),
            n8n_status,
            n8n_version,
            active_workflows,
            cpu_usage_percent: sample.cpu_usage_percent,
            memory_usage_mb: sample.memory_usage_mb,
            memory_total_mb: sample.memory_total_mb,
            disk_usage_percent: sample.disk_usage_percent,
            swap_used_mb: sample.swap_used_mb,
            uptime_seconds: sample.uptime_seconds,
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            boot_epoch: self.world.host().boot_epoch(),
            journal_high_water,
            outbox_depth,
            desired_generation: self.journal.generation()?,
            drift_count: self.drifts.get(),
            n8n_pid: seen.pid,
            oom_kills: self.settings.stack.as_ref().map(|_| seen.oom_kills),
            pending_executions: around.pending_executions,
            last_execution_at: around.last_execution_at,
            certificate_expires_at: around.certificate_expires_at,
            clock_offset_ms: self.clock_offset_ms.get(),
            audit_checkpoint: self.checkpoint()?,
        })
    }

    /// The one name for people and the dashboard (protocol.md, "Health").
    fn state_name(&self, n8n_status: N8nStatus) -> &'static str {
        match n8n_status {
            _ if self.may_change().is_err() => Condition::Quarantined,
            N8nStatus::Running if self.drifts.get().is_some_and(|count| count > 0) => Condition::Drifted,
            // Without a trust root (its journal was lost) it can take no command at all.
            N8nStatus::Running if self.root.borrow().is_none() => Condition::Degraded,
            N8nStatus::Running => self.watched.condition(),
            // Whatever the host has to spare, the tenant's workflows do not run.
            N8nStatus::Starting | N8nStatus::Down | N8nStatus::Locked => Condition::Degraded,
        }
        .state_name()
    }

    /// Bundles and tokens have times; a droplet whose clock is far off refuses them, and somebody should know why.
    fn note_clock_offset(&self, hub_time: Timestamp) {
        let offset_ms = self.world.clock().now().millis_since(hub_time);
        self.clock_offset_ms.set(Some(offset_ms));
        self.hub_heard_at.set(Some(self.world.clock().now()));
        if offset_ms.abs() > CLOCK_SKEW_S * 1000 {
            tracing::warn!(
                offset_ms,
                "this droplet's clock is off; commands are refused until it is right (check NTP)"
            );
        }
    }

    fn current_token(&self) -> Option<Secret<String>> {
        self.token.borrow().clone()
    }

    /// Keeps a token on disk, then uses it.
    fn keep_token(&self, token: &Secret<String>) -> Result<(), Fatal> {
        let bytes = Secret::new(token.expose().clone().into_bytes());
        self.world.files().write_secret(TOKEN_FILE, &bytes).map_err(IdentityError::File)?;
        self.token.replace(Some(token.clone()));
        self.mail.notify_one();
        Ok(())
    }

    /// Stops using a token that the hub refused, unless another lane has replaced it meanwhile.
    fn forget_refused_token(&self, used: &Secret<String>, error: &EffectError) {
        let refused = error.code == UNAUTHORISED;
        let current = self.token.borrow().as_ref().is_some_and(|token| token.expose() == used.expose());
        if refused && current {
            self.token.replace(None);
            self.call.notify_waiters();
        }
    }

    /// Waits before trying again, with jitter.
    async fn pause(&self, what: &'static str, error: &EffectError, attempt: u32) {
        self.pause_for(what, error, attempt, backoff(attempt, self.world.entropy().number())).await;
    }

    /// Waits before turning to the hub again. A fleet that lost its hub comes back spread out, see [`reconnect`].
    async fn pause_for_hub(&self, what: &'static str, error: &EffectError, attempt: u32) {
        let usual = Duration::from_secs(self.pace.get().heartbeat_interval_s);
        let jittered = reconnect(usual, attempt, self.world.entropy().number());
        let pause = match (error.kind, error.retry_after) {
            // What it tells one it tells all, so the jitter comes on top.
            (_, Some(asked)) => asked.min(RETRY_AFTER_MAX) + jittered,
            // Trying does not help until somebody has done something: be patient.
            (ErrorKind::Permanent, None) if attempt > 3 => patient(self.world.entropy().number()),
            (ErrorKind::Permanent | ErrorKind::Transient | ErrorKind::Ambiguous, None) => jittered,
        };
        self.pause_for(what, error, attempt, pause).await;
    }

    /// A call by the hub cuts it short.
    async fn pause_for(&self, what: &'static str, error: &EffectError, attempt: u32, pause: Duration) {
        tracing::warn!(what, attempt, code = error.code, pause_ms = pause.as_millis(), "{error}");
        tokio::select! {
            biased;
            () = self.world.clock().sleep(pause) => {}
            () = self.call.notified() => {}
        }
    }

    /// The digest that this droplet was installed with.
    fn pinned_root(&self) -> Digest {
        self.settings.trust_root_digest
    }
}

/// The part of a boot epoch that is the host's: a new life of the agent alone is no reboot.
fn host_boot(boot_epoch: &str) -> &str {
    boot_epoch.split_once('.').map_or(boot_epoch, |(host, _)| host)
}
