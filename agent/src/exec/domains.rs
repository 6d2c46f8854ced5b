//! Host names -> the proxy: looked up first, then loaded, then waited for until their certificates are there.

use std::net::IpAddr;
use std::time::Duration;

use genesis_shared::host::HostName;
use genesis_shared::limits::CERTIFICATE_WAIT_S;
use serde_json::{Value, json};

use super::Exec;
use super::perform::permanent;
use crate::core::plan::Known;
use crate::core::routes;
use crate::core::stack::{StackRow, StackSettings};
use crate::core::step::StepOutput;
use crate::ports::stack::Proxy;
use crate::ports::{Clock, EffectError, ErrorKind, Names, World};

/// Between two looks at whether a certificate has come.
const CERTIFICATE_EVERY: Duration = Duration::from_secs(1);
/// How long a proxy that was just started may take to answer; on a busy machine it is there within two.
const PROXY_STARTS_S: u64 = 10;
/// Between two looks at whether it does.
const PROXY_EVERY: Duration = Duration::from_millis(100);

impl<W: World> Exec<'_, W> {
    pub(super) async fn put_domains(
        &self,
        stack: &StackRow,
        hosts: &[HostName],
        check: &[HostName],
        known: &Known,
    ) -> Result<StepOutput, EffectError> {
        let settings = self.stack_settings()?;
        for host in check {
            self.must_point_here(host, settings).await?;
        }
        self.world.proxy().load(&routes::config(settings, stack)).await?;
        let deadline = self.deadline(CERTIFICATE_WAIT_S);
        let mut domains = Vec::new();
        for host in hosts {
            domains.push(self.domain_state(host, settings, stack, deadline).await);
        }
        let answer = json!({
            "domains": domains,
            "primary": stack.primary_host(settings),
            "changed": known.stack.domains != stack.domains,
        });
        let stack = StackRow { domains: stack.domains.clone(), ..known.stack.clone() };
        Ok(StepOutput { stack: Some(stack), ..StepOutput::answer(answer) })
    }

    pub(super) async fn undo_domains(&self, base: &Known) -> Result<(), EffectError> {
        let settings = self.stack_settings()?;
        self.world.proxy().load(&routes::config(settings, &base.stack)).await
    }

    async fn domain_state(
        &self,
        host: &HostName,
        settings: &StackSettings,
        stack: &StackRow,
        deadline: Duration,
    ) -> Value {
        if !stack.hosts(settings).contains(&host.as_str()) {
            return json!({"host": host, "certificate": "removed"});
        }
        loop {
            if let Some(expires_at) = self.world.proxy().certificate_expires_at(host.as_str()).await {
                return json!({"host": host, "certificate": "issued", "certificate_expires_at": expires_at});
            }
            if self.is_past(deadline) {
                // The proxy goes on asking for it; the heartbeat tells when it is there.
                return json!({"host": host, "certificate": "pending"});
            }
            self.world.clock().sleep(CERTIFICATE_EVERY).await;
        }
    }

    /// An authority calls the host to see that it is ours, and counts every failure against the domain.
    async fn must_point_here(&self, host: &HostName, settings: &StackSettings) -> Result<(), EffectError> {
        let Some(own) = settings.public_ip else {
            let message = "the droplet's public address is not known, so nobody can tell whether a host name leads \
                           here; set droplet_ip in the agent's configuration";
            return Err(permanent("no_droplet_ip", message));
        };
        let found = self.world.names().addresses(host.as_str()).await?;
        if !found.is_empty() && found.iter().all(|address| *address == own) {
            return Ok(());
        }
        let list: Vec<String> = found.iter().map(IpAddr::to_string).collect();
        let where_to = if list.is_empty() { "nowhere".to_owned() } else { list.join(", ") };
        let message = format!(
            "{host} leads to {where_to}, this droplet is {own}; let its owner point its A record to {own} and nothing \
             else (no AAAA record, no CNAME to another place), wait until that is known, and send the command again"
        );
        Err(permanent("domain_not_pointing_here", &message))
    }

    /// Makes the proxy run with what it should, if it answers; answers whether it had to be told.
    pub(super) async fn put_proxy_right(
        &self,
        settings: &StackSettings,
        stack: &StackRow,
    ) -> Result<bool, EffectError> {
        let (proxy, wanted) = (self.world.proxy(), routes::config(settings, stack));
        let deadline = self.deadline(PROXY_STARTS_S);
        let running = loop {
            match proxy.config().await {
                Err(error) if error.kind == ErrorKind::Transient && !self.is_past(deadline) => {
                    self.world.clock().sleep(PROXY_EVERY).await;
                }
                other => break other?,
            }
        };
        if running == wanted {
            // What a restart would run with may have been edited, too.
            return proxy.keep_config(&wanted).map(|()| false);
        }
        proxy.load(&wanted).await.map(|()| true)
    }
}
