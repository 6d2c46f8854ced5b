//! Makes n8n what it should be again, without being asked: missing and changed things are put back from the very
//! commands that brought them.
//!
//! There is no saga here and nothing to undo. The id map in the journal is the intent, every repair looks before it
//! acts, and what a crash cuts short the next round finds and finishes.

use genesis_shared::id::{CredentialName, WorkflowKey};
use genesis_shared::report::{Event, Record};

use super::Exec;
use super::perform::permanent;
use crate::core::diff::{Drift, is_too_much};
use crate::core::plan::Known;
use crate::core::step::Before;
use crate::journal::{JournalError, MapChanges};
use crate::ports::{EffectError, World};

/// What one round found and did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reconciled {
    /// Nothing is managed here, or nothing differs but what is the tenant's own.
    InOrder,
    /// These differed and were put right.
    Repaired(Vec<Drift>),
    /// So much differs that an operator has to look first.
    TooMuch(Vec<Drift>),
    /// n8n could not be looked at or would not be put right; the next round tries again.
    NotNow(EffectError),
}

impl Reconciled {
    /// How much differs after it; `None` where nobody could look.
    pub fn left_over(&self) -> Option<u32> {
        match self {
            Self::InOrder | Self::Repaired(_) => Some(0),
            Self::TooMuch(drifts) => Some(u32::try_from(drifts.len()).unwrap_or(u32::MAX)),
            Self::NotNow(_) => None,
        }
    }
}

impl<W: World> Exec<'_, W> {
    /// One round. Commands come first: the caller runs it only while none is open.
    ///
    /// # Errors
    /// The journal failed.
    pub async fn reconcile(&self) -> Result<Reconciled, JournalError> {
        let known = self.journal.known()?;
        if known.credentials.is_empty() && known.workflows.is_empty() {
            return Ok(Reconciled::InOrder);
        }
        let found = match self.drifts(&known).await {
            Ok(drifts) => drifts.into_iter().filter(Drift::is_repairable).collect::<Vec<_>>(),
            Err(error) => return Ok(Reconciled::NotNow(error)),
        };
        if found.is_empty() {
            return Ok(Reconciled::InOrder);
        }
        if is_too_much(&found, known.credentials.len() + known.workflows.len()) {
            return Ok(Reconciled::TooMuch(found));
        }
        match self.repair(known, &found).await? {
            Ok(()) => Ok(Reconciled::Repaired(found)),
            Err(error) => Ok(Reconciled::NotNow(error)),
        }
    }

    /// Writes what a round came to into the outbox.
    ///
    /// # Errors
    /// The journal failed.
    pub fn report_round(&self, round: &Reconciled) -> Result<(), JournalError> {
        let list = |drifts: &[Drift]| serde_json::to_string(drifts).unwrap_or_default();
        let (code, message) = match round {
            Reconciled::InOrder | Reconciled::NotNow(_) => return Ok(()),
            Reconciled::Repaired(drifts) => ("drift_repaired", list(drifts)),
            Reconciled::TooMuch(drifts) => {
                ("drift_too_much", format!("nothing was repaired; deploy again what is to stay: {}", list(drifts)))
            }
        };
        tracing::warn!(code, "{message}");
        let mut message: String = message;
        message.truncate((0..=MESSAGE_BYTES).rev().find(|at| message.is_char_boundary(*at)).unwrap_or(0));
        self.journal.report(&Record::Event(Event { code: code.into(), message }), self.now())
    }

    async fn repair(&self, mut known: Known, found: &[Drift]) -> Result<Result<(), EffectError>, JournalError> {
        // Credentials first: one that was made anew has another id, and its workflows differ because of it.
        for drift in found {
            if let Drift::MissingCredential { name } = drift {
                match self.put_back_credential(name, &known).await {
                    Ok(changes) => self.keep(&mut known, changes)?,
                    Err(error) => return Ok(Err(error)),
                }
            }
        }
        let rest = match self.drifts(&known).await {
            Ok(drifts) => drifts,
            Err(error) => return Ok(Err(error)),
        };
        for drift in rest.iter().filter(|drift| drift.is_repairable()) {
            match self.mend(drift, &known).await {
                Ok(changes) => self.keep(&mut known, changes)?,
                Err(error) => return Ok(Err(error)),
            }
        }
        Ok(Ok(()))
    }

    fn keep(&self, known: &mut Known, changes: MapChanges) -> Result<(), JournalError> {
        self.journal.keep(&changes)?;
        known.credentials.extend(changes.credentials.into_iter().map(|row| (row.name.clone(), row)));
        known.workflows.extend(changes.workflows.into_iter().map(|row| (row.key.clone(), row)));
        Ok(())
    }

    async fn mend(&self, drift: &Drift, known: &Known) -> Result<MapChanges, EffectError> {
        match drift {
            Drift::MissingWorkflow { key } | Drift::ModifiedWorkflow { key } | Drift::StaleReferences { key } => {
                self.put_back_workflow(key, known).await
            }
            Drift::UnexpectedActive { key } => self.deactivate(key, known).await.map(|_| MapChanges::default()),
            Drift::UnexpectedInactive { key } => self.activate(key, known).await.map(|_| MapChanges::default()),
            Drift::MissingCredential { .. } | Drift::UnmanagedWorkflow { .. } | Drift::ProxyDrift => {
                Ok(MapChanges::default())
            }
        }
    }

    async fn put_back_credential(&self, name: &CredentialName, known: &Known) -> Result<MapChanges, EffectError> {
        let row = known.credentials.get(name).ok_or_else(|| lost(name.as_str()))?;
        let source = self.source(row.source)?;
        let Some(inject) = source.as_ref().and_then(|command| command.injection(name)) else {
            return Err(lost(name.as_str()));
        };
        let followers = known.workflows.keys().cloned().collect();
        let output = self.put_credential(inject, row.source, &Before::default(), known, &followers).await?;
        Ok(MapChanges { credentials: output.credential.into_iter().collect(), ..MapChanges::default() })
    }

    async fn put_back_workflow(&self, key: &WorkflowKey, known: &Known) -> Result<MapChanges, EffectError> {
        let row = known.workflows.get(key).ok_or_else(|| lost(key.as_str()))?;
        let source = self.source(row.source)?;
        let Some(deploy) = source.as_ref().and_then(|command| command.deployment(key)) else {
            return Err(lost(key.as_str()));
        };
        let output = self.put_workflow(deploy, row.source, known).await?;
        let mut now_known = known.clone();
        now_known.workflows.extend(output.workflow.iter().map(|row| (row.key.clone(), row.clone())));
        self.check_references(deploy, &now_known).await?;
        if row.active {
            self.activate(key, &now_known).await?;
        }
        Ok(MapChanges { workflows: output.workflow.into_iter().collect(), ..MapChanges::default() })
    }
}

/// Longest message of an event in bytes.
const MESSAGE_BYTES: usize = genesis_shared::limits::MESSAGE_BYTES_MAX;

fn lost(what: &str) -> EffectError {
    permanent("cannot_restore", &format!("the journal does not hold what {what} was made from; deploy it again"))
}
