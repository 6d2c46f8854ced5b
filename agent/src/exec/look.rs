//! Steps that only look: what is managed, what differs from it, how much was executed.

use std::collections::BTreeMap;

use genesis_shared::command::{CollectMetrics, Command};
use serde_json::json;

use super::Exec;
use crate::core::diff::{Desired, Drift, Observed, diff};
use crate::core::metrics;
use crate::core::plan::Known;
use crate::core::step::{CredentialRow, StepOutput};
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
    }))
}

impl<W: World> Exec<'_, W> {
    pub(super) async fn verify(&self, known: &Known) -> Result<StepOutput, EffectError> {
        let drifts = self.drifts(known).await?;
        let managed = known.credentials.len() + known.workflows.len();
        Ok(StepOutput::answer(json!({"managed": managed, "drifts": drifts})))
    }

    /// Everything that differs from what the journal says was deployed.
    pub(super) async fn drifts(&self, known: &Known) -> Result<Vec<Drift>, EffectError> {
        let n8n = self.world.workflows();
        let mut observed = Observed {
            credentials: n8n.credentials().await?,
            workflows: n8n.workflows().await?,
            bodies: BTreeMap::new(),
        };
        let mut desired = Vec::new();
        for row in known.workflows.values() {
            if let Some(body) = n8n.workflow(&row.n8n_id).await? {
                observed.bodies.insert(row.n8n_id.clone(), body);
            }
            let source = self.source(row.source)?;
            let body = match source.as_ref().and_then(Command::deployment) {
                // A mapping that fails now did not when it was deployed: its credential is gone, which is reported.
                Some(deploy) => self.mapped(deploy, known).ok().map(|(body, _)| body),
                None => None,
            };
            desired.push(Desired { row: row.clone(), body });
        }
        let credentials: Vec<CredentialRow> = known.credentials.values().cloned().collect();
        Ok(diff(&credentials, &desired, &observed))
    }

    pub(super) async fn collect_metrics(&self, wish: &CollectMetrics) -> Result<StepOutput, EffectError> {
        let now = self.world.clock().now();
        let since = wish.since.unwrap_or_else(|| now.plus_millis(-METRICS_SPAN_MS));
        let (executions, truncated) = self.world.workflows().executions(since).await?;
        let metrics = metrics::count(&executions, since, truncated);
        Ok(StepOutput::answer(json!(metrics)))
    }
}
