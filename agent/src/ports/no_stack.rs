//! The ports of a stack that nobody looks after: every call is refused with `no_stack`.

use std::rc::Rc;

use genesis_shared::secret::Secret;
use genesis_shared::stack::{ImageRef, Service};
use genesis_shared::timestamp::Timestamp;
use serde_json::Value;

use super::stack::{ContainerInfo, ContainerSpec, Containers, Database, EngineInfo, ImageInfo, Proxy};
use super::{EffectError, ErrorKind};

/// Stands where there is no engine, no proxy and no database of ours.
pub struct NoStack;

fn refused<T>() -> Result<T, EffectError> {
    let message = "this agent looks after no stack; its configuration has no [stack]";
    Err(EffectError::new(ErrorKind::Permanent, "no_stack", message))
}

impl Containers for NoStack {
    async fn engine(&self) -> Result<EngineInfo, EffectError> {
        refused()
    }
    async fn image(&self, _: &ImageRef) -> Result<Option<ImageInfo>, EffectError> {
        refused()
    }
    async fn pull(&self, _: &ImageRef) -> Result<ImageInfo, EffectError> {
        refused()
    }
    async fn prune(&self, _: &[ImageRef]) -> Result<u64, EffectError> {
        refused()
    }
    fn place_secret(&self, _: &str, _: u32, _: &Secret<Vec<u8>>) -> Result<(), EffectError> {
        refused()
    }
    async fn ensure_network(&self) -> Result<(), EffectError> {
        refused()
    }
    async fn container(&self, _: Service) -> Result<Option<ContainerInfo>, EffectError> {
        refused()
    }
    async fn create(&self, _: &ContainerSpec) -> Result<(), EffectError> {
        refused()
    }
    async fn start(&self, _: Service) -> Result<(), EffectError> {
        refused()
    }
    async fn stop(&self, _: Service) -> Result<Option<i64>, EffectError> {
        refused()
    }
    async fn remove(&self, _: Service) -> Result<(), EffectError> {
        refused()
    }
    async fn remove_data(&self) -> Result<(), EffectError> {
        refused()
    }
    async fn run(&self, _: Service, _: &[&str]) -> Result<String, EffectError> {
        refused()
    }
    async fn logs(&self, _: Service, _: u32, _: Option<Timestamp>, _: usize) -> Result<String, EffectError> {
        refused()
    }
}

impl Proxy for NoStack {
    fn shared_folder(&self) -> String {
        String::new()
    }
    fn keep_config(&self, _: &Value) -> Result<(), EffectError> {
        refused()
    }
    async fn config(&self) -> Result<Value, EffectError> {
        refused()
    }
    async fn load(&self, _: &Value) -> Result<(), EffectError> {
        refused()
    }
    async fn hold(&self) -> Result<(), EffectError> {
        refused()
    }
    fn release(&self) -> Result<(), EffectError> {
        refused()
    }
    fn is_held(&self) -> Result<bool, EffectError> {
        refused()
    }
    async fn in_flight(&self) -> Option<u64> {
        None
    }
    async fn certificate_expires_at(&self, _: &str) -> Option<Timestamp> {
        None
    }
}

/// A proxy where there is a stack, and the refusals of [`NoStack`] where there is none.
impl<P: Proxy> Proxy for Option<P> {
    fn shared_folder(&self) -> String {
        self.as_ref().map(P::shared_folder).unwrap_or_default()
    }
    fn keep_config(&self, config: &Value) -> Result<(), EffectError> {
        self.as_ref().map_or_else(refused, |proxy| proxy.keep_config(config))
    }
    async fn config(&self) -> Result<Value, EffectError> {
        let Some(proxy) = self else { return refused() };
        proxy.config().await
    }
    async fn load(&self, config: &Value) -> Result<(), EffectError> {
        let Some(proxy) = self else { return refused() };
        proxy.load(config).await
    }
    async fn hold(&self) -> Result<(), EffectError> {
        let Some(proxy) = self else { return refused() };
        proxy.hold().await
    }
    fn release(&self) -> Result<(), EffectError> {
        self.as_ref().map_or_else(refused, P::release)
    }
    fn is_held(&self) -> Result<bool, EffectError> {
        self.as_ref().map_or_else(refused, P::is_held)
    }
    async fn in_flight(&self) -> Option<u64> {
        self.as_ref()?.in_flight().await
    }
    async fn certificate_expires_at(&self, host: &str) -> Option<Timestamp> {
        self.as_ref()?.certificate_expires_at(host).await
    }
}

