//! `genesis-agent`: arguments -> settings -> daemon.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use genesis_agent::cli::{Args, LogFormat, Verb};
use genesis_agent::config::Settings;
use genesis_agent::core::update::facts;
use genesis_agent::show::Show;
use genesis_agent::{apply, audit, daemon, show};
use genesis_shared::chain::Chain;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::prelude::*;

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
    let Some(config) = args.verb.config() else { return print_facts() };
    let settings = match Settings::read(config) {
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
        Verb::Facts => print_facts(),
        Verb::Audit { .. } => ExitCode::from(runtime.block_on(audit::run(settings))),
        Verb::Apply { file, json, .. } => ExitCode::from(runtime.block_on(apply::run(settings, &file, json))),
    }
}

fn print_facts() -> ExitCode {
    let text = serde_json::to_string(&facts()).expect("facts have a JSON form");
    match writeln!(std::io::stdout(), "{text}") {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(4),
    }
}

fn shown(runtime: &tokio::runtime::Runtime, settings: &Settings, show: Show) -> ExitCode {
    ExitCode::from(runtime.block_on(show::run(settings, show)))
}
