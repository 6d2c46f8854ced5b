//! The lane that looks at machine and stack every quarter of a minute: health with hysteresis, n8n's crashes, a disk that
//! runs full. It reports and calls the hand; it repairs nothing itself but the disk.

use std::cell::RefCell;
use std::time::Duration;

use genesis_shared::limits::{
    BALLAST_MB, CRASH_LOOP_RESTARTS, CRASH_LOOP_WINDOW_S, DISK_EMERGENCY_PERCENT, DISK_RELIEVED_PERCENT,
    SAMPLE_INTERVAL_S,
};
use genesis_shared::report::{Event, Record};
use genesis_shared::stack::Service;
use genesis_shared::timestamp::Timestamp;

use super::{Agent, Fatal};
use crate::core::health::{Condition, Health};
use crate::core::stack::StackRow;
use crate::journal::JournalError;
use crate::ports::stack::{ContainerInfo, Containers, Database, Proxy};
use crate::ports::{Clock, EffectError, Host, HostSample, World};

/// What the lane has seen.
#[derive(Default)]
pub(super) struct Watched {
    health: RefCell<Health>,
    sample: RefCell<Option<HostSample>>,
    n8n: RefCell<N8nSeen>,
    disk_is_full: RefCell<bool>,
}

/// n8n's container over time.
#[derive(Clone, Debug, Default)]
pub(super) struct N8nSeen {
    /// Its process.
    pub pid: Option<u32>,
    /// Ends for want of memory since the agent started.
    pub oom_kills: u64,
    id: String,
    restarts: u64,
    /// Moments of its last restarts, by the clock that never jumps.
    crashes: Vec<Duration>,
    is_looping: bool,
}

/// What a heartbeat tells of what is around n8n.
#[derive(Default)]
pub(super) struct Around {
    pub pending_executions: Option<u64>,
    pub last_execution_at: Option<Timestamp>,
    pub certificate_expires_at: Option<Timestamp>,
}

/// What one look at n8n's container came to.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Crash {
    None,
    Once {
        out_of_memory: bool,
    },
    /// Again and again; told once, until it holds for a while.
    Loop,
}

impl N8nSeen {
    fn take_in(&mut self, info: &ContainerInfo, now: Duration) -> Crash {
        self.pid = info.pid;
        if self.id != info.id {
            // Another container: its count begins anew, and making it was no crash.
            (self.id, self.restarts) = (info.id.clone(), info.restarts);
            return Crash::None;
        }
        let window = Duration::from_secs(CRASH_LOOP_WINDOW_S);
        self.crashes.retain(|at| now.saturating_sub(*at) < window);
        if self.crashes.is_empty() {
            self.is_looping = false;
        }
        let new = info.restarts.saturating_sub(self.restarts);
        self.restarts = info.restarts;
        if new == 0 {
            return Crash::None;
        }
        self.oom_kills += u64::from(info.oom_killed);
        let room = CRASH_LOOP_RESTARTS.saturating_sub(self.crashes.len());
        self.crashes.extend((0..new).take(room).map(|_| now));
        match self.crashes.len() >= CRASH_LOOP_RESTARTS {
            true if self.is_looping => Crash::None,
            true => {
                self.is_looping = true;
                Crash::Loop
            }
            false => Crash::Once { out_of_memory: info.oom_killed },
        }
    }
}

impl Watched {
    /// The condition after the last sample.
    pub(super) fn condition(&self) -> Condition {
        self.health.borrow().condition()
    }

    /// n8n's container as it was seen last.
    pub(super) fn n8n(&self) -> N8nSeen {
        self.n8n.borrow().clone()
    }
}

impl<W: World> Agent<W> {
    /// Looks for ever.
    pub(super) async fn watch(&self) -> Result<(), Fatal> {
        if self.settings.stack.is_none() {
            // There the heartbeat takes its own samples.
            return std::future::pending().await;
        }
        loop {
            let sample = self.sample();
            self.watch_disk(&sample).await?;
            self.watch_n8n().await?;
            if self.exec().stack_differs().await? {
                self.work.notify_one();
            }
            self.world.clock().sleep(Duration::from_secs(SAMPLE_INTERVAL_S)).await;
        }
    }

    /// What the database and the proxy tell; nothing without a stack.
    pub(super) async fn around_n8n(&self) -> Around {
        let Some(settings) = &self.settings.stack else { return Around::default() };
        let database = self.world.database();
        let mut ends = Vec::new();
        if let Ok(stack) = self.journal.stack() {
            for host in stack.hosts(settings) {
                ends.extend(self.world.proxy().certificate_expires_at(host).await);
            }
        }
        Around {
            pending_executions: database.running_executions().await.ok(),
            last_execution_at: database.last_execution_at().await.ok().flatten(),
            certificate_expires_at: ends.into_iter().min(),
        }
    }

    /// A sample, taken into the health.
    pub(super) fn sample(&self) -> HostSample {
        let sample = self.world.host().sample();
        self.watched.health.borrow_mut().observe(&sample);
        self.watched.sample.replace(Some(sample.clone()));
        sample
    }

    /// The last sample.
    pub(super) fn last_sample(&self) -> HostSample {
        let last = self.settings.stack.as_ref().and_then(|_| self.watched.sample.borrow().clone());
        last.unwrap_or_else(|| self.sample())
    }

