//! Holds the table of allowed imports against the `use` lines: the architecture's invariants, as far as text can tell.
#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test that cannot go on, or meets anything else, fails"
)]

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Rust files below a folder (or the file itself), tests of modules left out.
fn sources(place: &str) -> Vec<(PathBuf, String)> {
    fn walk(path: &Path, found: &mut Vec<PathBuf>) {
        if path.is_dir() {
            for entry in fs::read_dir(path).unwrap() {
                walk(&entry.unwrap().path(), found);
            }
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path.to_owned());
        }
    }
    let mut found = Vec::new();
    walk(&root().join(place), &mut found);
    assert!(!found.is_empty(), "{place} holds no source: the table below is out of date");
    let is_test = |path: &PathBuf| {
        let text = path.to_string_lossy();
        text.ends_with("_tests.rs") || text.contains("/tests/")
    };
    found.retain(|path| !is_test(path));
    found.into_iter().map(|path| (path.clone(), without_tests(&fs::read_to_string(path).unwrap()))).collect()
}

/// The code of a file without comments and without its test module, which comes last.
fn without_tests(text: &str) -> String {
    let code = text.split("\n#[cfg(test)]\nmod ").next().unwrap_or_default();
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

/// No source below `place` may mention any of `words`, but for the files in `except`.
fn forbid(place: &str, words: &[&str], except: &[&str]) {
    for (path, code) in sources(place) {
        let name = path.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
        if except.iter().any(|allowed| name.starts_with(allowed)) {
            continue;
        }
        for word in words {
            assert!(!code.contains(word), "{name} names {word}, which the architecture forbids there");
        }
    }
}

#[test]
fn the_core_cannot_fail_for_outside_reasons() {
    let outside = [
        "tokio",
        "reqwest",
        "rusqlite",
        "sysinfo",
        "std::fs",
        "std::net",
        "std::process",
        "Instant::now",
        "SystemTime",
        "ring::rand",
        "async ",
        ".await",
    ];
    forbid("agent/src/core", &outside, &[]);
    forbid("shared/src", &outside, &[]);
    forbid("agent/src/core", &["crate::journal", "crate::exec", "crate::real", "crate::sim", "crate::agent"], &[]);
}

#[test]
fn one_outside_system_one_file() {
    forbid("agent/src", &["rusqlite"], &["agent/src/journal/sqlite.rs"]);
    forbid("agent/src", &["sysinfo"], &["agent/src/real/host.rs"]);
    forbid("agent/src", &["bollard"], &["agent/src/real/docker/"]);
    forbid("agent/src", &["psql", "pg_dump"], &["agent/src/real/database.rs"]);
    let clients = [
        "agent/src/real/hub.rs",
        "agent/src/real/n8n/",
        "agent/src/real/caddy/",
        "agent/src/real/mod.rs",
        "agent/src/real/slots.rs",
    ];
    forbid("agent/src", &["reqwest"], &clients);
    forbid("agent/src", &["hickory"], &["agent/src/real/names.rs"]);
    // The proxy looks at n8n by itself, as its configuration says.
    let addresses = ["agent/src/real/n8n/", "agent/src/sim/n8n/", "agent/src/core/routes.rs"];
    forbid("agent/src", &["/api/v1/", "/rest/"], &addresses);
    forbid("hub/src", &["rusqlite"], &["hub/src/store/"]);
}

#[test]
fn only_the_interpreter_and_the_lanes_call_both_journal_and_ports() {
    forbid("agent/src/journal", &["crate::ports", "crate::real", "crate::exec", "crate::agent"], &[]);
    forbid("agent/src/ports", &["crate::journal", "crate::exec", "crate::real"], &[]);
    forbid("agent/src/real", &["crate::journal", "crate::exec", "crate::agent"], &[]);
    forbid("agent/src/sim", &["crate::journal", "crate::exec", "crate::agent"], &[]);
}

#[test]
fn the_hub_can_reach_nothing_that_signs_a_bundle() {
    forbid("hub/src", &["genesisctl", "genesis_agent", "bundle::TYP"], &["hub/src/tests"]);
    forbid("hub/ctl/src", &["genesis_hub", "genesis_agent"], &[]);
    let manifest = fs::read_to_string(root().join("hub/Cargo.toml")).unwrap();
    let dependencies = manifest.split("[dev-dependencies]").next().unwrap();
    assert!(!dependencies.contains("genesisctl"), "the hub must not depend on the signer");
}

#[test]
fn nothing_unfinished_is_called_done() {
    for place in ["shared/src", "agent/src", "hub/src", "hub/ctl/src", "tests"] {
        let words =
            [concat!("todo", "!("), concat!("unimpl", "emented!("), concat!("#[ig", "nore"), concat!("FIX", "ME")];
        forbid(place, &words, &[]);
    }
}

#[test]
fn every_source_file_opens_with_its_one_sentence() {
    for place in ["shared/src", "agent/src", "hub/src", "hub/ctl/src", "tests"] {
        let mut files = Vec::new();
        for (path, _) in sources(place) {
            let text = fs::read_to_string(&path).unwrap();
            if !text.starts_with("//! ") {
                files.push(path.display().to_string());
            }
        }
        assert!(files.is_empty(), "without an opening sentence: {files:?}");
    }
}
