//! The command line: what it takes, what it prints, how it exits.

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::auth::Scope;
use crate::backup;
use crate::clock::Clock;
use crate::config::{DELIVERY_KID, Raw, Settings};
use crate::random;
use crate::serve;
use crate::setup::{self, Wanted};
use crate::store::Store;
use crate::systemd::Systemd;
use clap::{Parser, Subcommand, ValueEnum};
use genesis_shared::chain::Chain;
use genesis_shared::id::{Digest, KeyId};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Interval;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::prelude::*;

type Failure = Box<dyn std::error::Error>;

const AFTER_HELP: &str = "\
Exit codes:
  0  done; for `serve`: stopped in order after SIGTERM or SIGINT
  1  it did not work; the reason is on stderr
  2  the command line cannot be understood

Examples:
  genesis-hub init --data-dir /var/lib/genesis-hub --host hub.example.com
  genesis-hub token create --data-dir /var/lib/genesis-hub --name ci --scope read --scope submit
  genesis-hub serve --data-dir /var/lib/genesis-hub --listen 0.0.0.0:8443
  genesis-hub backup --data-dir /var/lib/genesis-hub --to /backup/hub-2026-11-25

Signals: SIGTERM and SIGINT stop the hub in order: waiting polls are answered, requests finished. SIGHUP reads the TLS
certificate anew, which is also done when its files change. Under systemd (Type=notify) it says when it is ready,
alive (WatchdogSec=) and stopping.

Logs go to stderr; RUST_LOG chooses what is logged (default: info). No token, secret or bundle is ever logged.";

/// Threads for what blocks: the store's readers, and room for the ends of the process.
const BLOCKING_THREADS_MAX: usize = 8;

/// The hub of the Genesis control plane: queues signed bundles for droplets and stores what they answer.
#[derive(Debug, Parser)]
#[command(name = "genesis-hub", version, after_help = AFTER_HELP)]
pub struct Cli {
    /// How log lines look.
    #[arg(long, global = true, value_enum, default_value = "text")]
    log_format: LogFormat,
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make the data folder, the delivery key, the database and a local certificate; prints one JSON object. What is
    /// there already stays.
    Init(Init),
    /// Create, list and revoke API tokens; works while the hub runs.
    #[command(subcommand)]
    Token(Token),
    /// Copy the hub to a new folder while it runs; prints one JSON object. The copy is as secret as the hub's folder.
    Backup {
        /// The hub's folder.
        #[arg(long, env = "GENESIS_HUB_DATA_DIR")]
        data_dir: PathBuf,
        /// The copy; must not exist yet.
        #[arg(long)]
        to: PathBuf,
    },
    /// Make a hub's folder from a copy, after verifying it; prints one JSON object.
    Restore {
        /// The copy.
        #[arg(long)]
        from: PathBuf,
        /// The hub's folder; must not exist yet.
        #[arg(long, env = "GENESIS_HUB_DATA_DIR")]
        data_dir: PathBuf,
    },
    /// Serve; prints {"listening":"ADDRESS:PORT","metrics":null} once it listens.
    Serve(Serve),
}

