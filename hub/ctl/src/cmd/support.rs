//! `genesisctl support`: lets a support key in for minutes.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use genesis_shared::grant::{Grant, Level};
use genesis_shared::id::WorkspaceId;
use serde_json::json;

use super::Global;
use crate::access::{self, Wish};
use crate::ceremony;
use crate::error::Error;
use crate::files;
use crate::keys::SigningKey;
use crate::output::Format;
use crate::sign::Document;
use crate::system;

const GRANT: &str = "\
Levels: read_only (30 minutes: looks), debug (60: looks, RESTART_N8N), write (30, two operators: looks, restarts,
changes), emergency (15, two operators: everything that does not destroy). Operators need the scope support=LEVEL in
the trust root. Access ends by itself, also while the hub is down.

Example:
  genesisctl support grant --key ops-1.key --support sup-1.pub --workspace ID --level write --ticket SUP-7 \\
    --reason \"leads stuck since noon\" --out grant.json
  genesisctl support sign --key manager.key grant.json
  genesisctl bundle sign --key sup-1.key --grant grant.json spec.json --out b.jws";

#[derive(Debug, Subcommand)]
#[command(after_help = GRANT)]
pub(super) enum Verb {
    /// Let a support key in
    #[command(after_help = GRANT)]
    Grant(Give),
    /// Add one more operator's signature; done on that operator's machine
    #[command(after_help = "Example:\n  genesisctl support sign --key manager.key grant.json")]
    Sign {
        /// Private file of an operator's key
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        /// The grant; the signature is added to this file
        file: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(super) struct Give {
    /// Private file of an operator's key; repeat it for more signatures
    #[arg(long = "key", value_name = "FILE", required = true)]
    keys: Vec<PathBuf>,
    /// The support key: a public file, or KID=KEY
    #[arg(long, value_name = "FILE.pub|KID=KEY")]
    support: String,
    /// The one tenant
    #[arg(long, value_name = "ID")]
    workspace: WorkspaceId,
    /// read_only, debug, write or emergency
    #[arg(long)]
    level: Level,
    /// The ticket, for the audit
    #[arg(long)]
    ticket: String,
    /// Why, for the audit
    #[arg(long)]
    reason: String,
    /// For how many minutes; as long as the level allows when not given
    #[arg(long, value_name = "N")]
    minutes: Option<i64>,
    /// File for the grant; never overwritten
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

pub(super) fn run(verb: Verb, global: &Global) -> Result<(), Error> {
    match verb {
        Verb::Grant(give) => {
            let keys = give.keys.iter().map(|path| SigningKey::load(path)).collect::<Result<Vec<_>, _>>()?;
            let support = ceremony::named_key(&give.support)?;
            let Give { workspace, level, ticket, reason, minutes, out, .. } = give;
            let wish = Wish { ticket, reason, workspace, level, support, minutes };
            let (grant, document) = access::grant(wish, &keys, system::now())?;
            files::create_public(&out, format!("{}\n", document.to_text()).as_bytes())?;
            show(&grant, &document, global.output);
        }
        Verb::Sign { key, file } => {
            let mut document = Document::parse(&files::read(&file)?)?;
            let grant = access::add_signature(&mut document, &SigningKey::load(&key)?)?;
            files::replace(&file, format!("{}\n", document.to_text()).as_bytes())?;
            show(&grant, &document, global.output);
        }
    }
    Ok(())
}

fn show(grant: &Grant, document: &Document, format: Format) {
    let signed = document.claimed_signers();
    let result = json!({ "grant": grant, "signed_by": signed, "complete": signed.len() >= grant.level.signers() });
    format.result(&result, |_| access::in_words(grant, signed.len()));
}
