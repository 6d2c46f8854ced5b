//! `genesisctl queue`: how much of each queue is under way, and how much may be.

use clap::Subcommand;
use genesis_shared::bundle::QUEUES;
use serde_json::Value;

use super::{Global, wait};
use crate::error::Error;
use crate::output;
use crate::progress::Progress;

/// The limit over all queues, among their names.
const STARTS: &str = "starts_per_s";

#[derive(Debug, Subcommand)]
#[command(after_help = "Example:\n  genesisctl queue list")]
pub(super) enum Verb {
    /// Show the queues: in flight, the limit, what waits
    #[command(after_help = "Example:\n  genesisctl queue list")]
    List,
    /// Set how many of a queue may be in flight, or how many jobs may start per second; 0 holds it
    #[command(after_help = "Example:\n  genesisctl queue limit template 50\n  genesisctl queue limit starts_per_s 400")]
    Limit {
        /// A queue, or starts_per_s
        #[arg(value_parser = name)]
        name: String,
        /// How many
        count: u32,
    },
}

fn name(text: &str) -> Result<String, String> {
    if text == STARTS || QUEUES.contains(&text) {
        return Ok(text.to_owned());
    }
    Err(format!("there are {} and {STARTS}", QUEUES.join(", ")))
}

pub(super) fn run(verb: Verb, global: &Global) -> Result<(), Error> {
    let client = global.client()?;
    let progress = Progress::start("asking the hub");
    let queues = wait(async {
        let queues = client.queues().await?;
        let Verb::Limit { name, count } = verb else { return Ok(queues) };
        let mut limits = queues["limits"].clone();
        limits[name.as_str()] = count.into();
        client.set_limits(&limits).await
    })?;
    drop(progress);
    global.output.result(&queues, text);
    Ok(())
}

fn text(queues: &Value) -> String {
    let mut rows = vec![["QUEUE", "IN FLIGHT", "LIMIT", "WAITING"].map(str::to_owned).to_vec()];
    rows.extend(queues["queues"].as_array().into_iter().flatten().map(|queue| {
        let name = queue["queue"].as_str().unwrap_or_default().to_owned();
        let numbers = ["in_flight", "in_flight_max", "waiting"].map(|member| queue[member].to_string());
        std::iter::once(name).chain(numbers).collect()
    }));
    format!("{}\nstarts per second: {}", output::table(&rows), queues["limits"][STARTS])
}
