//! `genesisctl credential` and `genesisctl variables`: seal secrets to one droplet.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use genesis_shared::command::Action;
use genesis_shared::id::{CredentialName, CredentialType, DropletId, PublicKey, WorkflowKey, WorkspaceId};
use genesis_shared::secret::Secret;
use serde::Serialize;

use super::{Global, wait};
use crate::error::Error;
use crate::files;
use crate::output::Format;
use crate::progress::Progress;
use crate::sealing::{self, Recipient};
use crate::system;

const CREDENTIAL: &str = "\
Prints the INJECT_CREDENTIAL command to put into a spec, with --rotate a ROTATE_CREDENTIAL: new data for a
credential that is there already. Its payload is also an entry of `credentials` in an APPLY_STATE.

Example:
  genesisctl credential seal --name gmail --type gmailOAuth2 --droplet 4711 data.json
  echo '{\"name\":\"X-Key\",\"value\":\"s3cret\"}' | genesisctl credential seal --name dashboard \\
    --type httpHeaderAuth --recipient KEY --workspace 0192f0a1-1111-7000-8000-000000000001 -";

const VARIABLES: &str = "\
Prints the value of `sealed_variables` of that workflow's DEPLOY_WORKFLOW.

Example:
  echo '{\"YOUR_WEBHOOK_TOKEN\":\"s3cret\"}' | genesisctl variables seal --workflow email-1 --droplet 4711 -";

#[derive(Debug, Subcommand)]
#[command(after_help = CREDENTIAL)]
pub(super) enum CredentialVerb {
    /// Seal a credential's data
    #[command(after_help = CREDENTIAL)]
    Seal {
        /// The credential's name, which workflows are bound to
        #[arg(long)]
        name: CredentialName,
        /// n8n's type, for example smtp
        #[arg(long = "type", value_name = "TYPE")]
        credential_type: CredentialType,
        /// The credential is there already: refuse to make a new one
        #[arg(long)]
        rotate: bool,
        #[command(flatten)]
        to: To,
        /// n8n's data object for that type, `-` for standard input
        #[arg(value_name = "DATA.json")]
        file: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
#[command(after_help = VARIABLES)]
pub(super) enum VariablesVerb {
    /// Seal a JSON object of texts
    #[command(after_help = VARIABLES)]
    Seal {
        /// The workflow's key
        #[arg(long, value_name = "KEY")]
        workflow: WorkflowKey,
        #[command(flatten)]
        to: To,
        /// Variable -> value, `-` for standard input
        #[arg(value_name = "DATA.json")]
        file: PathBuf,
    },
}

/// Whom to seal to.
#[derive(Debug, Args)]
pub(super) struct To {
    /// Ask the hub for this droplet's sealing key and workspace
    #[arg(long, value_name = "ID", required_unless_present = "recipient")]
    droplet: Option<DropletId>,
    /// The sealing key; with --droplet the hub's answer must be this very key
    #[arg(long, value_name = "KEY", allow_hyphen_values = true)]
    recipient: Option<PublicKey>,
    /// The workspace; needed with --recipient alone
    #[arg(long, value_name = "ID", required_unless_present = "droplet")]
    workspace: Option<WorkspaceId>,
}

impl To {
    fn recipient(&self, global: &Global) -> Result<Recipient, Error> {
        let refused = |what: &str, why: &str| Err(Error::Argument { what: what.to_owned(), why: why.to_owned() });
        let Some(id) = &self.droplet else {
            // The command line's rules ask for both where no droplet is named.
            let (Some(key), Some(workspace)) = (self.recipient, self.workspace) else {
                return refused("--recipient", "needs --workspace as well, or --droplet instead");
            };
            return Ok(Recipient { workspace, key });
        };
        let client = global.client()?;
        let progress = Progress::start("asking the hub for the droplet's sealing key");
        let droplet = wait(client.droplet(id))?;
        drop(progress);
        let Some(key) = droplet.sealing_key else {
            return refused("--droplet", "has not enrolled yet, so there is no key to seal to");
        };
        // A hub that was broken into could name a key of its own; who knows the right one can say so.
        if self.recipient.is_some_and(|expected| expected != key) {
            return refused("--recipient", "is not the key that the hub gives for this droplet; nothing was sealed");
        }
        if self.workspace.is_some_and(|expected| expected != droplet.workspace_id) {
            return refused("--workspace", "is not this droplet's; nothing was sealed");
        }
        Ok(Recipient { workspace: droplet.workspace_id, key })
    }
}

pub(super) fn run(verb: CredentialVerb, global: &Global) -> Result<(), Error> {
    let CredentialVerb::Seal { name, credential_type, rotate, to, file } = verb;
    let data = Secret::new(files::read(&file)?);
    let recipient = to.recipient(global)?;
    let mut command = sealing::credential(recipient, &name, &credential_type, &data, system::random()?)?;
    if rotate {
        command.action = Action::RotateCredential.name().to_owned();
    }
    print(global.output, &command);
    Ok(())
}

pub(super) fn run_variables(verb: VariablesVerb, global: &Global) -> Result<(), Error> {
    let VariablesVerb::Seal { workflow, to, file } = verb;
    let data = Secret::new(files::read(&file)?);
    let recipient = to.recipient(global)?;
    print(global.output, &sealing::variables(recipient, &workflow, &data, system::random()?)?);
    Ok(())
}

/// JSON either way, to be pasted; for people it has lines.
fn print(format: Format, value: &impl Serialize) {
    format.result(value, |value| serde_json::to_string_pretty(value).expect("a result has a JSON form"));
}
