//! The `genesis-hub` binary: arguments in, one of the library's functions, an exit code out.

mod cli;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    cli::log(&cli);
    cli::run(cli)
}