#[derive(Debug, clap::Args)]
struct Init {
    /// The hub's folder.
    #[arg(long, env = "GENESIS_HUB_DATA_DIR")]
    data_dir: PathBuf,
    /// A name or address of this hub for its local certificate; may be repeated [default: 127.0.0.1 and localhost].
    #[arg(long = "host")]
    hosts: Vec<String>,
    /// Use this certificate chain (PEM) instead of a local one.
    #[arg(long, requires = "tls_key", conflicts_with = "hosts")]
    tls_cert: Option<PathBuf>,
    /// The key (PEM) of --tls-cert.
    #[arg(long, requires = "tls_cert")]
    tls_key: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Token {
    /// Make a token and print it, once: only its digest is kept.
    Create {
        /// The hub's folder.
        #[arg(long, env = "GENESIS_HUB_DATA_DIR")]
        data_dir: PathBuf,
        /// Who will use it; must be new.
        #[arg(long)]
        name: String,
        /// What it may do; may be repeated. `admin` includes the others.
        #[arg(long = "scope", required = true, value_enum)]
        scopes: Vec<Scope>,
    },
    /// List the tokens' names and scopes as JSON.
    List {
        /// The hub's folder.
        #[arg(long, env = "GENESIS_HUB_DATA_DIR")]
        data_dir: PathBuf,
    },
    /// End a token at once.
    Revoke {
        /// The hub's folder.
        #[arg(long, env = "GENESIS_HUB_DATA_DIR")]
        data_dir: PathBuf,
        /// Its name.
        #[arg(long)]
        name: String,
    },
}

#[derive(Debug, clap::Args)]
struct Serve {
    /// The hub's folder.
    #[arg(long, env = "GENESIS_HUB_DATA_DIR")]
    data_dir: PathBuf,
    /// Address and port; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:8443")]
    listen: SocketAddr,
    /// Configuration file (TOML); every member has a default.
    #[arg(long)]
    config: Option<PathBuf>,
    /// Certificate chain (PEM); wins over the configuration file.
    #[arg(long, requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Key (PEM) of --tls-cert.
    #[arg(long, requires = "tls_cert")]
    tls_key: Option<PathBuf>,
}

/// Sends log lines to stderr.
pub fn log(cli: &Cli) {
    let asked = std::env::var("RUST_LOG").ok().filter(|text| !text.is_empty());
    let filter: Option<Targets> = asked.and_then(|text| text.parse().ok());
    let filter = filter.unwrap_or_else(|| Targets::new().with_default(LevelFilter::INFO));
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    match cli.log_format {
        LogFormat::Text => tracing_subscriber::registry().with(layer).with(filter).init(),
        LogFormat::Json => tracing_subscriber::registry().with(layer.json()).with(filter).init(),
    }
}

/// Carries out the command.
pub fn run(cli: Cli) -> ExitCode {
    let work = async {
        match cli.command {
            Command::Init(init) => make(init).await,
            Command::Token(token) => tokens(token).await,
            Command::Backup { data_dir, to } => print(&backup::backup(&data_dir, &to)?),
            Command::Restore { from, data_dir } => print(&backup::restore(&from, &data_dir)?),
            Command::Serve(serve) => serve_until_signal(serve).await,
        }
    };
    // The store's few readers are all that blocks; each thread beyond them would keep memory of its own.
    let runtime =
        tokio::runtime::Builder::new_multi_thread().max_blocking_threads(BLOCKING_THREADS_MAX).enable_all().build();
    let outcome = runtime.map_err(Failure::from).and_then(|runtime| runtime.block_on(work));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{}", Chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

/// One line of JSON on stdout.
fn print(value: &impl serde::Serialize) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{}", serde_json::to_string(value)?)?;
    Ok(stdout.flush()?)
}

async fn make(init: Init) -> Result<(), Failure> {
    let wanted = Wanted {
        data_dir: init.data_dir,
        hosts: init.hosts,
        tls: init.tls_cert.zip(init.tls_key),
        delivery_kid: DELIVERY_KID.parse::<KeyId>()?,
    };
    print(&setup::init(&wanted, Clock::system().now()).await?)
}

fn open(data_dir: &Path) -> Result<Store, Failure> {
    let database = setup::database(data_dir);
    if !database.exists() {
        return Err(format!("there is no hub in {}; `genesis-hub init` makes one", data_dir.display()).into());
    }
    Ok(Store::open(&database)?)
}

async fn tokens(command: Token) -> Result<(), Failure> {
    let now = Clock::system().now();
    match command {
        Token::Create { data_dir, name, scopes } => {
            let store = open(&data_dir)?;
            // The prefix lets secret scanners recognise one that was published by mistake.
            let token = format!("genesis_api_{}", random::token());
            let names: Vec<_> = scopes.iter().map(|scope| scope.name()).collect();
            let new = store.create_api_token(name.clone(), names.join(","), Digest::of(token.as_bytes()), now).await?;
            store.close().await?;
            if !new {
                return Err(format!("there is, or was, a token called {name:?}; choose another name").into());
            }
            print(&json!({"name": name, "scopes": names, "token": token}))
        }
        Token::List { data_dir } => {
            let store = open(&data_dir)?;
            let tokens = store.api_tokens().await?;
            store.close().await?;
            let list = tokens.iter().map(|token| {
                let scopes: Vec<_> = token.scopes.split(',').collect();
                let (created, revoked) = (token.created_at, token.revoked_at);
                json!({"name": token.name, "scopes": scopes, "created_at": created, "revoked_at": revoked})
            });
            print(&list.collect::<Vec<_>>())
        }
        Token::Revoke { data_dir, name } => {
            let store = open(&data_dir)?;
            let revoked = store.revoke_api_token(name.clone(), now).await?;
            store.close().await?;
            if !revoked {
                return Err(format!("no good token is called {name:?}; `genesis-hub token list` shows them").into());
            }
            print(&json!({"name": name, "revoked": true}))
        }
    }
}

async fn serve_until_signal(args: Serve) -> Result<(), Failure> {
    let mut raw = args.config.as_deref().map(Raw::read).transpose()?.unwrap_or_default();
    raw.tls_cert = args.tls_cert.or(raw.tls_cert);
    raw.tls_key = args.tls_key.or(raw.tls_key);
    let settings = Settings::new(&args.data_dir, args.listen, raw)?;
    serve::raise_file_limit(settings.connections_max);
    // Before it listens: a signal that comes right after the line on stdout must not kill it.
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut hangup = signal(SignalKind::hangup())?;
    let systemd = Systemd::from_environment();
    let running = serve::start(settings).await?;
    print(&json!({"listening": running.addr.to_string(), "metrics": running.metrics_addr.map(|a| a.to_string())}))?;
    tracing::info!(addr = %running.addr, "listening");
    systemd.ready(&format!("listening on {}", running.addr));
    let mut watchdog = systemd.watchdog().map(tokio::time::interval);
    loop {
        tokio::select! {
            _ = terminate.recv() => break tracing::info!("SIGTERM: stopping"),
            _ = interrupt.recv() => break tracing::info!("SIGINT: stopping"),
            _ = hangup.recv() => running.reload(),
            () = tick(&mut watchdog) => match running.hub.store.pulse().await {
                Ok(()) => systemd.alive(),
                // Unheard, systemd starts the hub anew: it can do nothing without its store's thread.
                Err(error) => tracing::error!(error = %Chain(&error), "the store does not answer"),
            },
        }
    }
    systemd.stopping();
    running.stop();
    running.wait().await?;
    tracing::info!("stopped");
    Ok(())
}

/// The next tick of a clock, if there is one.
async fn tick(clock: &mut Option<Interval>) {
    match clock {
        Some(clock) => drop(clock.tick().await),
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent_and_its_help_shows_examples_and_exit_codes() {
        let mut command = super::Cli::command();
        command.clone().debug_assert();
        let help = command.render_help().to_string();
        assert!(help.contains("Exit codes") && help.contains("Examples"));
    }
}
