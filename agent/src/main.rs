//! `genesis-agent`: arguments -> settings -> daemon.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use genesis_agent::config::Settings;
use genesis_agent::daemon;
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
}

#[derive(Clone, Copy, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match args.log_format {
        LogFormat::Text => log.with_ansi(false).init(),
        LogFormat::Json => log.json().init(),
    }
    let (config, only_check) = match args.verb {
        Verb::Run { config } => (config, false),
        Verb::Check { config } => (config, true),
    };
    let settings = match Settings::read(&config) {
        Ok(settings) => settings,
        Err(error) => {
            tracing::error!("config: {}", Chain(&error));
            return ExitCode::from(2);
        }
    };
    if only_check {
        tracing::info!("{} can be used", config.display());
        return ExitCode::SUCCESS;
    }
    // One thread: the agent does one thing at a time and must be small.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let ended = match runtime {
        Ok(runtime) => runtime.block_on(daemon::run(settings)),
        Err(error) => {
            tracing::error!("no_runtime: {error}");
            return ExitCode::from(4);
        }
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{}", daemon::last_words(&error));
            ExitCode::from(error.exit_code())
        }
    }
}
