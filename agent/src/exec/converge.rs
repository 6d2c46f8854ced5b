//! Makes the stack what it should be, without being asked: whatever is missing, stopped, of another image or edited by
//! hand is put right. Commands come first: a swap under way is its own saga's matter.

use genesis_shared::report::{Event, Record};
use genesis_shared::secret::Secret;
use genesis_shared::stack::{ImageRef, Service};

use super::Exec;
use super::perform::permanent;
use crate::core::routes;
use crate::core::stack::{
    DATABASE_PASSWORD, N8N_DATABASE_PASSWORD, N8N_ENCRYPTION_KEY, N8N_UID, POSTGRES_UID, StackRow, StackSettings, spec,
};
use crate::journal::{JournalError, MapChanges};
use crate::ports::stack::{ContainerInfo, ContainerPhase, ContainerSpec, Containers, Database, Proxy};
use crate::ports::{EffectError, ErrorKind, Host, World};

/// Why a service is not as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Missing,
    Differs,
    Stopped,
}

impl Fault {
    fn of(info: Option<&ContainerInfo>, wanted: &ContainerSpec) -> Option<Self> {
        match info {
            None => Some(Self::Missing),
            Some(info) if info.spec_digest != wanted.digest().to_string() => Some(Self::Differs),
            Some(info) if info.phase == ContainerPhase::Running || info.phase == ContainerPhase::Restarting => None,
            Some(_) => Some(Self::Stopped),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Missing => "missing_container",
            Self::Differs => "image_drift",
            Self::Stopped => "stopped_container",
        }
    }
}

