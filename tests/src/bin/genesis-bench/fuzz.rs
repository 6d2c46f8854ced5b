//! Millions of mutated documents through the real decisions: none may panic, none may be accepted that nobody signed.

use std::path::PathBuf;
use std::time::Instant;

use genesis_tests::fuzz::corpus::Corpus;
use genesis_tests::fuzz::{Fuzzer, Target, Verdicts};
use serde_json::{Value, json};

use super::{Failure, say};

#[derive(clap::Args)]
pub struct Options {
    /// How many inputs, over all targets.
    #[arg(long, default_value_t = 10_000_000)]
    inputs: u64,
    /// The inputs follow from it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Writes the corpus anew into this folder, and does nothing else.
    #[arg(long)]
    write_corpus: Option<PathBuf>,
}

pub fn run(options: &Options) -> Result<Value, Failure> {
    if let Some(folder) = &options.write_corpus {
        return write_corpus(folder);
    }
    let fuzzer = Fuzzer::new(options.seed);
    // A panic is counted, not told at length a thousand times.
    std::panic::set_hook(Box::new(|_| {}));
    let mut counts = Target::ALL.map(|target| (target, 0_u64, 0_u64));
    let (mut panics, mut accepts) = (0_u64, 0_u64);
    #[allow(clippy::disallowed_methods, reason = "a bench measures time")]
    let started = Instant::now();
    for number in 0..options.inputs {
        let (target, inputs, originals) = &mut counts[usize::try_from(number)? % Target::ALL.len()];
        let input = fuzzer.input(*target);
        *inputs += 1;
        match fuzzer.judge(*target, &input) {
            Verdicts::Refused => {}
            Verdicts::Original => *originals += 1,
            verdict @ (Verdicts::Accepted | Verdicts::Panicked) => {
                say(&format!("{verdict:?} {}: {}", target.name(), String::from_utf8_lossy(&input)));
                if verdict == Verdicts::Panicked { panics += 1 } else { accepts += 1 }
            }
        }
        if number % 1_000_000 == 999_999 {
            say(&format!("{} inputs in {} s", number + 1, started.elapsed().as_secs()));
        }
    }
    let targets: serde_json::Map<String, Value> = counts
        .iter()
        .map(|(target, inputs, originals)| {
            (target.name().to_owned(), json!({"inputs": inputs, "accepted_as_signed": originals}))
        })
        .collect();
    let figures = json!({
        "inputs": options.inputs,
        "panics": panics,
        "accepts": accepts,
        "seconds": started.elapsed().as_secs(),
        "seed": options.seed,
        "targets": targets,
        "method": "corpus of tests/corpus, mutated; an accept is a document that verifies and whose signed content is no original's; one core",
    });
    if panics + accepts == 0 { Ok(figures) } else { Err(figures.to_string().into()) }
}

fn write_corpus(folder: &std::path::Path) -> Result<Value, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build()?;
    let files = runtime.block_on(Corpus::make());
    for (name, lines) in &files {
        std::fs::write(folder.join(format!("{name}.jsonl")), lines)?;
    }
    let count = |lines: &String| lines.lines().count();
    Ok(files.iter().map(|(name, lines)| ((*name).to_owned(), json!(count(lines)))).collect())
}
