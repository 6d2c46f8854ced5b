//! Stack steps -> port calls. Each looks first or may be repeated as it is, so that a crash anywhere ends in one of two
//! states: the new container serves, or the old one with the data of before.

use std::time::Duration;

use genesis_shared::limits::{
    DRAIN_WAIT_S, ENGINE_WAIT_S, IMAGE_ROOM_MB, PREVIOUS_KEPT_MS, QUIET_WAIT_S, READY_WAIT_S, SNAPSHOT_RESERVE_MB,
};
use genesis_shared::report::{Event as ReportedEvent, N8nStatus};
use genesis_shared::stack::{ImageRef, Service, StackCommand};
use serde_json::{Map, Value, json};

use super::perform::permanent;
use super::{Exec, Running};
use crate::core::plan::{Known, Plan};
use crate::core::routes;
use crate::core::saga::{End, Event, StepState};
use crate::core::stack::{Previous, StackRow, StackSettings, sizes, spec};
use crate::core::step::{Step, StepOutput};
use crate::core::swap::StackStep;
use crate::core::workflow;
use crate::ports::stack::{ContainerPhase, Containers, Database, Proxy};
use crate::ports::{Clock, EffectError, ErrorKind, Host, Workflows, World};
use genesis_shared::command::{CollectMetrics, Command};

/// Between two looks at something that is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Between two looks at whether it is quiet: each is a query of the database.
const QUIET_EVERY: Duration = Duration::from_secs(1);
/// Between two looks at whether what was held back is done: requests wait meanwhile.
const DRAIN_EVERY: Duration = Duration::from_millis(100);
/// Seconds of a minute at which a swap may begin: schedules fire on the minute, and n8n does not make up for one that
/// fell into its restart. What begins here is over before the next.
const BETWEEN_SCHEDULES: std::ops::RangeInclusive<i64> = 2..=35;
/// Restarts by the engine after which a service that does not get ready is given up before its time.
const RESTARTS_GIVE_UP: u64 = 3;
/// What the machine itself, the engine and the agent need beside the containers.
const MACHINE_MB: u64 = 150;

