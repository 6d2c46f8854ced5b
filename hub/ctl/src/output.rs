//! The only place that prints: results on standard output, everything else on standard error.
//!
//! It writes instead of using `println!`, which panics when the reader of a pipe has gone (`genesisctl job list | head`).

use std::io::Write;

use genesis_shared::chain::Chain;
use serde::Serialize;
use serde_json::json;

use crate::error::Error;

/// How results are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object or array on standard output, for machines; its members stay.
    Json,
}

impl Format {
    /// Prints a result: as JSON, or as the text that `human` makes of it.
    pub fn result<T: Serialize>(self, value: &T, human: impl FnOnce(&T) -> String) {
        match self {
            Self::Text => line(&human(value)),
            Self::Json => line(&serde_json::to_string(value).expect("a result has a JSON form")),
        }
    }

    /// Prints something that happened on the way: beside the result, so that the result stays alone.
    pub fn news(self, line: &str) {
        match self {
            Self::Text => self::line(line),
            Self::Json => note(line),
        }
    }

    /// Prints an error with its next step on standard error.
    pub fn error(self, error: &Error) {
        let (code, message, next) = (error.code(), Chain(error).to_string(), error.next_step());
        match self {
            Self::Text => note(&format!("error[{code}]: {message}\n  next: {next}")),
            Self::Json => note(&json!({ "code": code, "message": message, "next": next }).to_string()),
        }
    }
}

/// Prints a line on standard error.
pub fn note(line: &str) {
    write(std::io::stderr().lock(), line);
}

/// Prints a line on standard output, whatever the format.
pub fn line(line: &str) {
    write(std::io::stdout().lock(), line);
}

fn write(mut to: impl Write, line: &str) {
    // Nobody listens any more: there is nowhere to say so, and the exit code still tells how it went.
    drop(writeln!(to, "{line}").and_then(|()| to.flush()));
}

/// Lays out rows in columns; the first row is the head.
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |n: usize| rows.iter().filter_map(|row| row.get(n)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let lines = rows.iter().map(|row| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_lines_its_columns_up() {
        let row = |a: &str, b: &str| vec![a.to_owned(), b.to_owned()];
        assert_eq!(table(&[row("ID", "STATE"), row("droplet-1", "ok")]), "ID         STATE\ndroplet-1  ok");
        assert_eq!(table(&[]), "");
    }
}
