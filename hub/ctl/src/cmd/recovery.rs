//! `genesisctl recovery`: opens with the recovery key what a droplet deposited for it.

use std::path::PathBuf;

use clap::Subcommand;
use genesis_shared::id::DropletId;
use genesis_shared::report::EscrowContent;
use genesis_shared::seal::Context;
use serde_json::json;

use super::{Global, wait};
use crate::error::Error;
use crate::files;
use crate::keys::PrivateKey;
use crate::progress::Progress;

const OPEN: &str = "\
Writes the files that the agent of a new droplet takes over when they lie in the folder `secrets` of its data folder
before its first start; then the tenant's database can be used there. Keep the folder offline, and drill this once a
year: a deposit that nobody can open is none.

Example:
  genesisctl recovery open --key recovery-1.key --droplet 412 --out recovered";

#[derive(Debug, Subcommand)]
#[command(after_help = OPEN)]
pub(super) enum Verb {
    /// Open a droplet's latest deposit
    #[command(after_help = OPEN)]
    Open {
        /// Private file of the recovery key
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        /// The droplet
        #[arg(long, value_name = "ID")]
        droplet: DropletId,
        /// New folder for the secrets
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
}

pub(super) fn run(verb: Verb, global: &Global) -> Result<(), Error> {
    let Verb::Open { key, droplet, out } = verb;
    let opening = PrivateKey::load(&key)?.opening()?;
    let client = global.client()?;
    let progress = Progress::start("asking the hub for the droplet's deposit");
    let (view, escrow) = wait(async { Ok((client.droplet(&droplet).await?, client.escrow(&droplet).await?)) })?;
    drop(progress);
    let content = opening.open(&escrow.sealed, &Context::escrow(view.workspace_id, &droplet))?;
    let what = || "the deposit".to_owned();
    let content: EscrowContent =
        genesis_shared::json::parse_as(content.expose()).map_err(|source| Error::Json { what: what(), source })?;
    files::create_folder(&out)?;
    for (name, text) in
        [("n8n-encryption-key", &content.n8n_encryption_key), ("postgres-password", &content.postgres_password)]
    {
        files::create_private(&out.join(name), text.as_bytes())?;
    }
    let result = json!({ "droplet_id": droplet, "recovery": escrow.recovery, "folder": out });
    global.output.result(&result, |_| {
        format!("opened with {}: {} holds n8n-encryption-key and postgres-password", escrow.recovery, out.display())
    });
    Ok(())
}