impl<W: World> Exec<'_, W> {
    /// One round over the stack; answers what was put right, each as `fault service`. Nothing to do without a stack.
    ///
    /// # Errors
    /// The journal failed. The inner error is of the engine, the proxy or the database: the next round tries again.
    pub async fn converge(&self) -> Result<Result<Vec<String>, EffectError>, JournalError> {
        let Some(settings) = self.stack else { return Ok(Ok(vec![])) };
        let stack = self.journal.stack()?;
        let (mut done, mut failed) = match self.put_right(settings, &stack).await {
            Ok(done) => (done, None),
            Err(error) => (vec![], Some(error)),
        };
        // Whatever the engine is at: a proxy that runs is to do what it should.
        match self.put_proxy_right(settings, &stack).await {
            Ok(false) => {}
            Ok(true) => done.push("proxy_drift caddy".into()),
            Err(error) => {
                if error.kind == ErrorKind::Permanent && failed.is_none() {
                    let (code, message) = (error.code.into(), error.message.clone());
                    self.journal.report(&Record::Event(Event { code, message }), self.now())?;
                }
                failed = failed.or(Some(error));
            }
        }
        if !done.is_empty() {
            let message = done.join(", ");
            tracing::warn!(code = "stack_repaired", "{message}");
            self.journal.report(&Record::Event(Event { code: "stack_repaired".into(), message }), self.now())?;
        }
        if let Some(error) = failed {
            return Ok(Err(error));
        }
        if let Some(left) = stack.without_expired(self.now()) {
            if let Err(error) = self.forget_previous(settings, &left).await {
                return Ok(Err(error));
            }
            tracing::info!("what was there before the last swap is not kept any longer");
            self.journal.keep(&MapChanges { stack: Some(left), ..MapChanges::default() })?;
        }
        Ok(Ok(done))
    }

    /// Whether a round would find something to do; cheap enough for every sample of the host's health.
    pub async fn stack_differs(&self) -> Result<bool, JournalError> {
        let Some(settings) = self.stack else { return Ok(false) };
        let stack = self.journal.stack()?;
        for service in Service::ALL {
            if service == Service::N8n && self.is_to_rest(&stack) {
                continue;
            }
            let Some(image) = stack.image(service, settings) else { continue };
            let wanted = spec(service, image, settings, &stack, self.machine_mb());
            match self.world.containers().container(service).await {
                Ok(info) if Fault::of(info.as_ref(), &wanted).is_some() => return Ok(true),
                // An engine that is away is waited for by the next round.
                Ok(_) | Err(_) => {}
            }
        }
        Ok(self.world.proxy().is_held().unwrap_or(false))
    }

    async fn put_right(&self, settings: &StackSettings, stack: &StackRow) -> Result<Vec<String>, EffectError> {
        let containers = self.world.containers();
        containers.engine().await?;
        self.place_secrets()?;
        containers.ensure_network().await?;
        if containers.container(Service::Caddy).await?.is_none_or(|info| info.phase != ContainerPhase::Running) {
            self.world.proxy().keep_config(&routes::config(settings, stack))?;
        }
        let mut done = Vec::new();
        for service in Service::ALL {
            let image = stack.image(service, settings).ok_or_else(|| {
                permanent("image_not_configured", &format!("nothing says which image {service} is to run"))
            })?;
            let info = containers.container(service).await?;
            if service == Service::N8n && self.is_to_rest(stack) {
                if info.is_some_and(|info| info.phase == ContainerPhase::Running) {
                    containers.stop(service).await?;
                    done.push(format!("unexpected_running {service}"));
                }
                continue;
            }
            let wanted = spec(service, image, settings, stack, self.machine_mb());
            if let Some(fault) = Fault::of(info.as_ref(), &wanted) {
                self.mend_service(service, fault, image, &wanted).await?;
                done.push(format!("{} {service}", fault.name()));
            }
        }
        // No command is open: nobody is to wait.
        if self.world.proxy().is_held()? {
            self.world.proxy().release()?;
            done.push("held_requests".into());
        }
        Ok(done)
    }

    async fn mend_service(
        &self,
        service: Service,
        fault: Fault,
        image: &ImageRef,
        wanted: &ContainerSpec,
    ) -> Result<(), EffectError> {
        let containers = self.world.containers();
        if fault != Fault::Stopped && containers.image(image).await?.is_none() {
            self.pull(service, image).await?;
        }
        if fault == Fault::Differs && service != Service::Caddy {
            // Requests wait; what runs may end. n8n must not see its database go: it is started again by this round.
            self.world.proxy().hold().await?;
            containers.stop(Service::N8n).await?;
            containers.stop(service).await?;
        }
        if fault != Fault::Stopped {
            containers.create(wanted).await?;
        }
        containers.start(service).await?;
        if service == Service::Postgres {
            // n8n ends at once where its database does not answer.
            self.await_ready(service).await?;
        }
        Ok(())
    }

    /// What the containers read instead of an environment that `docker inspect` would show.
    fn place_secrets(&self) -> Result<(), EffectError> {
        let containers = self.world.containers();
        let bytes = |text: &Secret<String>| Secret::new(text.expose().clone().into_bytes());
        let password = bytes(&self.stack_secrets.postgres_password);
        containers.place_secret(DATABASE_PASSWORD, POSTGRES_UID, &password)?;
        containers.place_secret(N8N_DATABASE_PASSWORD, N8N_UID, &password)?;
        containers.place_secret(N8N_ENCRYPTION_KEY, N8N_UID, &bytes(&self.stack_secrets.n8n_encryption_key))
    }

    async fn forget_previous(&self, settings: &StackSettings, stack: &StackRow) -> Result<(), EffectError> {
        if !stack.needs_copy() {
            self.world.database().drop_snapshot().await?;
        }
        self.world.containers().prune(&stack.kept_images(settings)).await.map(drop)
    }

    /// Whether n8n was told to stay stopped.
    fn is_to_rest(&self, stack: &StackRow) -> bool {
        stack.is_at_rest(&self.boot())
    }

    /// This boot of the machine: what the kernel calls it, without what the agent's own start adds.
    pub(crate) fn boot(&self) -> String {
        let epoch = self.world.host().boot_epoch();
        epoch.split_once('.').map_or(epoch.as_str(), |(boot, _)| boot).to_owned()
    }
}
