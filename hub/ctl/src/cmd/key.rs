//! `genesisctl key`: makes key files.

use std::path::PathBuf;

use clap::Subcommand;
use genesis_shared::id::KeyId;
use serde_json::json;

use crate::error::Error;
use crate::keys::{Kind, PrivateKey};
use crate::output::Format;
use crate::system;

#[derive(Debug, Subcommand)]
#[command(after_help = "Example:\n  genesisctl key new --kind signing --kid ops-1 --out keys")]
pub(super) enum Verb {
    /// Make KID.key (private, 0600, never overwritten) and KID.pub (to be handed around)
    #[command(after_help = "Example:\n  genesisctl key new --kind signing --kid ops-1 --out keys")]
    New {
        /// Signing: Ed25519, for operators and root keys. Recovery: X25519, kept offline
        #[arg(long, value_enum)]
        kind: Kind,
        /// The key's name, for example ops-1
        #[arg(long)]
        kid: KeyId,
        /// Folder for the two files; made if it is not there
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
}

pub(super) fn run(verb: Verb, format: Format) -> Result<(), Error> {
    let Verb::New { kind, kid, out } = verb;
    let key = PrivateKey::new(kid, kind, system::random()?);
    let (private, public) = key.save(&out)?;
    let file = key.public()?;
    let result = json!({
        "kid": file.kid, "kind": file.kind, "public_key": file.public_key, "private_file": private, "public_file": public,
    });
    format.result(&result, |_| {
        format!("{} {}\n  private  {}\n  public   {}", file.kid, file.public_key, private.display(), public.display())
    });
    Ok(())
}
