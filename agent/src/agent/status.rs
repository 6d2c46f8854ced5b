//! What a person on the droplet, or a scraper, may know: where everything stands, and what is wrong with it. Nothing
//! here is secret, and nothing is changed.

use genesis_shared::bundle::Bundle;
use genesis_shared::id::{BundleId, DropletId, JobId, WorkspaceId};
use genesis_shared::limits::CLOCK_SKEW_S;
use genesis_shared::report::N8nStatus;
use genesis_shared::stack::{ImageRef, Service};
use genesis_shared::timestamp::Timestamp;
pub use genesis_shared::wire::Finding;
use serde::{Deserialize, Serialize};

use super::by_hand::state_word;
use super::{Agent, Fatal};
use crate::core::survival;
use crate::journal::RecentRow;
use crate::ports::stack::{ContainerPhase, Containers, Proxy};
use crate::ports::{Clock, HostSample, Workflows, World};

/// Days before its end from which an expiry is told of.
const EXPIRY_DAYS: i64 = 14;
/// Commands that are listed at most: their lines fit an answer.
const JOURNAL_LINES_MAX: u32 = 50;
/// Of a result's words so much is listed; the hub has all of them.
const MESSAGE_CHARS: usize = 160;
const DAY_MS: i64 = 24 * 3600 * 1000;

/// The droplet at this moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The droplet's clock.
    pub timestamp: Timestamp,
    /// The agent's version.
    pub agent_version: String,
    /// The tenant.
    pub workspace_id: WorkspaceId,
    /// The droplet.
    pub droplet_id: DropletId,
    /// As in heartbeats: `ACTIVE_HEALTHY`, `ACTIVE_DEGRADED`, `DRIFT_DETECTED`, `QUARANTINED`.
    pub state: String,
    /// The hub quarantined this droplet and changes wait.
    pub quarantined: bool,
    /// When the hub was heard of last in this life of the agent.
    pub hub_heard_at: Option<Timestamp>,
    /// The droplet's clock less the hub's, by the last answer.
    pub clock_offset_ms: Option<i64>,
    /// Version and end of the trust root, if there is one.
    pub trust_root: Option<(u64, Timestamp)>,
    /// n8n's status.
    pub n8n_status: N8nStatus,
    /// n8n's version, once known.
    pub n8n_version: Option<String>,
    /// Commands that were accepted and have not ended.
    pub open_commands: u64,
    /// Records that wait for the hub.
    pub outbox_depth: u64,
    /// Generation of the desired state that was applied last.
    pub desired_generation: u64,
    /// Managed things that differ, by the last look.
    pub drift_count: Option<u32>,
    /// Whole host, 0 to 100.
    pub cpu_usage_percent: f32,
    /// MiB.
    pub memory_usage_mb: u64,
    /// MiB.
    pub memory_total_mb: u64,
    /// 0 to 100.
    pub disk_usage_percent: f32,
    /// MiB.
    pub swap_used_mb: u64,
    /// The stack, where the agent looks after one.
    pub stack: Option<StackStatus>,
    /// What the stack misses on this machine; nothing where the agent looks after none.
    #[serde(default)]
    pub missing: Vec<Finding>,
}

/// The stack at this moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StackStatus {
    /// The engine's version, or why there is none.
    pub engine: Result<String, String>,
    /// Its containers.
    pub containers: Vec<ContainerStatus>,
    /// Whether requests wait in the proxy.
    pub held: bool,
    /// n8n was told to stay stopped.
    pub at_rest: bool,
    /// The images of before the last swaps and until when they are kept.
    pub previous: Vec<(Service, ImageRef, Timestamp)>,
    /// Host names, the configured one first, with the end of each one's certificate.
    pub hosts: Vec<(String, Option<Timestamp>)>,
}

/// A container at this moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContainerStatus {
    /// Which.
    pub service: Service,
    /// What it is to run.
    pub image: Option<ImageRef>,
    /// `running`, `restarting`, `stopped`, `missing`, `unknown`.
    pub state: String,
    /// Restarts by the engine.
    pub restarts: u64,
    /// Its process on the host.
    pub pid: Option<u32>,
}

