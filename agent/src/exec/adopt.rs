//! Before a command that needs them: the credentials that n8n holds under this agent's marker while the id map names
//! ones that are gone.
//!
//! A round of repair makes a credential anew and notes its id when n8n has answered. Where that answer never came, or
//! the agent died first, the map is behind until the next round. A command that went by the map would send n8n an id
//! that it does not know (which it re-points by name, or keeps as it is), or delete what is not there and leave the
//! other one.

use genesis_shared::limits::STEP_ATTEMPTS_MAX;

use super::observe::managed;
use super::{Exec, UNKNOWN_CONTENT, step_error};
use crate::core::plan::{Known, Plan};
use crate::core::step::{CredentialRow, Step, StepError};
use crate::journal::{JournalError, MapChanges};
use crate::ports::{CredentialInfo, EffectError, ErrorKind, Workflows, World};

impl<W: World> Exec<'_, W> {
    /// Brings the id map up to what is there, as far as the plan needs it. What is missing altogether is a round's matter.
    ///
    /// # Errors
    /// The journal failed. The inner error ends the command: n8n could not be looked at, as often as a step would try.
    pub(super) async fn adopt(&self, plan: &Plan, known: &mut Known) -> Result<Result<(), StepError>, JournalError> {
        if known.credentials.is_empty() || !plan.steps.iter().any(Step::needs_credentials) {
            return Ok(Ok(()));
        }
        let all = match self.listed_credentials().await {
            Ok(all) => all,
            Err((error, attempts)) => return Ok(Err(step_error(&error, attempts, &[]))),
        };
        let adopted = |row: &CredentialRow| {
            let info = managed(&all, &row.name, &row.credential_type, known).filter(|info| info.id != row.n8n_id)?;
            // What it was made with is not seen: whoever puts the same data writes them.
            Some(CredentialRow { n8n_id: info.id.clone(), fingerprint: UNKNOWN_CONTENT.into(), ..row.clone() })
        };
        let adopted: Vec<CredentialRow> = known.credentials.values().filter_map(adopted).collect();
        for row in &adopted {
            tracing::warn!(credential = %row.name, id = row.n8n_id, "taken on: its making was never noted");
            known.credentials.insert(row.name.clone(), row.clone());
        }
        if !adopted.is_empty() {
            self.journal.keep(&MapChanges { credentials: adopted, ..MapChanges::default() })?;
        }
        Ok(Ok(()))
    }

    /// As persistent as a step; the number of tries comes with the error.
    async fn listed_credentials(&self) -> Result<Vec<CredentialInfo>, (EffectError, u32)> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            match self.world.workflows().credentials().await {
                Ok(all) => return Ok(all),
                Err(error) if error.kind == ErrorKind::Permanent || attempt >= STEP_ATTEMPTS_MAX => {
                    return Err((error, attempt));
                }
                Err(error) => self.wait("look at the credentials".to_owned(), &error, attempt, false, &[]).await,
            }
        }
    }
}
