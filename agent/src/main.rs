//! `genesis-agent`: arguments -> settings -> daemon.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use genesis_agent::config::Settings;
use genesis_agent::show::Show;
use genesis_agent::{apply, audit, daemon, show};
use genesis_shared::chain::Chain;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::prelude::*;

/// The agent of one droplet: owns its n8n, takes signed commands from the hub, answers with results.
#[derive(Parser)]
#[command(name = "genesis-agent", version, after_help = EXIT_CODES)]
struct Args {
    /// How log lines look.
    #[arg(long, value_enum, default_value_t = LogFormat::Text, global = true)]
    log_format: LogFormat,
    #[command(subcommand)]
    verb: Verb,
}

const EXIT_CODES: &str = "Exit codes: 0 stopped by a signal, 2 arguments or configuration, 3 journal (disk full, damaged, in use), 4 anything else.
`apply` has more: see genesis-agent apply --help.
RUST_LOG sets what is logged (default: info).";

#[derive(Subcommand)]
enum Verb {
    /// Runs until SIGTERM.
    #[command(after_help = "Example: genesis-agent run --config /etc/genesis/agent.toml")]
    Run {
        /// Configuration file.
        #[arg(long, default_value = "/etc/genesis/agent.toml")]
        config: PathBuf,
    },
    /// Reads the configuration, says whether it can be used, and exits.
    #[command(after_help = "Example: genesis-agent check --config /etc/genesis/agent.toml")]
    Check {
        /// Configuration file.
        #[arg(long, default_value = "/etc/genesis/agent.toml")]
        config: PathBuf,
    },
    /// Runs a signed bundle by hand, also while the hub is away, and says how it went.
    #[command(after_help = apply::HELP)]
    Apply {
        /// The signed bundle, as `genesisctl bundle sign` wrote it; - reads standard input.
        file: PathBuf,
        /// Print the result as one JSON object (a refusal too, with state "rejected"), for machines.
        #[arg(long)]
        json: bool,
        /// Configuration file.
        #[arg(long, default_value = "/etc/genesis/agent.toml")]
        config: PathBuf,
    },
    /// Shows where everything on this droplet stands.
    #[command(
        after_help = "Example: genesis-agent status\nExit codes: 0, 2 configuration, 7 the agent cannot be asked."
    )]
    Status {
        /// Print JSON, for machines.
        #[arg(long)]
        json: bool,
        /// Configuration file.
        #[arg(long, default_value = "/etc/genesis/agent.toml")]
        config: PathBuf,
    },
    /// Lists the last commands, newest first, with how they ended.
    #[command(after_help = "Example: genesis-agent journal --lines 5")]
    Journal {
        /// How many, 1 to 50.
        #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=50))]
        lines: u32,
        /// Print JSON, for machines.
        #[arg(long)]
        json: bool,
        /// Configuration file.
        #[arg(long, default_value = "/etc/genesis/agent.toml")]
        config: PathBuf,
    },
    /// Says what is wrong with this droplet and what to do about it.
    #[command(
        after_help = "Exit codes: 0 nothing is wrong, 1 something is, 2 configuration, 7 the agent cannot be asked."
    )]
    Doctor {
        /// Print JSON, for machines.
        #[arg(long)]
        json: bool,
        /// Configuration file.
        #[arg(long, default_value = "/etc/genesis/agent.toml")]
        config: PathBuf,
    },
    /// Prints all of it as one JSON object without secrets, to be sent to somebody who helps.
    #[command(after_help = "Example: genesis-agent diag >droplet.json")]
    Diag {
        /// Configuration file.
        #[arg(long, default_value = "/etc/genesis/agent.toml")]
        config: PathBuf,
    },
    /// Prints metrics in the text format of Prometheus; `GET /metrics` on the socket answers the same.
    #[command(after_help = "Example: curl --unix-socket /var/lib/genesis/agent.sock http://agent/metrics")]
    Metrics {
        /// Configuration file.
        #[arg(long, default_value = "/etc/genesis/agent.toml")]
        config: PathBuf,
    },
    /// Prints the droplet's audit chain and the hub's signed checkpoints.
    #[command(after_help = audit::HELP)]
    Audit {
        /// Configuration file.
        #[arg(long, default_value = "/etc/genesis/agent.toml")]
        config: PathBuf,
    },
}

impl Verb {
    fn config(&self) -> &Path {
        match self {
            Self::Run { config }
            | Self::Check { config }
            | Self::Apply { config, .. }
            | Self::Status { config, .. }
            | Self::Journal { config, .. }
            | Self::Doctor { config, .. }
            | Self::Diag { config }
            | Self::Audit { config }
            | Self::Metrics { config } => config,
        }
    }

    /// What is logged where RUST_LOG says nothing: a person who waits reads the command's own words, and beside them
    /// only what goes wrong.
    fn log_level(&self) -> &'static str {
        match self {
            Self::Run { .. } | Self::Check { .. } => "info",
            Self::Audit { .. } => "warn",
            // What a rule says is on the screen already.
            Self::Status { .. }
            | Self::Journal { .. }
            | Self::Doctor { .. }
            | Self::Diag { .. }
            | Self::Metrics { .. }
            | Self::Apply { .. } => "warn,genesis_agent::agent=error",
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

/// Logs to standard error what RUST_LOG asks for, `level` where it asks for nothing that can be read.
fn start_log(format: LogFormat, level: &str) {
    let asked = std::env::var("RUST_LOG").ok().filter(|text| !text.is_empty());
    let filter: Option<Targets> = asked.and_then(|text| text.parse().ok());
    let filter = filter.unwrap_or_else(|| level.parse().expect("the levels of the verbs are filters"));
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    match format {
        LogFormat::Text => tracing_subscriber::registry().with(layer.with_ansi(false)).with(filter).init(),
        LogFormat::Json => tracing_subscriber::registry().with(layer.json()).with(filter).init(),
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    start_log(args.log_format, args.verb.log_level());
    let settings = match Settings::read(args.verb.config()) {
        Ok(settings) => settings,
        Err(error) => {
            tracing::error!("config: {}", Chain(&error));
            return ExitCode::from(2);
        }
    };
    // One thread: the agent does one thing at a time and must be small.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!("no_runtime: {error}");
            return ExitCode::from(4);
        }
    };
    match args.verb {
        Verb::Check { config } => {
            tracing::info!("{} can be used", config.display());
            ExitCode::SUCCESS
        }
        Verb::Run { .. } => match runtime.block_on(daemon::run(settings)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                tracing::error!("{}", daemon::last_words(&error));
                ExitCode::from(error.exit_code())
            }
        },
        Verb::Status { json, .. } => shown(&runtime, &settings, Show::Status { json }),
        Verb::Journal { lines, json, .. } => shown(&runtime, &settings, Show::Journal { lines, json }),
        Verb::Doctor { json, .. } => shown(&runtime, &settings, Show::Doctor { json }),
        Verb::Diag { .. } => shown(&runtime, &settings, Show::Diag),
        Verb::Metrics { .. } => shown(&runtime, &settings, Show::Metrics),
        Verb::Audit { .. } => ExitCode::from(runtime.block_on(audit::run(settings))),
        Verb::Apply { file, json, .. } => ExitCode::from(runtime.block_on(apply::run(settings, &file, json))),
    }
}

fn shown(runtime: &tokio::runtime::Runtime, settings: &Settings, show: Show) -> ExitCode {
    ExitCode::from(runtime.block_on(show::run(settings, show)))
}
