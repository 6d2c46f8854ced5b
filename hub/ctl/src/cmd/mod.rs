//! The command line: one file per noun, each with its options and what it does.

mod audit;
mod bundle;
mod credential;
mod demo;
mod droplet;
mod job;
mod key;
mod queue;
mod recovery;
mod rollout;
mod support;
mod trust;

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use genesis_shared::secret::Secret;

use crate::client::HubClient;
use crate::error::Error;
use crate::files;
use crate::output::Format;

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  the job or bundle failed on the droplet or was refused by it; a demo that missed its goal
  2  wrong use of the command line
  3  invalid input, or refused by the hub (4xx)
  4  the hub cannot be reached, is too busy (429), or answers 5xx
  5  not authorised (401, 403)

Example:
  genesisctl demo";

/// The operator's tool of Genesis: makes keys, signs bundles, seals secrets, pushes and watches.
#[derive(Debug, Parser)]
#[command(name = "genesisctl", version, after_help = EXIT_CODES, arg_required_else_help = true)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    noun: Noun,
}

/// Options of every command.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Options of every command")]
pub(crate) struct Global {
    /// The hub, for example https://hub.example.com
    #[arg(long, global = true, env = "GENESIS_HUB", value_name = "URL")]
    hub: Option<String>,
    /// Trust this certificate authority (PEM) for the hub, and no other; the system's when not given
    #[arg(long, global = true, env = "GENESIS_CA", value_name = "FILE")]
    ca: Option<PathBuf>,
    /// File that holds the API token; the environment's GENESIS_TOKEN when not given
    #[arg(long, global = true, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// For people, or one JSON object or array on standard output
    #[arg(long, global = true, value_enum, default_value_t, value_name = "FORMAT")]
    output: Format,
}

impl Global {
    /// The client for the hub that was named.
    fn client(&self) -> Result<HubClient, Error> {
        let hub = self.hub.as_deref().filter(|hub| !hub.is_empty()).ok_or(Error::NoHub)?;
        let ca = self.ca.as_deref().map(files::read).transpose()?;
        let token = match &self.token_file {
            Some(file) => files::read_secret(file)?,
            None => Secret::new(std::env::var("GENESIS_TOKEN").map_err(|_| Error::NoToken)?),
        };
        HubClient::new(hub, ca.as_deref(), token)
    }
}

#[derive(Debug, Subcommand)]
enum Noun {
    /// Make signing and recovery keys
    #[command(subcommand)]
    Key(key::Verb),
    /// Make, sign, check and publish the trust root
    #[command(subcommand)]
    Trust(trust::Verb),
    /// Sign, check and push bundles of commands
    #[command(subcommand)]
    Bundle(bundle::Verb),
    /// Let a support key in for minutes
    #[command(subcommand)]
    Support(support::Verb),
    /// Open with the recovery key what droplets deposited for it
    #[command(subcommand)]
    Recovery(recovery::Verb),
    /// Seal credentials to a droplet
    #[command(subcommand)]
    Credential(credential::CredentialVerb),
    /// Seal secret variables of a workflow to a droplet
    #[command(subcommand)]
    Variables(credential::VariablesVerb),
    /// Register and look at droplets
    #[command(subcommand)]
    Droplet(droplet::Verb),
    /// Look at jobs
    #[command(subcommand)]
    Job(job::Verb),
    /// Look at the queues and set how much is under way at once
    #[command(subcommand)]
    Queue(queue::Verb),
    /// Follow and steer rollouts
    #[command(subcommand)]
    Rollout(rollout::Verb),
    /// Take audit chains out of the hub and verify them
    #[command(subcommand)]
    Audit(audit::Verb),
    /// Run a whole ignition on this machine: hub, agent, n8n or its stand-in, seven workflows
    Demo(demo::Args),
}

impl Cli {
    /// How results and errors are to be printed.
    pub fn format(&self) -> Format {
        self.global.output
    }
}

/// Runs one command.
///
/// # Errors
/// Whatever the command cannot do, with its exit code.
pub fn run(cli: Cli) -> Result<(), Error> {
    let Cli { global, noun } = cli;
    match noun {
        Noun::Key(verb) => key::run(verb, global.output),
        Noun::Trust(verb) => trust::run(verb, &global),
        Noun::Bundle(verb) => bundle::run(verb, &global),
        Noun::Recovery(verb) => recovery::run(verb, &global),
        Noun::Support(verb) => support::run(verb, &global),
        Noun::Credential(verb) => credential::run(verb, &global),
        Noun::Variables(verb) => credential::run_variables(verb, &global),
        Noun::Droplet(verb) => droplet::run(verb, &global),
        Noun::Job(verb) => job::run(verb, &global),
        Noun::Queue(verb) => queue::run(verb, &global),
        Noun::Rollout(verb) => rollout::run(verb, &global),
        Noun::Audit(verb) => audit::run(verb, &global),
        Noun::Demo(args) => demo::run(args, global.output),
    }
}

/// Runs a future on a runtime of one thread: nothing here needs more.
fn wait<T>(future: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime =
        runtime.map_err(|e| Error::Process { what: "the runtime cannot be started".into(), why: e.to_string() })?;
    runtime.block_on(future)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_key_may_begin_with_a_hyphen() {
        // As one in 64 does, in base64url.
        let key = format!("-{}A", "x".repeat(41));
        for words in [
            &["audit", "verify", "a.jsonl", "--identity-key", &key][..],
            &["credential", "seal", "--name", "a", "--type", "smtp", "--droplet", "1", "--recipient", &key, "a.json"],
        ] {
            let parsed = Cli::try_parse_from([&["genesisctl"], words].concat());
            assert!(parsed.is_ok(), "{}", parsed.err().map(|error| error.to_string()).unwrap_or_default());
        }
    }

    #[test]
    fn the_help_of_every_command_has_an_example() {
        fn check(command: &mut clap::Command, path: &str) {
            let help = command.render_long_help().to_string();
            assert!(help.contains("Example") && help.contains("genesisctl "), "{path}: {help}");
            for inner in command.get_subcommands_mut().filter(|inner| inner.get_name() != "help") {
                let path = format!("{path} {}", inner.get_name());
                check(inner, &path);
            }
        }
        let mut command = Cli::command();
        command.build();
        check(&mut command, "genesisctl");
    }

    #[test]
    fn the_help_documents_every_exit_code() {
        let help = Cli::command().render_long_help().to_string();
        for code in 0..=5 {
            assert!(help.contains(&format!("\n  {code}  ")), "{code}");
        }
    }

    #[test]
    fn what_needs_a_hub_says_so_when_none_is_given() {
        let global = |hub: Option<&str>| Global {
            hub: hub.map(str::to_owned),
            ca: None,
            token_file: None,
            output: Format::Text,
        };
        assert!(matches!(global(None).client(), Err(Error::NoHub)));
        assert!(matches!(global(Some("")).client(), Err(Error::NoHub)));
    }
}