    async fn watch_n8n(&self) -> Result<(), JournalError> {
        let Ok(Some(info)) = self.world.containers().container(Service::N8n).await else { return Ok(()) };
        let crash = self.watched.n8n.borrow_mut().take_in(&info, self.world.clock().monotonic());
        match crash {
            Crash::None => Ok(()),
            Crash::Once { out_of_memory } => {
                let why = if out_of_memory { "for want of memory" } else { "by itself" };
                self.tell("n8n_crashed", format!("n8n ended {why} and was started again; restarts: {}", info.restarts))
            }
            Crash::Loop => self.tell(
                "n8n_crash_loop",
                format!(
                    "n8n ended {CRASH_LOOP_RESTARTS} times within {} minutes; the engine starts it again at growing \
                     intervals; look at its log (GET_LOGS)",
                    CRASH_LOOP_WINDOW_S / 60
                ),
            ),
        }
    }

    /// On a disk that is all but full the tenant's database comes first: what can be had again gives way.
    async fn watch_disk(&self, sample: &HostSample) -> Result<(), JournalError> {
        let was_full = *self.watched.disk_is_full.borrow();
        if sample.disk_usage_percent >= DISK_EMERGENCY_PERCENT {
            if !was_full {
                self.watched.disk_is_full.replace(true);
                let freed = self.relieve_disk().await;
                let words = freed.join(", ");
                self.tell("disk_emergency", format!("the disk is {:.0} % full; {words}", sample.disk_usage_percent))?;
            }
        } else if sample.disk_usage_percent < DISK_RELIEVED_PERCENT {
            if let Err(error) = self.world.host().set_ballast(BALLAST_MB) {
                tracing::debug!("no ballast: {error}");
            }
            if was_full {
                self.watched.disk_is_full.replace(false);
                self.tell("disk_relieved", format!("the disk is {:.0} % full again", sample.disk_usage_percent))?;
            }
        }
        Ok(())
    }

    async fn relieve_disk(&self) -> Vec<String> {
        let mut freed = Vec::new();
        // First what is there for this very moment, so that everything else has room to work in.
        match self.world.host().set_ballast(0) {
            Ok(true) => freed.push(format!("{BALLAST_MB} MiB of ballast given up")),
            Ok(false) => {}
            Err(error) => tracing::warn!("the ballast cannot be given up: {error}"),
        }
        match self.prune_images().await {
            Ok(bytes) => freed.push(format!("unused images removed: {} MiB", bytes / (1024 * 1024))),
            Err(error) => tracing::warn!(code = error.code, "images cannot be removed: {error}"),
        }
        match self.world.database().prune_executions().await {
            Ok(count) => freed.push(format!("records of {count} ended executions removed")),
            Err(error) => tracing::warn!(code = error.code, "records of executions cannot be removed: {error}"),
        }
        freed
    }

    /// Never an image that a way back needs.
    async fn prune_images(&self) -> Result<u64, EffectError> {
        let Some(settings) = &self.settings.stack else { return Ok(0) };
        let unreadable = |error: JournalError| {
            EffectError::new(crate::ports::ErrorKind::Transient, "journal_unusable", error.to_string())
        };
        let stack: StackRow = self.journal.stack().map_err(unreadable)?;
        self.world.containers().prune(&stack.kept_images(settings)).await
    }

    fn tell(&self, code: &str, message: String) -> Result<(), JournalError> {
        tracing::warn!(code, "{message}");
        // On a full disk the words wait for the next time: nothing that writes may be in the way of making room.
        if self.has_space().is_ok() {
            self.journal.report(&Record::Event(Event { code: code.into(), message }), self.world.clock().now())?;
            self.mail.notify_one();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::stack::ContainerPhase;

    fn info(restarts: u64, oom_killed: bool) -> ContainerInfo {
        ContainerInfo {
            id: "a".into(),
            image_id: String::new(),
            phase: ContainerPhase::Running,
            spec_digest: String::new(),
            restarts,
            oom_killed,
            pid: Some(7),
            started_at: None,
        }
    }

    #[test]
    fn a_crash_is_told_once_and_a_loop_once_for_all_of_it() {
        let mut seen = N8nSeen::default();
        let at = |seconds| Duration::from_secs(seconds);
        assert_eq!(seen.take_in(&info(3, false), at(0)), Crash::None, "what was before is not news");
        assert_eq!(seen.take_in(&info(4, true), at(15)), Crash::Once { out_of_memory: true });
        assert_eq!(seen.take_in(&info(4, true), at(30)), Crash::None);
        assert_eq!(seen.oom_kills, 1);
        let told: Vec<Crash> = (5..15).map(|n| seen.take_in(&info(n, false), at(n * 15))).collect();
        assert_eq!(told.iter().filter(|crash| **crash == Crash::Loop).count(), 1, "{told:?}");
        let later = at(CRASH_LOOP_WINDOW_S * 2);
        assert_eq!(seen.take_in(&info(15, false), later), Crash::Once { out_of_memory: false }, "it had held");
    }

    #[test]
    fn another_container_is_no_crash() {
        let mut seen = N8nSeen::default();
        seen.take_in(&info(3, false), Duration::ZERO);
        let other = ContainerInfo { id: "b".into(), ..info(9, false) };
        assert_eq!(seen.take_in(&other, Duration::from_secs(15)), Crash::None);
    }
}
