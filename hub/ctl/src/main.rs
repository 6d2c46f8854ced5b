//! The `genesisctl` binary: reads the command line, runs one command, ends with its exit code.

use std::process::ExitCode;

use clap::Parser;
use genesisctl::cmd::{self, Cli};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let format = cli.format();
    match cmd::run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            format.error(&error);
            ExitCode::from(error.exit().code())
        }
    }
}