impl Database for NoStack {
    async fn is_ready(&self) -> bool {
        false
    }
    async fn running_executions(&self) -> Result<u64, EffectError> {
        refused()
    }
    async fn snapshot(&self) -> Result<(), EffectError> {
        refused()
    }
    async fn restore_snapshot(&self) -> Result<bool, EffectError> {
        refused()
    }
    async fn drop_snapshot(&self) -> Result<(), EffectError> {
        refused()
    }
    async fn dump(&self, _: &str) -> Result<(u64, String), EffectError> {
        refused()
    }
    async fn restore_dump(&self, _: &str) -> Result<(), EffectError> {
        refused()
    }
    async fn last_execution_at(&self) -> Result<Option<Timestamp>, EffectError> {
        refused()
    }
    async fn prune_executions(&self) -> Result<u64, EffectError> {
        refused()
    }
    async fn size_mb(&self) -> Result<u64, EffectError> {
        refused()
    }
}

/// An engine where there is a stack, and the refusals of [`NoStack`] where there is none.
impl<C: Containers> Containers for Option<Rc<C>> {
    async fn engine(&self) -> Result<EngineInfo, EffectError> {
        let Some(engine) = self else { return refused() };
        engine.engine().await
    }
    async fn image(&self, image: &ImageRef) -> Result<Option<ImageInfo>, EffectError> {
        let Some(engine) = self else { return refused() };
        engine.image(image).await
    }
    async fn pull(&self, image: &ImageRef) -> Result<ImageInfo, EffectError> {
        let Some(engine) = self else { return refused() };
        engine.pull(image).await
    }
    async fn prune(&self, keep: &[ImageRef]) -> Result<u64, EffectError> {
        let Some(engine) = self else { return refused() };
        engine.prune(keep).await
    }
    fn place_secret(&self, name: &str, owner_uid: u32, content: &Secret<Vec<u8>>) -> Result<(), EffectError> {
        self.as_ref().map_or_else(refused, |engine| engine.place_secret(name, owner_uid, content))
    }
    async fn ensure_network(&self) -> Result<(), EffectError> {
        let Some(engine) = self else { return refused() };
        engine.ensure_network().await
    }
    async fn container(&self, service: Service) -> Result<Option<ContainerInfo>, EffectError> {
        let Some(engine) = self else { return refused() };
        engine.container(service).await
    }
    async fn create(&self, spec: &ContainerSpec) -> Result<(), EffectError> {
        let Some(engine) = self else { return refused() };
        engine.create(spec).await
    }
    async fn start(&self, service: Service) -> Result<(), EffectError> {
        let Some(engine) = self else { return refused() };
        engine.start(service).await
    }
    async fn stop(&self, service: Service) -> Result<Option<i64>, EffectError> {
        let Some(engine) = self else { return refused() };
        engine.stop(service).await
    }
    async fn remove(&self, service: Service) -> Result<(), EffectError> {
        let Some(engine) = self else { return refused() };
        engine.remove(service).await
    }
    async fn remove_data(&self) -> Result<(), EffectError> {
        let Some(engine) = self else { return refused() };
        engine.remove_data().await
    }
    async fn run(&self, service: Service, argv: &[&str]) -> Result<String, EffectError> {
        let Some(engine) = self else { return refused() };
        engine.run(service, argv).await
    }
    async fn logs(
        &self,
        service: Service,
        lines: u32,
        since: Option<Timestamp>,
        max_bytes: usize,
    ) -> Result<String, EffectError> {
        let Some(engine) = self else { return refused() };
        engine.logs(service, lines, since, max_bytes).await
    }
}

/// A database where there is a stack, and the refusals of [`NoStack`] where there is none.
impl<D: Database> Database for Option<D> {
    async fn is_ready(&self) -> bool {
        let Some(database) = self else { return false };
        database.is_ready().await
    }
    async fn running_executions(&self) -> Result<u64, EffectError> {
        let Some(database) = self else { return refused() };
        database.running_executions().await
    }
    async fn snapshot(&self) -> Result<(), EffectError> {
        let Some(database) = self else { return refused() };
        database.snapshot().await
    }
    async fn restore_snapshot(&self) -> Result<bool, EffectError> {
        let Some(database) = self else { return refused() };
        database.restore_snapshot().await
    }
    async fn drop_snapshot(&self) -> Result<(), EffectError> {
        let Some(database) = self else { return refused() };
        database.drop_snapshot().await
    }
    async fn dump(&self, file: &str) -> Result<(u64, String), EffectError> {
        let Some(database) = self else { return refused() };
        database.dump(file).await
    }
    async fn restore_dump(&self, file: &str) -> Result<(), EffectError> {
        let Some(database) = self else { return refused() };
        database.restore_dump(file).await
    }
    async fn last_execution_at(&self) -> Result<Option<Timestamp>, EffectError> {
        let Some(database) = self else { return refused() };
        database.last_execution_at().await
    }
    async fn prune_executions(&self) -> Result<u64, EffectError> {
        let Some(database) = self else { return refused() };
        database.prune_executions().await
    }
    async fn size_mb(&self) -> Result<u64, EffectError> {
        let Some(database) = self else { return refused() };
        database.size_mb().await
    }
}