/// A command of the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalLine {
    /// The journal's number.
    pub seq: i64,
    /// When it was accepted.
    pub accepted_at: Timestamp,
    /// The hub's job.
    pub job_id: JobId,
    /// The bundle.
    pub bundle_id: BundleId,
    /// Its actions, `A,B`.
    pub actions: String,
    /// `open`, or how it ended.
    pub state: String,
    /// The code and the words of its end.
    pub ended: Option<(String, String)>,
    /// Its steps, `name state`.
    pub steps: Vec<String>,
}

impl<W: World> Agent<W> {
    /// Where everything stands.
    ///
    /// # Errors
    /// The journal failed.
    pub async fn status(&self) -> Result<Status, Fatal> {
        let HostSample {
            cpu_usage_percent, memory_usage_mb, memory_total_mb, disk_usage_percent, swap_used_mb, ..
        } = self.last_sample();
        let trust_root = self.root.borrow().as_ref().map(|root| (root.version, root.expires_at));
        let stack = self.stack_status().await?;
        let n8n = self.world.workflows();
        let n8n_status = n8n.status().await;
        let n8n_version = if n8n_status == N8nStatus::Running { n8n.version().await.ok() } else { None };
        Ok(Status {
            timestamp: self.world.clock().now(),
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            workspace_id: self.settings.workspace_id,
            droplet_id: self.settings.droplet_id.clone(),
            state: self.state_name(n8n_status).to_owned(),
            quarantined: self.may_change().is_err(),
            hub_heard_at: self.hub_heard_at.get(),
            clock_offset_ms: self.clock_offset_ms.get(),
            trust_root,
            n8n_status,
            n8n_version,
            open_commands: self.journal.open_count()?,
            outbox_depth: self.journal.outbox_state()?.1,
            desired_generation: self.journal.generation()?,
            drift_count: self.drifts.get(),
            cpu_usage_percent,
            memory_usage_mb,
            memory_total_mb,
            disk_usage_percent,
            swap_used_mb,
            stack,
            missing: if self.settings.stack.is_some() { survival::findings(&self.facts().await) } else { vec![] },
        })
    }

    /// The last commands, newest first.
    ///
    /// # Errors
    /// The journal failed.
    pub fn recent(&self, lines: u32) -> Result<Vec<JournalLine>, Fatal> {
        let line = |row: RecentRow| {
            let actions = Bundle::reread(&row.bundle).map_or_else(|_| "(pruned)".to_owned(), |b| b.action_label());
            let steps = row.outcome.iter().flat_map(|result| &result.steps);
            Some(JournalLine {
                seq: row.seq,
                accepted_at: row.accepted_at,
                job_id: row.job_id.parse().ok()?,
                bundle_id: row.bundle_id.parse().ok()?,
                actions,
                state: row.outcome.as_ref().map_or("open", |result| state_word(result.state)).to_owned(),
                steps: steps.map(|step| format!("{} {}", step.name, step.state)).collect(),
                ended: row.outcome.map(|result| (result.code, result.message.chars().take(MESSAGE_CHARS).collect())),
            })
        };
        Ok(self.journal.recent(lines.min(JOURNAL_LINES_MAX))?.into_iter().filter_map(line).collect())
    }

    async fn stack_status(&self) -> Result<Option<StackStatus>, Fatal> {
        let Some(settings) = &self.settings.stack else { return Ok(None) };
        let stack = self.journal.stack()?;
        let engine = self.world.containers().engine().await;
        let mut containers = Vec::new();
        for service in Service::ALL {
            let info = self.world.containers().container(service).await;
            let state = match &info {
                Err(_) => "unknown",
                Ok(None) => "missing",
                Ok(Some(info)) => match info.phase {
                    ContainerPhase::Running => "running",
                    ContainerPhase::Restarting => "restarting",
                    ContainerPhase::Created | ContainerPhase::Exited(_) | ContainerPhase::Other => "stopped",
                },
            };
            let info = info.ok().flatten();
            containers.push(ContainerStatus {
                service,
                image: stack.image(service, settings).cloned(),
                state: state.to_owned(),
                restarts: info.as_ref().map_or(0, |info| info.restarts),
                pid: info.and_then(|info| info.pid),
            });
        }
        let mut hosts = Vec::new();
        for host in stack.hosts(settings) {
            hosts.push((host.to_owned(), self.world.proxy().certificate_expires_at(host).await));
        }
        Ok(Some(StackStatus {
            engine: engine.map(|engine| engine.version).map_err(|error| error.to_string()),
            containers,
            held: self.world.proxy().is_held().unwrap_or(false),
            at_rest: stack.is_at_rest(&self.exec().boot()),
            previous: stack.previous.into_iter().map(|(service, kept)| (service, kept.image, kept.until)).collect(),
            hosts,
        }))
    }
}

