//! The ports of a stack that nobody looks after: every call is refused with `no_stack`.

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
