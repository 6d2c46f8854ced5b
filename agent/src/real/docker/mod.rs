//! The container engine, over its socket on this machine. The only place that knows bollard.

mod container;
mod failure;
mod folders;
mod image;
mod logs;
mod program;

use std::path::PathBuf;
use std::time::Duration;

use bollard::models::{ContainerInspectResponse, NetworkCreateRequest};
use bollard::query_parameters::{InspectContainerOptions, ListNetworksOptions, RemoveContainerOptionsBuilder};
use genesis_shared::secret::Secret;
use genesis_shared::stack::{ImageRef, Service};
use genesis_shared::timestamp::Timestamp;

use crate::core::stack::StackSettings;
use crate::ports::stack::{
    ContainerInfo, ContainerPhase, ContainerSpec, Containers, EngineInfo, ImageInfo, STOP_MARGIN,
};
use crate::ports::{EffectError, ErrorKind};
use failure::{Fate, failed, refused, silent};

/// How long the engine may take for an answer that is not a stop, a pull or a program. A slow disk takes seconds to
/// make a container; a minute is a hang.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// How often a state that will come is looked for.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// How long a removal that somebody else began may take.
const REMOVAL_TIMEOUT: Duration = Duration::from_secs(20);
const MIB: u64 = 1024 * 1024;

/// Label with the digest of the spec that a container was made from.
const SPEC_LABEL: &str = "genesis.spec";
/// Label with the name of the stack that a container or network belongs to.
const STACK_LABEL: &str = "genesis.stack";

/// The engine, for one stack.
pub struct Docker {
    socket: String,
    stack: String,
    folder: PathBuf,
}

impl Docker {
    /// For the stack of these settings. Nothing is connected: each call is a connection of its own, so that an engine
    /// that comes back is found at once.
    pub fn new(settings: &StackSettings) -> Self {
        Self {
            socket: settings.engine_socket.trim_start_matches("unix://").to_owned(),
            stack: settings.name.clone(),
            folder: PathBuf::from(&settings.folder),
        }
    }

    /// A client whose calls take no longer than this.
    fn client(&self, timeout: Duration) -> Result<bollard::Docker, EffectError> {
        bollard::Docker::connect_with_unix(&self.socket, timeout.as_secs().max(1), bollard::API_DEFAULT_VERSION)
            .map_err(|error| failed("reach the container engine", &error))
    }

    /// One exchange, bounded as a whole: the client's own bound ends with the head of an answer.
    async fn ask<T, F>(&self, doing: &str, call: impl FnOnce(bollard::Docker) -> F) -> Result<T, EffectError>
    where
        F: Future<Output = Result<T, bollard::errors::Error>>,
    {
        let client = self.client(ANSWER_TIMEOUT)?;
        match tokio::time::timeout(ANSWER_TIMEOUT, call(client)).await {
            Ok(answer) => answer.map_err(|error| failed(doing, &error)),
            Err(_) => Err(silent(doing, ANSWER_TIMEOUT)),
        }
    }

    /// As [`Docker::ask`], where "there is no such thing" and "that is so already" are answers.
    async fn settle<T, F>(&self, doing: &str, call: impl FnOnce(bollard::Docker) -> F) -> Result<Fate<T>, EffectError>
    where
        F: Future<Output = Result<T, bollard::errors::Error>>,
    {
        let answer = self.ask(doing, |client| async { Ok(call(client).await) }).await?;
        Fate::of(doing, answer)
    }

    fn name(&self, service: Service) -> String {
        format!("{}-{service}", self.stack)
    }

    async fn inspect(&self, service: Service) -> Result<Option<ContainerInspectResponse>, EffectError> {
        let name = self.name(service);
        let call = |client: bollard::Docker| async move {
            client.inspect_container(&name, None::<InspectContainerOptions>).await
        };
        Ok(self.settle("look at a container", call).await?.done())
    }

    fn missing(&self, service: Service) -> EffectError {
        let name = self.name(service);
        EffectError::new(
            ErrorKind::Permanent,
            "container_missing",
            format!("there is no container {name}; it has to be created first"),
        )
    }

