//! The command line: its verbs and their help. The man page and the completions are made of it.

use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand, ValueEnum};

use crate::{apply, audit};

/// The agent of one droplet: owns its n8n, takes signed commands from the hub, answers with results.
#[derive(Parser)]
#[command(name = "genesis-agent", version, after_help = EXIT_CODES)]
pub struct Args {
    /// How log lines look.
    #[arg(long, value_enum, default_value_t = LogFormat::Text, global = true)]
    pub log_format: LogFormat,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

const EXIT_CODES: &str = "Exit codes: 0 stopped by a signal, 2 arguments or configuration, 3 journal (disk full, damaged, in use), 4 anything else.
`apply` has more: see genesis-agent apply --help.
RUST_LOG sets what is logged (default: info).";

/// What the agent can be asked to do.
#[derive(Subcommand)]
pub enum Verb {
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
    /// Prints what this binary can go on with: asked by the version that an update is to replace.
    #[command(hide = true)]
    Facts,
    /// Prints the droplet's audit chain and the hub's signed checkpoints.
    #[command(after_help = audit::HELP)]
    Audit {
        /// Configuration file.
        #[arg(long, default_value = "/etc/genesis/agent.toml")]
        config: PathBuf,
    },
}

impl Verb {
    /// The configuration file, of those that have one.
    pub fn config(&self) -> Option<&Path> {
        let path = match self {
            Self::Facts => return None,
            Self::Run { config }
            | Self::Check { config }
            | Self::Apply { config, .. }
            | Self::Status { config, .. }
            | Self::Journal { config, .. }
            | Self::Doctor { config, .. }
            | Self::Diag { config }
            | Self::Audit { config }
            | Self::Metrics { config } => config,
        };
        Some(path)
    }

    /// What is logged where RUST_LOG says nothing: a person who waits reads the command's own words, and beside them
    /// only what goes wrong.
    pub fn log_level(&self) -> &'static str {
        match self {
            Self::Run { .. } | Self::Check { .. } => "info",
            Self::Audit { .. } | Self::Facts => "warn",
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

/// How log lines look.
#[derive(Clone, Copy, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines.
    Json,
}
