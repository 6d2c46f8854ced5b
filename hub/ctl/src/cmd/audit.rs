//! `genesisctl audit`: takes audit chains out of the hub, and finds out whether somebody has touched them.

use std::path::PathBuf;

use clap::Subcommand;
use genesis_shared::audit::Expected;
use genesis_shared::id::PublicKey;
use serde_json::json;

use super::{Global, wait};
use crate::audit::{self, Keys, Verdict};
use crate::ceremony;
use crate::client;
use crate::error::Error;
use crate::files;
use crate::progress::Progress;

const EXAMPLE: &str = "\
Example, whether the hub has rewritten its own chain:
  genesisctl audit export --chain hub --out hub.jsonl --hub https://hub.example.com
  genesis-agent audit > droplet.jsonl                    (on any droplet; it keeps what the hub signed)
  genesisctl audit verify hub.jsonl --checkpoint droplet.jsonl --trust-root root.json
Example, whether the hub shows all that a droplet has noted:
  genesisctl audit export --chain 412001 --out 412001.jsonl --hub https://hub.example.com
  genesisctl audit verify 412001.jsonl --checkpoint droplet.jsonl --identity-key KEY";

#[derive(Debug, Subcommand)]
#[command(after_help = EXAMPLE)]
pub(super) enum Verb {
    /// Write a chain with its checkpoints into a new file, one JSON value a line
    #[command(
        after_help = "Example:\n  genesisctl audit export --chain hub --out hub.jsonl --hub https://hub.example.com"
    )]
    Export {
        /// `hub`, or a droplet's id
        #[arg(long, value_name = "hub|ID")]
        chain: String,
        /// The new file
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Say whether a chain is as it was written, or where and how it was changed
    #[command(after_help = EXAMPLE)]
    Verify {
        /// The chain, as `audit export` or `genesis-agent audit` wrote it
        file: PathBuf,
        /// A file with checkpoints that somebody else kept; repeat it
        #[arg(long = "checkpoint", value_name = "FILE")]
        checkpoints: Vec<PathBuf>,
        /// A trust root whose delivery keys sign the hub's checkpoints; repeat it
        #[arg(long = "trust-root", value_name = "FILE")]
        roots: Vec<PathBuf>,
        /// The droplet's identity key, which signs its checkpoints; `genesis-agent audit` prints it; repeat it
        #[arg(long = "identity-key", value_name = "KEY", allow_hyphen_values = true)]
        identities: Vec<PublicKey>,
        /// How often the chain may begin: once, and once more for each time that the droplet lost its journal
        #[arg(long, default_value_t = 1, value_name = "COUNT")]
        runs: u64,
        /// The beginning may be missing, as in what `genesis-agent audit` prints of a long chain
        #[arg(long)]
        pruned: bool,
    },
}

pub(super) fn run(verb: Verb, global: &Global) -> Result<(), Error> {
    match verb {
        Verb::Export { chain, out } => export(&chain, &out, global),
        Verb::Verify { file, checkpoints, roots, identities, runs, pruned } => {
            let roots = roots.iter().map(|path| ceremony::load(path)).collect::<Result<_, _>>()?;
            let keys = Keys { roots, identities };
            let verdict = audit::verify(&file, &checkpoints, &keys, Expected { pruned, runs })?;
            global.output.result(&verdict, text);
            Ok(())
        }
    }
}

fn export(chain: &str, out: &PathBuf, global: &Global) -> Result<(), Error> {
    let client = global.client()?;
    let progress = Progress::start("reading the chain");
    let filter = [("chain", chain)];
    let lines = wait(client::all_pages(&filter, async |query| client.audit(query).await))?;
    drop(progress);
    files::create_public(out, audit::to_text(&lines).as_bytes())?;
    let result = json!({"chain": chain, "entries": audit::count(&lines), "file": out});
    global.output.result(&result, |_| format!("{} entries of {chain} in {}", audit::count(&lines), out.display()));
    Ok(())
}

fn text(verdict: &Verdict) -> String {
    let Verdict { chain, head, checkpoints, checked, of_others } = verdict;
    let confirmed = match head.confirmed {
        Some(seq) => format!("up to entry {seq}, by {checkpoints} checkpoints, {checked} with checked signatures"),
        None => "by no checkpoint: whoever keeps the chain could have rewritten all of it".to_owned(),
    };
    let mut lines = vec![
        "OK: nobody has touched it".to_owned(),
        format!("chain      {chain}"),
        format!("entries    {} in {} run(s)", head.entries, head.runs),
        format!("head       {} {}", head.seq, head.hash),
        format!("confirmed  {confirmed}"),
    ];
    if *of_others > 0 {
        lines.push(format!("left out   {of_others} checkpoints of other chains"));
    }
    lines.join("\n")
}