    /// Ids of the networks that carry the stack's name. The engine allows several: a create whose answer was lost can
    /// have been carried out.
    async fn networks(&self) -> Result<Vec<String>, EffectError> {
        let call = |client: bollard::Docker| async move { client.list_networks(None::<ListNetworksOptions>).await };
        let listed = self.ask("list networks", call).await?;
        let ours = listed.into_iter().filter(|network| network.name.as_deref() == Some(self.stack.as_str()));
        let mut ours: Vec<_> = ours.filter_map(|network| Some((network.created?, network.id?))).collect();
        ours.sort();
        Ok(ours.into_iter().map(|(_, id)| id).collect())
    }

    async fn remove_network(&self, id: &str) -> Result<(), EffectError> {
        let id = id.to_owned();
        let call = |client: bollard::Docker| async move { client.remove_network(&id).await };
        self.settle("remove the stack's network", call).await.map(drop)
    }

    /// Stops it if it does anything; answers its exit code. No longer than its grace and the margin.
    async fn halt(&self, service: Service) -> Result<Option<i64>, EffectError> {
        let Some(found) = self.inspect(service).await? else { return Ok(None) };
        let phase = container::info(&self.stack, &found).phase;
        if matches!(phase, ContainerPhase::Running | ContainerPhase::Restarting | ContainerPhase::Other) {
            let name = self.name(service);
            if found.state.as_ref().is_some_and(|state| state.paused == Some(true)) {
                // A frozen process hears no signal.
                let name = name.clone();
                let call = |client: bollard::Docker| async move { client.unpause_container(&name).await };
                self.settle("wake a paused container", call).await?;
            }
            let limit = container::grace(&found) + STOP_MARGIN;
            let client = self.client(limit)?;
            // Without a time of its own the engine takes the grace that the container was made with.
            let stop = client.stop_container(&name, None::<bollard::query_parameters::StopContainerOptions>);
            match tokio::time::timeout(limit, stop).await {
                Ok(answer) => Fate::of("stop a container", answer)?,
                Err(_) => return Err(silent("stop a container", limit)),
            };
        }
        let after = self.inspect(service).await?;
        Ok(after.and_then(|found| found.state).map(|state| state.exit_code.unwrap_or_default()))
    }

    /// Removes it once it is stopped, and waits for a removal that is under way.
    async fn discard(&self, service: Service) -> Result<(), EffectError> {
        if self.halt(service).await?.is_none() {
            return Ok(());
        }
        let removal = async {
            loop {
                let name = self.name(service);
                // `v`: nameless volumes go with it; what counts lies in folders.
                let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
                let call = |client: bollard::Docker| async move { client.remove_container(&name, Some(options)).await };
                match self.settle("remove a container", call).await? {
                    Fate::Done(()) | Fate::Missing => return Ok(()),
                    // Somebody removes it already.
                    Fate::Already => tokio::time::sleep(LOOK_INTERVAL).await,
                }
            }
        };
        match tokio::time::timeout(REMOVAL_TIMEOUT, removal).await {
            Ok(answer) => answer,
            Err(_) => Err(silent("remove a container", REMOVAL_TIMEOUT)),
        }
    }
}

impl Containers for Docker {
    async fn engine(&self) -> Result<EngineInfo, EffectError> {
        let info = self.ask("ask the engine who it is", |client| async move { client.info().await }).await?;
        let log_driver = info.logging_driver.unwrap_or_default();
        let root = info.docker_root_dir.filter(|root| !root.is_empty());
        Ok(EngineInfo {
            version: info.server_version.unwrap_or_default(),
            limits_logs: folders::bounds_logs(&log_driver),
            log_driver,
            limits_memory: info.memory_limit.unwrap_or_default(),
            free_mb: root.and_then(|root| super::host::free_bytes(root.as_ref())).map(|bytes| bytes / MIB),
        })
    }

    async fn image(&self, image: &ImageRef) -> Result<Option<ImageInfo>, EffectError> {
        self.find_image(image).await
    }

    async fn pull(&self, image: &ImageRef) -> Result<ImageInfo, EffectError> {
        self.bring_image(image).await
    }

    async fn prune(&self, keep: &[ImageRef]) -> Result<u64, EffectError> {
        self.prune_images(keep).await
    }

