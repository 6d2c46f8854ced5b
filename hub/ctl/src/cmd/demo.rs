//! `genesisctl demo`: a whole ignition on this machine.

use std::path::PathBuf;

use genesis_shared::chain::Chain;
use serde_json::json;

use super::wait;
use crate::demo::timeline::{Timeline, Voice};
use crate::demo::{self, Options};
use crate::error::Error;
use crate::output::{self, Format};

const EXAMPLE: &str = "\
Example:
  genesisctl demo
  genesisctl demo --n8n-url http://127.0.0.1:5678 --json";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLE)]
pub(super) struct Args {
    /// Drive this n8n, which nobody or an earlier demo has set up; the built-in stand-in when not given
    #[arg(long, value_name = "URL")]
    n8n_url: Option<String>,
    /// E-mail address of the owner that the agent makes in n8n
    #[arg(long, value_name = "EMAIL")]
    n8n_owner_email: Option<String>,
    /// Keep the folder with keys, configuration and logs
    #[arg(long)]
    keep: bool,
    /// Work in this new folder instead of a temporary one
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Make the last line of standard output one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: Args, format: Format) -> Result<(), Error> {
    let voice = match format {
        Format::Text => Voice::Stdout,
        Format::Json => Voice::Stderr,
    };
    let options =
        Options { n8n_url: args.n8n_url, n8n_owner_email: args.n8n_owner_email, keep: args.keep, dir: args.dir };
    let timeline = Timeline::new(voice);
    let report = wait(demo::run(&options, &timeline));
    drop(timeline);
    let as_json = args.json || format == Format::Json;
    let report = match report {
        Ok(report) => report,
        Err(error) => {
            // Who reads the last line finds the reason there too.
            if as_json {
                let error = json!({ "code": error.code(), "message": Chain(&error).to_string() });
                output::line(&json!({ "error": error }).to_string());
            }
            return Err(error);
        }
    };
    if as_json {
        output::line(&serde_json::to_string(&report).expect("a report has a JSON form"));
    } else {
        output::line(&report.to_text());
    }
    report.check()
}
