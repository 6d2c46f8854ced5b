//! `genesis-agent`: arguments -> settings -> daemon.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use genesis_agent::config::Settings;
use genesis_agent::{apply, audit, daemon};
use genesis_shared::chain::Chain;
use tracing_subscriber::EnvFilter;

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
            Self::Run { config } | Self::Check { config } | Self::Audit { config } | Self::Apply { config, .. } => {
                config
            }
        }
    }

    /// What is logged where RUST_LOG says nothing: a person who waits reads the command's own words, and beside them
    /// only what goes wrong.
    fn log_level(&self) -> &'static str {
        match self {
            Self::Run { .. } | Self::Check { .. } => "info",
            Self::Audit { .. } => "warn",
            // What a rule says is on the screen already.
            Self::Apply { .. } => "warn,genesis_agent::agent=error",
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(args.verb.log_level()));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match args.log_format {
        LogFormat::Text => log.with_ansi(false).init(),
        LogFormat::Json => log.json().init(),
    }
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
        Verb::Audit { .. } => ExitCode::from(runtime.block_on(audit::run(settings))),
        Verb::Apply { file, json, .. } => ExitCode::from(runtime.block_on(apply::run(settings, &file, json))),
    }
}
