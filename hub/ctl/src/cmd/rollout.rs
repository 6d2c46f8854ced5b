//! `genesisctl rollout`: follows and steers rollouts.

use clap::Subcommand;
use genesis_shared::id::BundleId;
use serde_json::Value;

use super::{Global, wait};
use crate::error::Error;
use crate::output;
use crate::progress::Progress;

#[derive(Debug, Subcommand)]
#[command(after_help = "Example:\n  genesisctl rollout list")]
pub(super) enum Verb {
    /// List the latest rollouts
    #[command(after_help = "Example:\n  genesisctl rollout list")]
    List,
    /// Show one: its waves, and how many succeeded, failed, are missing
    #[command(after_help = "Example:\n  genesisctl rollout show 0192f0a1-1111-7000-8000-000000000002")]
    Show {
        /// The rollout, which is its bundle's id
        id: BundleId,
    },
    /// Release no further wave until it is resumed
    #[command(after_help = "Example:\n  genesisctl rollout pause 0192f0a1-1111-7000-8000-000000000002")]
    Pause {
        /// The rollout
        id: BundleId,
    },
    /// Go on over what has failed so far
    #[command(after_help = "Example:\n  genesisctl rollout resume 0192f0a1-1111-7000-8000-000000000002")]
    Resume {
        /// The rollout
        id: BundleId,
    },
    /// Withdraw what was not handed out, and roll back where that was signed with it
    #[command(after_help = "Example:\n  genesisctl rollout abort 0192f0a1-1111-7000-8000-000000000002")]
    Abort {
        /// The rollout
        id: BundleId,
    },
}

pub(super) fn run(verb: Verb, global: &Global) -> Result<(), Error> {
    let client = global.client()?;
    let progress = Progress::start("asking the hub");
    let rollouts = wait(async {
        match verb {
            Verb::List => client.rollouts().await,
            Verb::Show { id } => client.rollout(id).await.map(|rollout| vec![rollout]),
            Verb::Pause { id } => client.steer_rollout(id, "pause").await.map(|rollout| vec![rollout]),
            Verb::Resume { id } => client.steer_rollout(id, "resume").await.map(|rollout| vec![rollout]),
            Verb::Abort { id } => client.steer_rollout(id, "abort").await.map(|rollout| vec![rollout]),
        }
    })?;
    drop(progress);
    global.output.result(&rollouts, |rollouts| table(rollouts));
    Ok(())
}

fn table(rollouts: &[Value]) -> String {
    let heads = ["ROLLOUT", "PHASE", "WAVE", "RELEASED", "SUCCEEDED", "FAILED", "MISSING", "WHY"];
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    rows.extend(rollouts.iter().map(|rollout| {
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let counts = &rollout["counts"];
        let waves = rollout["waves"].as_array().map_or(0, Vec::len);
        vec![
            text(&rollout["rollout_id"]),
            text(&rollout["phase"]["phase"]),
            format!("{} of {waves}", rollout["wave"]),
            text(&counts["released"]),
            text(&counts["succeeded"]),
            text(&counts["failed"]),
            text(&counts["missing"]),
            rollout["phase"]["why"].as_str().unwrap_or_default().to_owned(),
        ]
    }));
    output::table(&rows)
}
