//! The `genesis-hub` binary: arguments in, one of the library's functions, an exit code out.

use std::process::ExitCode;

use clap::Parser;
use genesis_hub::cli;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    cli::log(&cli);
    cli::run(cli)
}
