//! The stand-in for n8n as a process, for tests that need one.

use std::{io::Write, net::SocketAddr};

use clap::Parser;
use genesis_agent::sim::n8n::{Config, Shared, Standin};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

/// A stand-in for n8n 2.8.4: the part of its HTTP API that genesis uses, in memory.
///
/// Prints one line of JSON, {"listening":"ADDRESS:PORT"}, once it accepts connections. SIGTERM ends it.
/// Tests steer it over HTTP: POST /__standin/faults, /__standin/phase, /__standin/release, /__standin/advance,
/// /__standin/executions, /__standin/reset; DELETE /__standin/faults; GET /__standin/state.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// The address to listen on; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// What it says its version is, in the settings.
    #[arg(long, default_value = "stand-in")]
    version_string: String,
    /// Play an n8n before 2.8, which cannot list credentials.
    #[arg(long)]
    no_credentials_list: bool,
    /// Play an n8n before 2.7, which cannot update credentials.
    #[arg(long)]
    no_credentials_update: bool,
    /// The seed of all ids.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let arguments = Arguments::parse();
    let mut terminated = signal(SignalKind::terminate())?;
    let listener = TcpListener::bind(arguments.listen).await?;
    let address = listener.local_addr()?;
    let config = Config {
        version: arguments.version_string,
        webhook_base: format!("http://{address}/"),
        credentials_list: !arguments.no_credentials_list,
        credentials_update: !arguments.no_credentials_update,
        ..Config::default()
    };
    let shared = Shared::new(Standin::new(config, arguments.seed));
    let mut out = std::io::stdout();
    writeln!(out, "{{\"listening\":\"{address}\"}}")?;
    out.flush()?;
    tokio::select! {
        served = shared.serve(listener) => match served? {},
        _ = terminated.recv() => Ok(()),
    }
}
