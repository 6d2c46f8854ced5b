//! Maps every workflow of a folder with made-up bindings, maps it back, and counts what differs otherwise than meant.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use genesis_agent::core::mapper::{self, Binding};
use genesis_agent::core::workflow;
use serde_json::{Value, json};

use super::{Failure, say};

/// Rounds per workflow: enough for a steady figure of small files.
const ROUNDS: usize = 50;

#[derive(clap::Args)]
pub struct Options {
    /// Folder of n8n workflow files (`*.json`), searched with its subfolders.
    #[arg(long)]
    dir: PathBuf,
}

/// A workflow with the bindings and variables to map it with, and those to map it back with.
struct Case {
    file: PathBuf,
    template: Value,
    bytes: usize,
    forth: (BTreeMap<String, Binding>, BTreeMap<String, String>),
    back: BTreeMap<String, Binding>,
}

pub fn run(options: &Options) -> Result<Value, Failure> {
    let mut files = Vec::new();
    collect(&options.dir, &mut files)?;
    let cases: Vec<Case> = files.iter().filter_map(|file| case(file)).collect();
    if cases.is_empty() {
        return Err(format!("{} holds no n8n workflow", options.dir.display()).into());
    }
    say(&format!("{} workflows of {} JSON files", cases.len(), files.len()));

    let mismatches = cases.iter().filter(|case| !(goes_forth(case) && comes_back(case))).count();
    #[allow(clippy::disallowed_methods, reason = "a bench measures time")]
    let started = Instant::now();
    for _ in 0..ROUNDS {
        for case in &cases {
            let mapped = mapper::map(&case.template, &case.forth.0, &case.forth.1);
            std::hint::black_box(mapped.is_ok());
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    let bytes: usize = cases.iter().map(|case| case.bytes).sum();
    #[allow(clippy::cast_precision_loss, reason = "a rate needs few digits")]
    let mb_per_s = (bytes * ROUNDS) as f64 / 1e6 / seconds;
    let figures = json!({
        "workflows": cases.len(),
        "left_out": files.len() - cases.len(),
        "bytes": bytes,
        "mb_per_s": (mb_per_s * 10.0).round() / 10.0,
        "mismatches": mismatches,
        "method": format!("each workflow mapped {ROUNDS} times on one core, parsing not counted; bytes as serialised"),
    });
    if mismatches == 0 { Ok(figures) } else { Err(figures.to_string().into()) }
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), Failure> {
    for entry in std::fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|e| e == "json") {
            files.push(path);
        }
    }
    files.sort();
    Ok(())
}

/// `None` where a file is no workflow, or has references that no mapper could bind.
fn case(file: &Path) -> Option<Case> {
    let template = genesis_shared::json::parse(&std::fs::read(file).ok()?).ok()?;
    if !template.get("nodes")?.is_array() || !template.get("connections")?.is_object() {
        return None;
    }
    let (mut forth, mut back) = (BTreeMap::new(), BTreeMap::new());
    for node in template["nodes"].as_array()? {
        for (slot, reference) in node.get("credentials").and_then(Value::as_object).into_iter().flatten() {
            let (Some(id), Some(name)) = (reference["id"].as_str(), reference["name"].as_str()) else {
                say(&format!("{}: left out, a credential reference without id and name", file.display()));
                return None;
            };
            let made_up = format!("made-up-{}", forth.len());
            let binding = |n8n_id: &str, n8n_name: &str| {
                let (n8n_id, n8n_name) = (n8n_id.to_owned(), n8n_name.to_owned());
                Some(Binding { n8n_id, n8n_name, credential_type: slot.parse().ok()? })
            };
            // One id under two names or types cannot come back: a binding is a credential, which has one of each.
            let known: &Binding = forth.entry(id.to_owned()).or_insert(binding(&made_up, &made_up)?);
            back.entry(known.n8n_id.clone()).or_insert(binding(id, name)?);
        }
    }
    let bytes = template.to_string().len();
    let variables = variables(&template);
    Some(Case { file: file.to_owned(), template, bytes, forth: (forth, variables), back })
}

/// Every `YOUR_*` token, each with a value that does not occur in any workflow and is harmless in code.
fn variables(template: &Value) -> BTreeMap<String, String> {
    let problems = mapper::map(template, &BTreeMap::new(), &BTreeMap::new()).err().unwrap_or_default();
    let token =
        |problem| if let mapper::Problem::UnknownPlaceholder { token, .. } = problem { Some(token) } else { None };
    let tokens = problems.into_iter().filter_map(token).filter(|token| token.starts_with("YOUR_"));
    tokens.map(|token| (token.clone(), format!("\u{10FFFD}{token}\u{10FFFD}"))).collect()
}

/// Maps, and looks that the result holds every made-up id and value, and none of what they stand for.
fn goes_forth(case: &Case) -> bool {
    let Ok(mapped) = mapper::map(&case.template, &case.forth.0, &case.forth.1) else { return true };
    let references = workflow::references(&mapped);
    let ids = references.iter().all(|(_, _, id)| case.back.contains_key(id));
    let text = mapped.to_string();
    // Without the marks no token may be left: each marked value holds its token once.
    let unmarked = case.forth.1.values().fold(text.clone(), |text, value| text.replace(value.as_str(), ""));
    let tokens = case.forth.1.keys().all(|token| !unmarked.contains(token.as_str()));
    let values = case.forth.1.values().all(|value| text.contains(value.as_str()));
    if !(ids && tokens && values) {
        say(&format!("{}: not mapped as meant", case.file.display()));
    }
    ids && tokens && values
}

/// Maps, maps back, and compares with what came in.
fn comes_back(case: &Case) -> bool {
    let back = mapper::map(&case.template, &case.forth.0, &case.forth.1).and_then(|mapped| {
        // The made-up values mark where each token was; `map` has no business with them, so they are put back here.
        mapper::map(&unmark(&mapped), &case.back, &marks(&case.forth.1))
    });
    match back {
        Ok(back) if same_text(&unmark(&back), &case.template) => true,
        Ok(_) => {
            say(&format!("{}: differs after mapping back", case.file.display()));
            false
        }
        Err(problems) => {
            let list: Vec<String> = problems.iter().map(ToString::to_string).collect();
            say(&format!("{}: {}", case.file.display(), list.join("; ")));
            false
        }
    }
}

/// Byte for byte, the order of keys and the digits of numbers included.
fn same_text(a: &Value, b: &Value) -> bool {
    let text = Value::to_string;
    text(a) == text(b)
}

/// Tokens stand for themselves on the way back.
fn marks(variables: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    variables.keys().map(|token| (token.clone(), token.clone())).collect()
}

/// Removes the marks around the tokens.
fn unmark(value: &Value) -> Value {
    match value {
        Value::String(text) => Value::String(text.replace('\u{10FFFD}', "")),
        Value::Array(items) => items.iter().map(unmark).collect(),
        Value::Object(entries) => Value::Object(entries.iter().map(|(k, v)| (k.clone(), unmark(v))).collect()),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}
