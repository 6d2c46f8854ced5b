//! `genesisctl droplet`: registers and shows droplets.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use genesis_shared::id::{DropletId, WorkspaceId};
use genesis_shared::life::ResumeRequest;
use genesis_shared::wire::{DropletCreate, DropletView, ProvisioningToken};

use super::{Global, wait};
use crate::client;
use crate::error::Error;
use crate::files;
use crate::first_boot::Fleet;
use crate::output;
use crate::progress::Progress;

const ADD: &str = "\
Example:
  genesisctl droplet add --workspace 0192f0a1-1111-7000-8000-000000000001 --droplet-id 4711 \\
    --region fra1 --label ring=canary --token-out token
  genesisctl droplet add --workspace 0192f0a1-1111-7000-8000-000000000001 --droplet-id 4711 --user-data >ud.yaml

The user-data is rendered by the hub, if its configuration has [first_boot], or here from --first-boot FILE with the same
keys; then the pin of the trust root in it is yours. It holds the token, which is used once and ends after 15 minutes.";

const RESUME: &str = "\
Example:
  genesisctl droplet show 4711
  genesisctl droplet resume 4711 --reason 'restored from the backup of Monday'

What the droplet did after its snapshot and reported is not done again. What it has journaled since is taken, also under
numbers that were used before. A clone that speaks again brings the quarantine back.";

#[derive(Debug, Subcommand)]
#[command(after_help = ADD)]
pub(super) enum Verb {
    /// Register a droplet and get its one-time provisioning token
    #[command(after_help = ADD)]
    Add(Add),
    /// Get a new provisioning token for a droplet that has to enrol again; earlier ones end
    #[command(after_help = "Example:\n  genesisctl droplet token 4711")]
    Token {
        /// The droplet
        id: DropletId,
    },
    /// List droplets
    #[command(after_help = "Example:\n  genesisctl droplet list --state ACTIVE_HEALTHY --label ring=canary")]
    List {
        /// Only those in this state
        #[arg(long)]
        state: Option<String>,
        /// Only those in this region
        #[arg(long)]
        region: Option<String>,
        /// Only those with this label
        #[arg(long, value_name = "NAME=VALUE", value_parser = label)]
        label: Option<(String, String)>,
    },
    /// Show one droplet with its latest health report
    #[command(after_help = "Example:\n  genesisctl droplet show 4711")]
    Show {
        /// The droplet
        id: DropletId,
    },
    /// End the quarantine of a droplet that was restored or cloned; stop the machine that is not wanted first
    #[command(after_help = RESUME)]
    Resume {
        /// The droplet
        id: DropletId,
        /// Why; it is kept with the event
        #[arg(long, value_name = "TEXT")]
        reason: String,
        /// Which life of it goes on, as `droplet show` names it [default: the one that reported last]
        #[arg(long, value_name = "EPOCH")]
        boot_epoch: Option<String>,
    },
}

#[derive(Debug, Args)]
pub(super) struct Add {
    /// The tenant
    #[arg(long, value_name = "ID")]
    workspace: WorkspaceId,
    /// The provider's id of the droplet
    #[arg(long, value_name = "ID")]
    droplet_id: DropletId,
    /// For people
    #[arg(long)]
    name: Option<String>,
    /// Provider region, for example fra1
    #[arg(long)]
    region: Option<String>,
    /// A label; repeat it
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// Write the provisioning token into this new private file instead of printing it
    #[arg(long, value_name = "FILE")]
    token_out: Option<PathBuf>,
    /// Print the user-data for the provider, and nothing else
    #[arg(long, conflicts_with = "token_out")]
    user_data: bool,
    /// Render here, from this file, what the droplet is given
    #[arg(long, value_name = "FILE")]
    first_boot: Option<PathBuf>,
    /// Write the agent's configuration into this new file, for a droplet that is set up by hand
    #[arg(long, value_name = "FILE", requires = "first_boot")]
    config_out: Option<PathBuf>,
}

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("a label is NAME=VALUE".to_owned()),
    }
}

pub(super) fn run(verb: Verb, global: &Global) -> Result<(), Error> {
    match verb {
        Verb::Add(args) => add(args, global),
        Verb::Token { id } => {
            let client = global.client()?;
            let progress = Progress::start("asking the hub");
            let answer = wait(client.provisioning_token(&id))?;
            drop(progress);
            global.output.result(&answer, token_text);
            Ok(())
        }
        Verb::List { state, region, label } => {
            let client = global.client()?;
            let label = label.map(|(name, value)| format!("{name}={value}"));
            let filter = [("region", &region), ("label", &label)];
            let filter: Vec<_> = filter.iter().filter_map(|(name, value)| Some((*name, value.as_deref()?))).collect();
            let progress = Progress::start("listing droplets");
            let mut droplets = wait(client::all_pages(&filter, async |query| client.droplets(query).await))?;
            // The hub derives the state when it is asked, so it cannot look for one; here it is there to compare.
            droplets.retain(|droplet| state.as_ref().is_none_or(|state| droplet.state == *state));
            drop(progress);
            global.output.result(&droplets, |droplets| table(droplets));
            Ok(())
        }
        Verb::Show { id } => {
            let client = global.client()?;
            let progress = Progress::start("asking the hub");
            let droplet = wait(client.droplet(&id))?;
            drop(progress);
            global.output.result(&droplet, text);
            Ok(())
        }
        Verb::Resume { id, reason, boot_epoch } => {
            let client = global.client()?;
            let progress = Progress::start("asking the hub");
            let droplet = wait(client.resume_droplet(&id, &ResumeRequest { reason, boot_epoch }))?;
            drop(progress);
            global.output.result(&droplet, text);
            Ok(())
        }
    }
}