    fn place_secret(&self, name: &str, owner_uid: u32, content: &Secret<Vec<u8>>) -> Result<(), EffectError> {
        folders::place_secret(&self.folder, name, owner_uid, content)
    }

    async fn ensure_network(&self) -> Result<(), EffectError> {
        let mut there = self.networks().await?.into_iter();
        if there.next().is_none() {
            let request = NetworkCreateRequest {
                name: self.stack.clone(),
                driver: Some("bridge".into()),
                labels: Some([(STACK_LABEL.to_owned(), self.stack.clone())].into()),
                ..NetworkCreateRequest::default()
            };
            let call = |client: bollard::Docker| async move { client.create_network(request).await };
            self.settle("make the stack's network", call).await?;
        }
        for double in there {
            self.remove_network(&double).await?;
        }
        Ok(())
    }

    async fn container(&self, service: Service) -> Result<Option<ContainerInfo>, EffectError> {
        let found = self.inspect(service).await?;
        Ok(found.map(|found| container::info(&self.stack, &found)))
    }

    async fn create(&self, spec: &ContainerSpec) -> Result<(), EffectError> {
        let Some(image) = self.find_image(&spec.image).await? else {
            let message = format!("the image {} is not on this machine; pull it first", spec.image);
            return Err(EffectError::new(ErrorKind::Permanent, "image_missing", message));
        };
        for mount in &spec.mounts {
            folders::prepare(mount)?;
        }
        self.discard(spec.service).await?;
        let (options, body) = container::body(&self.stack, spec, &image.id);
        let call = |client: bollard::Docker| async move { client.create_container(Some(options), body).await };
        match self.settle("make a container", call).await? {
            Fate::Done(_) => Ok(()),
            // Only the image can be missing: it was there a moment ago.
            Fate::Missing => Err(EffectError::new(
                ErrorKind::Permanent,
                "image_missing",
                format!("the image {} was removed meanwhile; pull it first", spec.image),
            )),
            Fate::Already => Err(refused("make a container", "its name was taken meanwhile; is there a second agent?")),
        }
    }

    async fn start(&self, service: Service) -> Result<(), EffectError> {
        let found = self.inspect(service).await?.ok_or_else(|| self.missing(service))?;
        if found.state.as_ref().is_some_and(|state| state.paused == Some(true)) {
            let name = self.name(service);
            let call = |client: bollard::Docker| async move { client.unpause_container(&name).await };
            return self.settle("wake a paused container", call).await.map(drop);
        }
        if container::info(&self.stack, &found).phase == ContainerPhase::Running {
            return Ok(());
        }
        if service == Service::N8n {
            folders::remove_crash_journal(&found)?;
        }
        let name = self.name(service);
        let options = None::<bollard::query_parameters::StartContainerOptions>;
        let call = |client: bollard::Docker| async move { client.start_container(&name, options).await };
        match self.settle("start a container", call).await? {
            Fate::Done(()) => Ok(()),
            Fate::Missing => Err(self.missing(service)),
            // It runs since a moment ago, or is about to be removed.
            Fate::Already => match self.container(service).await?.map(|found| found.phase) {
                Some(ContainerPhase::Running) => Ok(()),
                Some(_) => Err(refused("start a container", "it is being removed; try again")),
                None => Err(self.missing(service)),
            },
        }
    }

    async fn stop(&self, service: Service) -> Result<Option<i64>, EffectError> {
        self.halt(service).await
    }

    async fn remove(&self, service: Service) -> Result<(), EffectError> {
        self.discard(service).await
    }

    async fn remove_data(&self) -> Result<(), EffectError> {
        // In the reverse order of their start, so that none loses what it needs.
        for service in Service::ALL.into_iter().rev() {
            self.discard(service).await?;
        }
        for network in self.networks().await? {
            self.remove_network(&network).await?;
        }
        folders::remove_all(&self.folder)
    }

    async fn run(&self, service: Service, argv: &[&str]) -> Result<String, EffectError> {
        self.run_program(service, argv).await
    }

    async fn logs(
        &self,
        service: Service,
        lines: u32,
        since: Option<Timestamp>,
        max_bytes: usize,
    ) -> Result<String, EffectError> {
        self.read_logs(service, lines, since, max_bytes).await
    }
}
