//! `genesis-manual FOLDER`: man pages (`man/`) and completions (`completions/`) of the three programs, from their command
//! lines. A program of its own, so that nothing of this is in the agent.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Command, CommandFactory};
use clap_complete::{Shell, generate_to};

fn main() -> ExitCode {
    let folder = std::env::args_os().nth(1).map(PathBuf::from);
    match folder.as_deref().map(write) {
        Some(Ok(())) => ExitCode::SUCCESS,
        Some(Err(error)) => {
            tell(&format!("genesis-manual: {error}"));
            ExitCode::FAILURE
        }
        None => {
            tell("usage: genesis-manual FOLDER");
            ExitCode::from(2)
        }
    }
}

#[allow(clippy::print_stderr, reason = "there is no log here")]
fn tell(what: &str) {
    eprintln!("{what}");
}

fn write(folder: &Path) -> io::Result<()> {
    let (man, completions) = (folder.join("man"), folder.join("completions"));
    fs::create_dir_all(&man)?;
    fs::create_dir_all(&completions)?;
    let commands =
        [genesis_agent::cli::Args::command(), genesis_hub::cli::Cli::command(), genesisctl::cmd::Cli::command()];
    for mut command in commands {
        let name = command.get_name().to_owned();
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            generate_to(shell, &mut command, &name, &completions)?;
        }
        // Options of every command are told once, on the first page.
        pages(&command, &name, &man)?;
    }
    Ok(())
}

/// One page for a command and one for each below it, `genesis-hub-token-create(1)`.
fn pages(command: &Command, name: &str, folder: &Path) -> io::Result<()> {
    let named = command.clone().name(name.to_owned()).disable_help_subcommand(true);
    let page = clap_mangen::Man::new(named);
    let mut text = Vec::new();
    page.render(&mut text)?;
    fs::write(folder.join(format!("{name}.1")), text)?;
    for below in command.get_subcommands().filter(|below| below.get_name() != "help" && !below.is_hide_set()) {
        pages(below, &format!("{name}-{}", below.get_name()), folder)?;
    }
    Ok(())
}
