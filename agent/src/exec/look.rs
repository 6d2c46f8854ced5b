//! Steps that only look: what is managed, what differs from it, how much was executed.

use genesis_shared::command::CollectMetrics;
use genesis_shared::report::Metrics;
use genesis_shared::timestamp::Timestamp;
use serde_json::json;

use super::Exec;
use crate::core::diff::{Content, Drift, Managed, Observed, diff};
use crate::core::metrics;
use crate::core::plan::Known;
use crate::core::routes;
use crate::core::step::{CredentialRow, StepOutput, WorkflowRow};
use crate::ports::stack::Proxy;
use crate::ports::{Clock, EffectError, Workflows, World};

/// `COLLECT_METRICS` without a beginning looks back a day.
const METRICS_SPAN_MS: i64 = 24 * 3600 * 1000;

/// What is managed here, by the journal.
pub(super) fn list_state(known: &Known) -> StepOutput {
    let credentials = known
        .credentials
        .values()
        .map(|row| json!({"name": row.name, "credential_type": row.credential_type, "credential_id": row.n8n_id}));
    let workflows =
        known.workflows.values().map(|row| json!({"key": row.key, "workflow_id": row.n8n_id, "active": row.active}));
    StepOutput::answer(json!({
        "credentials": credentials.collect::<Vec<_>>(),
        "workflows": workflows.collect::<Vec<_>>(),
        "generation": known.generation,
    }))
}

impl<W: World> Exec<'_, W> {
    pub(super) async fn verify(&self, known: &Known) -> Result<StepOutput, EffectError> {
        let mut drifts = self.drifts(known).await?;
        drifts.extend(self.proxy_drift(known).await);
        let managed = known.credentials.len() + known.workflows.len();
        Ok(StepOutput::answer(json!({"managed": managed, "drifts": drifts})))
    }

    async fn proxy_drift(&self, known: &Known) -> Option<Drift> {
        let wanted = routes::config(self.stack?, &known.stack);
        match self.world.proxy().config().await {
            Ok(running) => (running != wanted).then_some(Drift::ProxyDrift),
            Err(error) => {
                tracing::warn!(code = error.code, "cannot see what the proxy runs with: {error}");
                Some(Drift::ProxyDrift)
            }
        }
    }

    /// Everything that differs from what the journal says was deployed.
    pub(super) async fn drifts(&self, known: &Known) -> Result<Vec<Drift>, EffectError> {
        let n8n = self.world.workflows();
        let observed = Observed { credentials: n8n.credentials().await?, workflows: n8n.workflows().await? };
        let mut managed = Vec::new();
        for row in known.workflows.values() {
            let content = self.compare(row, known).await?;
            managed.push(Managed { row: row.clone(), content });
        }
        let credentials: Vec<CredentialRow> = known.credentials.values().cloned().collect();
        Ok(diff(&credentials, &managed, &observed))
    }

    /// Compares one workflow's content; what is gone has none, which is told by the list.
    async fn compare(&self, row: &WorkflowRow, known: &Known) -> Result<Content, EffectError> {
        let wanted = {
            let source = self.source(row.source)?;
            // A mapping that fails now did not when it was deployed: its credential is gone, which is reported.
            source
                .as_ref()
                .and_then(|command| command.deployment(&row.key))
                .and_then(|deploy| self.mapped(deploy, known).ok())
        };
        let Some((wanted, _)) = wanted else { return Ok(Content::AsDeployed) };
        let actual = self.world.workflows().workflow(&row.n8n_id).await?;
        Ok(actual.map_or(Content::AsDeployed, |actual| Content::compare(&actual, &wanted)))
    }

    pub(super) async fn collect_metrics(&self, wish: &CollectMetrics) -> Result<StepOutput, EffectError> {
        let now = self.world.clock().now();
        let since = wish.since.unwrap_or_else(|| now.plus_millis(-METRICS_SPAN_MS));
        Ok(StepOutput::answer(json!(self.metrics(since).await?)))
    }

    /// Counts the executions since then.
    ///
    /// # Errors
    /// n8n does not answer.
    pub async fn metrics(&self, since: Timestamp) -> Result<Metrics, EffectError> {
        let (executions, truncated) = self.world.workflows().executions(since).await?;
        Ok(metrics::count(&executions, since, truncated))
    }
}