fn add(args: Add, global: &Global) -> Result<(), Error> {
    let client = global.client()?;
    // Before the call: a token that could not be stored would be lost.
    if let Some(path) = args.token_out.iter().chain(&args.config_out).find(|path| path.exists()) {
        return Err(Error::Exists(path.clone()));
    }
    let fleet = args.first_boot.as_deref().map(Fleet::read).transpose()?;
    let create = DropletCreate {
        workspace_id: args.workspace,
        droplet_id: args.droplet_id,
        name: args.name,
        region: args.region,
        labels: args.labels.into_iter().collect::<BTreeMap<_, _>>(),
    };
    // Likewise: what cannot be rendered is refused before a token is spent on it.
    let config = fleet.as_ref().map(|fleet| fleet.user_data(&create, "").and(fleet.agent_toml(&create))).transpose()?;
    let progress = Progress::start("registering the droplet");
    let mut answer = wait(client.add_droplet(&create))?;
    drop(progress);
    if let (Some(path), Some(config)) = (&args.config_out, config) {
        files::create_private(path, config.as_bytes())?;
    }
    if let Some(fleet) = &fleet {
        answer.user_data = Some(fleet.user_data(&create, &answer.provisioning_token)?);
    }
    if args.user_data {
        let Some(text) = answer.user_data else { return Err(no_user_data(&answer.provisioning_token)) };
        output::line(text.trim_end());
        return Ok(());
    }
    // It holds the token too, and nobody asked for it.
    answer.user_data = None;
    if let Some(path) = &args.token_out {
        files::create_private(path, format!("{}\n", answer.provisioning_token).as_bytes())?;
        answer.provisioning_token = format!("(in {})", path.display());
    }
    global.output.result(&answer, token_text);
    Ok(())
}

fn token_text(answer: &ProvisioningToken) -> String {
    let (id, token, until) = (&answer.droplet_id, &answer.provisioning_token, answer.expires_at);
    format!("droplet  {id}\ntoken    {token}\nexpires  {until} (used once, shown once)")
}

/// The droplet is registered by then; its token must not be lost with the error.
fn no_user_data(token: &str) -> Error {
    let why = format!(
        "the hub's configuration has no [first_boot]; name a file with --first-boot. The droplet is registered, its token is {token}"
    );
    Error::Argument { what: "--user-data".into(), why }
}

fn table(droplets: &[DropletView]) -> String {
    let mut rows = vec![["DROPLET", "WORKSPACE", "STATE", "REGION", "LAST SEEN"].map(str::to_owned).to_vec()];
    rows.extend(droplets.iter().map(|droplet| {
        vec![
            droplet.droplet_id.to_string(),
            droplet.workspace_id.to_string(),
            droplet.state.clone(),
            droplet.region.clone().unwrap_or_else(|| "-".to_owned()),
            droplet.last_seen_at.map_or_else(|| "never".to_owned(), |at| at.to_string()),
        ]
    }));
    output::table(&rows)
}

fn text(droplet: &DropletView) -> String {
    let or_none = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    let labels: Vec<_> = droplet.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let mut lines = vec![
        format!("droplet    {}", droplet.droplet_id),
        format!("workspace  {}", droplet.workspace_id),
        format!("name       {}", or_none(droplet.name.clone())),
        format!("region     {}", or_none(droplet.region.clone())),
        format!("labels     {}", labels.join(" ")),
        format!("state      {} ({})", droplet.state, droplet.lifecycle),
        format!("seal to    {}", or_none(droplet.sealing_key.map(|key| key.to_string()))),
        format!("enrolled   {}", or_none(droplet.enrolled_at.map(|at| at.to_string()))),
        format!("last seen  {}", or_none(droplet.last_seen_at.map(|at| at.to_string()))),
    ];
    if let Some(quarantine) = &droplet.quarantine {
        lines.push(format!("quarantine since {}: {}: {}", quarantine.since, quarantine.code, quarantine.message));
    }
    // One life is what a droplet should have; more are of interest where they give a choice.
    for life in droplet.lives.iter().filter(|_| droplet.quarantine.is_some()) {
        let (epoch, mark) = (&life.boot_epoch, if life.present { " (the latest)" } else { "" });
        lines.push(format!(
            "life       {epoch}{mark}, journal up to {}, first heard {}, last {}",
            life.journal_high_water, life.first_seen_at, life.last_seen_at
        ));
    }
    if let Some(health) = &droplet.health {
        let version = or_none(health.n8n_version.clone());
        let active = or_none(health.active_workflows.map(|count| count.to_string()));
        lines.push(format!("n8n        {:?} {version}, {active} workflows active", health.n8n_status));
        lines.push(format!(
            "host       cpu {:.0} %, memory {} of {} MB, disk {:.0} %",
            health.cpu_usage_percent, health.memory_usage_mb, health.memory_total_mb, health.disk_usage_percent
        ));
        lines.push(format!("agent      {}, {} records to deliver", health.agent_version, health.outbox_depth));
    }
    lines.join("\n")
}