impl<W: World> Exec<'_, W> {
    pub(super) async fn perform_stack(
        &self,
        running: &Running,
        command: usize,
        step: &StackStep,
        known: &Known,
    ) -> Result<StepOutput, EffectError> {
        let settings = self.stack_settings()?;
        if let StackStep::PutDomains { stack, hosts, check } = step {
            // A matter of the proxy alone.
            return self.put_domains(stack, hosts, check, known).await;
        }
        self.await_engine().await?;
        let answer = match step {
            StackStep::PullImage { service, image } => self.pull(*service, image).await?,
            StackStep::CheckSwap { service, image } => {
                self.check_swap(*service, image, settings, known).await?;
                Value::Null
            }
            StackStep::AwaitQuiet => self.await_quiet().await?,
            StackStep::Hold => self.world.proxy().hold().await.map(|()| Value::Null)?,
            StackStep::Drain => self.drain().await?,
            StackStep::Stop { service } => self.stop(*service).await?,
            StackStep::Snapshot => self.world.database().snapshot().await.map(|()| Value::Null)?,
            StackStep::Replace { service, image, .. } => self.replace(*service, image, settings, known).await?,
            StackStep::Start { service } => self.start(*service).await?,
            StackStep::AwaitReady { service } => self.await_ready(*service).await?,
            StackStep::Probe => self.probe(known).await?,
            StackStep::RestoreDump { backup } => {
                self.world.database().restore_dump(&format!("{backup}.dump")).await?;
                json!({"backup": backup})
            }
            StackStep::Release => {
                self.world.proxy().release()?;
                let stack = swapped(&running.commands[command], settings, &known.stack, self.now());
                return Ok(StepOutput { stack, ..StepOutput::answer(json!({"success": true})) });
            }
            StackStep::Note { stack } => {
                let stack = StackRow { quiesced_boot: self.boot(), ..stack.clone() };
                self.world.proxy().load(&routes::config(settings, &stack)).await?;
                return Ok(StepOutput { stack: Some(stack), ..StepOutput::answer(json!({"success": true})) });
            }
            StackStep::PutDomains { stack, hosts, check } => {
                return self.put_domains(stack, hosts, check, known).await;
            }
            StackStep::Dump => self.dump(running).await?,
            StackStep::ReadLogs { .. } => self.read_logs(&running.commands[command], known).await?,
            StackStep::LastMetrics => self.collect_metrics(&CollectMetrics { since: None }).await?.answer,
        };
        Ok(StepOutput::answer(answer))
    }

    pub(super) async fn undo_stack(&self, step: &StackStep, base: &Known) -> Result<(), EffectError> {
        let settings = self.stack_settings()?;
        if let StackStep::PutDomains { .. } = step {
            return self.undo_domains(base).await;
        }
        self.await_engine().await?;
        let (containers, database) = (self.world.containers(), self.world.database());
        match step {
            StackStep::Hold => self.world.proxy().release(),
            // One that rested before goes on resting.
            StackStep::Stop { service: Service::N8n } if base.stack.is_at_rest(&self.boot()) => Ok(()),
            StackStep::Stop { service } => self.bring_up(*service, settings, base).await,
            StackStep::Start { service } => containers.stop(*service).await.map(drop),
            // What follows it has been taken back: nobody needs the copy, and a later swap must not find it.
            StackStep::Snapshot => database.drop_snapshot().await,
            // The copy can only be of this very swap: the step before this one made it.
            StackStep::RestoreDump { .. } => database.restore_snapshot().await.map(drop),
            StackStep::Replace { service: Service::N8n, .. } => {
                containers.remove(Service::N8n).await?;
                database.restore_snapshot().await.map(drop)
            }
            StackStep::Replace { service, former, .. } => {
                let wanted = spec(*service, former, settings, &base.stack, self.machine_mb());
                containers.create(&wanted).await?;
                containers.start(*service).await?;
                self.await_ready_again(*service).await?;
                if *service == Service::Postgres { database.restore_snapshot().await.map(drop) } else { Ok(()) }
            }
            StackStep::PullImage { .. }
            | StackStep::CheckSwap { .. }
            | StackStep::AwaitQuiet
            | StackStep::Drain
            | StackStep::AwaitReady { .. }
            | StackStep::Probe
            | StackStep::Release
            | StackStep::Note { .. }
            | StackStep::PutDomains { .. }
            | StackStep::Dump
            | StackStep::ReadLogs { .. }
            | StackStep::LastMetrics => Ok(()),
        }
    }

    /// Lets requests go after a command that could be neither kept nor taken back: the proxy then answers them as n8n is.
    pub(super) fn let_go(&self, plan: &Plan) {
        let holds = plan.steps.iter().any(|step| matches!(step, Step::Stack { step: StackStep::Hold, .. }));
        if holds && let Err(error) = self.world.proxy().release() {
            tracing::error!(code = error.code, "cannot let waiting requests go: {error}; the next round tries again");
        }
    }

    pub(super) fn stack_settings(&self) -> Result<&StackSettings, EffectError> {
        self.stack
            .ok_or_else(|| permanent("no_stack", "this agent looks after no stack; its configuration has no [stack]"))
    }

    pub(super) fn machine_mb(&self) -> u64 {
        self.world.host().sample().memory_total_mb
    }

    /// After a reboot or an update of the engine it takes a while; a swap under way must not be given up for that.
    async fn await_engine(&self) -> Result<(), EffectError> {
        let deadline = self.deadline(ENGINE_WAIT_S);
        loop {
            match self.world.containers().engine().await {
                Ok(_) => return Ok(()),
                Err(error) if error.kind == ErrorKind::Permanent || self.is_past(deadline) => return Err(error),
                Err(_) => self.world.clock().sleep(QUIET_EVERY).await,
            }
        }
    }

    pub(super) async fn pull(&self, service: Service, image: &ImageRef) -> Result<Value, EffectError> {
        let containers = self.world.containers();
        let was_here = containers.image(image).await?;
        let pulled = was_here.is_none();
        let info = match was_here {
            Some(info) => info,
            None => {
                let free = containers.engine().await?.free_mb.or_else(|| self.world.host().free_mb());
                if let Some(free) = free.filter(|free| *free < IMAGE_ROOM_MB) {
                    let message = format!(
                        "{free} MiB are free where images are kept, {IMAGE_ROOM_MB} are needed to pull {image}; free some space"
                    );
                    return Err(permanent("disk_full", &message));
                }
                containers.pull(image).await?
            }
        };
        Ok(json!({
            "service": service, "image": image, "image_id": info.id, "image_size_mb": info.size_mb, "pulled": pulled,
        }))
    }

    /// Everything that can be known before a request has to wait.
    async fn check_swap(
        &self,
        service: Service,
        image: &ImageRef,
        settings: &StackSettings,
        known: &Known,
    ) -> Result<(), EffectError> {
        let containers = self.world.containers();
        let missing = |image: &ImageRef| permanent("image_missing", &format!("image {image} is not on this droplet"));
        let new = containers.image(image).await?.ok_or_else(|| missing(image))?;
        if service == Service::Postgres {
            let former = known.stack.image(service, settings).ok_or_else(|| missing(image))?;
            let old = containers.image(former).await?.ok_or_else(|| missing(former))?;
            let major = |env: &std::collections::BTreeMap<String, String>| env.get("PG_MAJOR").cloned();
            let (from, to) = (major(&old.env), major(&new.env));
            if from.is_none() || from != to {
                let message = format!(
                    "the database is of major version {}, the image of {}; only minor versions can be swapped: a new \
                     major version needs a dump and a restore",
                    from.as_deref().unwrap_or("unknown"),
                    to.as_deref().unwrap_or("unknown"),
                );
                return Err(permanent("major_version", &message));
            }
        }
        let machine_mb = settings.memory_mb.unwrap_or_else(|| self.machine_mb());
        let rows = sizes(machine_mb);
        let needed = rows.n8n_mb + rows.postgres_mb + rows.caddy_mb + MACHINE_MB;
        let there = machine_mb + self.world.host().preflight().swap_total_mb;
        if there < needed {
            let message = format!("memory and swap come to {there} MiB, the stack needs {needed}; add swap");
            return Err(permanent("not_enough_memory", &message));
        }
        if service == Service::Caddy {
            return Ok(());
        }
        let copy = self.world.database().size_mb().await? + SNAPSHOT_RESERVE_MB;
        match self.world.host().free_mb() {
            Some(free) if free < copy => {
                let message = format!("{free} MiB are free, the copy of the database needs {copy}; free some space");
                Err(permanent("disk_full", &message))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// A moment without running executions costs nobody anything, so it is looked for while requests still pass.
    async fn await_quiet(&self) -> Result<Value, EffectError> {
        let began = self.world.clock().monotonic();
        let deadline = self.deadline(QUIET_WAIT_S);
        let quiet = loop {
            let running = self.world.database().running_executions().await?;
            let second = self.now().seconds().rem_euclid(60);
            if running == 0 && BETWEEN_SCHEDULES.contains(&second) {
                break true;
            }
            if self.is_past(deadline) {
                break false;
            }
            self.world.clock().sleep(QUIET_EVERY).await;
        };
        let waited = self.world.clock().monotonic().saturating_sub(began);
        Ok(json!({"was_quiet": quiet, "quiet_wait_ms": millis(waited)}))
    }

    /// What had begun may end. What does not end in time is n8n's own to finish or to give up when it is stopped.
    async fn drain(&self) -> Result<Value, EffectError> {
        let deadline = self.deadline(DRAIN_WAIT_S);
        loop {
            let running = self.world.database().running_executions().await?;
            if running == 0 || self.is_past(deadline) {
                return Ok(json!({"left_running": running}));
            }
            self.world.clock().sleep(DRAIN_EVERY).await;
        }
    }

    async fn stop(&self, service: Service) -> Result<Value, EffectError> {
        let old = self.world.containers().container(service).await?;
        let code = self.world.containers().stop(service).await?;
        Ok(json!({"old_container_id": old.map(|info| info.id), "exit_code": code}))
    }

    async fn start(&self, service: Service) -> Result<Value, EffectError> {
        self.world.containers().start(service).await?;
        let info = self.world.containers().container(service).await?;
        Ok(json!({"new_pid": info.and_then(|info| info.pid)}))
    }

    async fn replace(
        &self,
        service: Service,
        image: &ImageRef,
        settings: &StackSettings,
        known: &Known,
    ) -> Result<Value, EffectError> {
        let containers = self.world.containers();
        let wanted = spec(service, image, settings, &known.stack, self.machine_mb());
        let is_there =
            containers.container(service).await?.is_some_and(|info| info.spec_digest == wanted.digest().to_string());
        if !is_there {
            containers.create(&wanted).await?;
        }
        containers.start(service).await?;
        let new = containers.container(service).await?;
        Ok(json!({"new_container_id": new.as_ref().map(|info| &info.id), "new_pid": new.as_ref().and_then(|i| i.pid)}))
    }

    /// Makes a service what it was before the command, and waits until it serves.
    async fn bring_up(&self, service: Service, settings: &StackSettings, base: &Known) -> Result<(), EffectError> {
        let image = base.stack.image(service, settings).ok_or_else(|| {
            permanent("image_not_configured", &format!("nothing says which image {service} is to run"))
        })?;
        self.replace(service, &image.clone(), settings, base).await?;
        self.await_ready_again(service).await
    }

    /// As [`Self::await_ready`] on the way back, where there is nothing else to do than to try on.
    async fn await_ready_again(&self, service: Service) -> Result<(), EffectError> {
        let ready = self.await_ready(service).await;
        ready.map(drop).map_err(|error| EffectError { kind: ErrorKind::Transient, ..error })
    }

    /// Waits until a service does what it is there for, not merely until its port is open.
    pub(super) async fn await_ready(&self, service: Service) -> Result<Value, EffectError> {
        let began = self.world.clock().monotonic();
        let deadline = self.deadline(READY_WAIT_S);
        loop {
            let ready = match service {
                Service::N8n => {
                    matches!(self.world.workflows().status().await, N8nStatus::Running | N8nStatus::Locked)
                }
                Service::Postgres => self.world.database().is_ready().await,
                Service::Caddy => self.world.proxy().config().await.is_ok(),
            };
            let waited = self.world.clock().monotonic().saturating_sub(began);
            if ready {
                return Ok(json!({format!("{service}_ready_ms"): millis(waited)}));
            }
            let info = self.world.containers().container(service).await?;
            let gives_up = info
                .as_ref()
                .is_none_or(|info| info.restarts >= RESTARTS_GIVE_UP && info.phase != ContainerPhase::Running);
            if gives_up || self.is_past(deadline) {
                return Err(self.not_healthy(service, waited).await);
            }
            self.world.clock().sleep(LOOK_EVERY).await;
        }
    }

    async fn not_healthy(&self, service: Service, waited: Duration) -> EffectError {
        let last = self.world.containers().logs(service, 3, None, 1_000).await.unwrap_or_default();
        let message = format!(
            "{service} did not get ready within {} s; its last words: {}",
            waited.as_secs(),
            if last.trim().is_empty() { "none" } else { last.trim() },
        );
        EffectError::new(ErrorKind::Permanent, "not_healthy", message)
    }

    /// Asks for a webhook of a managed workflow in a way that runs nothing: what n8n answers shows that it is registered.
    async fn probe(&self, known: &Known) -> Result<Value, EffectError> {
        for row in known.workflows.values().filter(|row| row.active) {
            let source = self.source(row.source)?;
            let Some(deploy) = source.as_ref().and_then(|command| command.deployment(&row.key)) else { continue };
            let (body, _) = self.mapped(deploy, known)?;
            let Some((method, path)) = workflow::webhook_probe(&body) else { continue };
            let deadline = self.deadline(10);
            while !self.world.workflows().knows_webhook(method, &path).await? {
                if self.is_past(deadline) {
                    let message = format!("n8n is up and does not know the webhook of workflow {}", row.key);
                    return Err(permanent("webhook_lost", &message));
                }
                self.world.clock().sleep(LOOK_EVERY).await;
            }
            return Ok(json!({"probed_workflow": row.key}));
        }
        Ok(json!({"probed_workflow": null}))
    }

    async fn dump(&self, running: &Running) -> Result<Value, EffectError> {
        // The bundle's id: a repeat after a crash writes the same file again.
        let backup = running.command.bundle_id;
        let (bytes, digest) = self.world.database().dump(&format!("{backup}.dump")).await?;
        Ok(json!({"backup": backup, "size_bytes": bytes, "digest": digest}))
    }

    pub(super) fn deadline(&self, seconds: u64) -> Duration {
        self.world.clock().monotonic() + Duration::from_secs(seconds)
    }

    pub(super) fn is_past(&self, deadline: Duration) -> bool {
        self.world.clock().monotonic() >= deadline
    }
}

/// What the stack is to be after a swap or a restoration, with what a way back needs; `None` for any other command.
fn swapped(
    command: &Command,
    settings: &StackSettings,
    stack: &StackRow,
    now: genesis_shared::timestamp::Timestamp,
) -> Option<StackRow> {
    let Command::Stack(command) = command else { return None };
    let (service, image) = match command {
        StackCommand::SwapContainer(target) => (target.service, Some(&target.image)),
        StackCommand::Restore(_) => (Service::N8n, None),
        StackCommand::PullImage(_)
        | StackCommand::GetLogs(_)
        | StackCommand::Backup
        | StackCommand::RestartN8n
        | StackCommand::AddDomains(_)
        | StackCommand::RemoveDomains(_)
        | StackCommand::Quiesce
        | StackCommand::Suspend
        | StackCommand::ResumeService => return None,
    };
    let mut row = stack.clone();
    let former = stack.image(service, settings).cloned();
    row.previous.extend(former.map(|image| (service, Previous { image, until: now.plus_millis(PREVIOUS_KEPT_MS) })));
    if let Some(image) = image {
        row.images.insert(service, image.clone());
    }
    Some(row)
}

/// What is worth telling of the end of a swap beside its result.
pub(super) fn told(running: &Running, end: &End) -> Option<ReportedEvent> {
    let swap = running.commands.iter().find_map(|command| {
        if let Command::Stack(StackCommand::SwapContainer(target)) = command { Some(target) } else { None }
    })?;
    let (code, message) = match end {
        End::Succeeded => ("VERSION_UPDATE_SUCCESS", format!("{} runs {}", swap.service, swap.image)),
        End::Failed(error) => (
            "VERSION_ROLLBACK",
            format!("{} stays as it was, {} was not taken: {}", swap.service, swap.image, error.message),
        ),
        End::Stuck(error) => (
            "VERSION_STUCK",
            format!("{} is neither on {} nor back; look at it: {}", swap.service, swap.image, error.message),
        ),
    };
    Some(ReportedEvent { code: code.into(), message: message.chars().take(1_000).collect() })
}

/// All that a stack command's steps said, in one object, with how long requests were held.
pub(super) fn answer<'a>(running: &Running, answers: impl Iterator<Item = (&'a Step, &'a Value)>) -> Value {
    let mut all = Map::new();
    for (_, answer) in answers {
        if let Value::Object(answer) = answer {
            all.extend(answer.iter().map(|(name, value)| (name.clone(), value.clone())));
        }
    }
    if let Some(held_ms) = held_ms(running) {
        all.insert("held_ms_max".into(), json!(held_ms));
    }
    Value::Object(all)
}

/// From the moment requests were held to the moment they were let go: the longest that one of them waited.
fn held_ms(running: &Running) -> Option<u64> {
    let of = |wanted: &StackStep| {
        let n =
            running.plan.steps.iter().position(|step| matches!(step, Step::Stack { step, .. } if step == wanted))?;
        matches!(running.state.steps[n], StepState::Done(..)).then_some(n)
    };
    let (hold, release) = (of(&StackStep::Hold)?, of(&StackStep::Release)?);
    let at = |n: usize| {
        running
            .command
            .events
            .iter()
            .find_map(|(at, event)| matches!(event, Event::Done { step, .. } if *step == n).then_some(*at))
    };
    Some(at(release)?.millis_since(at(hold)?).max(0).unsigned_abs())
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