/// What is wrong with a droplet in this state.
pub fn findings(status: &Status) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut find = |code: &str, message: String| found.push(Finding { code: code.into(), message });
    if status.quarantined {
        find(
            "quarantined",
            "changes wait; find out which machine is the tenant's, then `genesisctl droplet resume`".into(),
        );
    }
    match &status.trust_root {
        None => find(
            "no_trust_root",
            "no command can be taken; the droplet has not enrolled, or its journal was lost".into(),
        ),
        Some((version, end)) if *end <= status.timestamp => find(
            "trust_root_expired",
            format!("version {version} ended at {end}; changing commands are refused until a newer one is pushed"),
        ),
        Some((version, end)) if end.millis_since(status.timestamp) < EXPIRY_DAYS * DAY_MS => {
            find("trust_root_expires", format!("version {version} ends at {end}; sign a newer one"));
        }
        Some(_) => {}
    }
    if status.hub_heard_at.is_none() {
        find(
            "hub_not_heard",
            "the hub has not answered since the agent started; look at hub_url and the network".into(),
        );
    }
    if let Some(offset) = status.clock_offset_ms.filter(|offset| offset.abs() > CLOCK_SKEW_S * 1000) {
        find("clock_off", format!("the clock is {} s off the hub's; check NTP", offset / 1000));
    }
    match status.n8n_status {
        N8nStatus::Running => {}
        N8nStatus::Starting => {
            find("n8n_starting", "n8n is starting or has no database; wait a minute, then look at its log".into())
        }
        N8nStatus::Down => find("n8n_down", "n8n does not answer; look at its container and its log".into()),
        N8nStatus::Locked => {
            find("n8n_locked", "somebody else owns this n8n; see \"n8n is locked\" in the README".into())
        }
    }
    if let Some(count) = status.drift_count.filter(|count| *count > 0) {
        find("drift", format!("{count} managed things differ and are left alone; VERIFY lists them"));
    }
    if status.disk_usage_percent > 85.0 {
        find("disk_filling", format!("the disk is {:.0} % full; free some space", status.disk_usage_percent));
    }
    if let Some(stack) = &status.stack {
        stack_findings(stack, status.timestamp, &mut found);
    }
    let is_told = |missing: &&Finding| found.iter().all(|finding| finding.code != missing.code);
    let missing: Vec<_> = status.missing.iter().filter(is_told).cloned().collect();
    found.extend(missing);
    found
}

fn stack_findings(stack: &StackStatus, now: Timestamp, found: &mut Vec<Finding>) {
    let mut find = |code: &str, message: String| found.push(Finding { code: code.into(), message });
    if let Err(error) = &stack.engine {
        find("engine_unreachable", format!("{error}; is Docker running?"));
    }
    for container in &stack.containers {
        let rests = container.service == Service::N8n && stack.at_rest;
        if container.state != "running" && !rests {
            find("container_not_running", format!("{} is {}", container.service, container.state));
        }
    }
    if stack.at_rest {
        find("at_rest", "n8n was told to stay stopped; RESUME_SERVICE starts it".into());
    }
    for (host, end) in &stack.hosts {
        match end {
            None => find("no_certificate", format!("{host} has no certificate yet; does its name lead here?")),
            Some(end) if end.millis_since(now) < 3 * DAY_MS => {
                find("certificate_ends", format!("the certificate of {host} ends at {end} and was not renewed"));
            }
            Some(_) => {}
        }
    }
}
