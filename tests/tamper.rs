//! An exported chain with one change in it, whatever and wherever: the operator's tool finds every one.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that cannot go on fails, and figures are printed")]

use std::path::PathBuf;

use genesis_shared::audit::{Entry, Expected, Line};
use genesis_shared::command::CommandWire;
use genesis_shared::id::PublicKey;
use genesis_shared::report::OutcomeState;
use genesis_tests::droplet::Droplet;
use genesisctl::audit::{Keys, to_text, verify};
use tempfile::TempDir;

/// A droplet's chain as it is exported, and the checkpoint that somebody else keeps of it.
struct Exported {
    folder: TempDir,
    head: String,
    entries: Vec<String>,
    held: PathBuf,
    keys: Keys,
}

impl Exported {
    async fn new() -> Self {
        let droplet = Droplet::new(31);
        let look = || vec![CommandWire { action: "HEALTH_CHECK".into(), payload: None }];
        for _ in 0..3 {
            assert_eq!(droplet.run(look()).await.state, OutcomeState::Succeeded);
        }
        let agent = droplet.agent();
        let (mut lines, next) = agent.audit_lines(0).unwrap();
        let (checkpoints, none) = agent.audit_lines(next.unwrap()).unwrap();
        assert_eq!(none, None);
        let folder = tempfile::tempdir().unwrap();
        let held = folder.path().join("held.jsonl");
        std::fs::write(&held, to_text(&checkpoints)).unwrap();
        let head = to_text(&lines[..1]);
        let entries = lines.drain(1..).map(|line| to_text(&[line])).collect();
        let identities: Vec<PublicKey> = vec![agent.identity_key()];
        Self { folder, head, entries, held, keys: Keys { roots: vec![], identities } }
    }

    /// What the tool says of a chain of these lines.
    fn verdict(&self, entries: &[impl AsRef<[u8]>]) -> Result<u64, String> {
        let file = self.folder.path().join("chain.jsonl");
        let lines: Vec<&[u8]> =
            std::iter::once(self.head.as_bytes()).chain(entries.iter().map(AsRef::as_ref)).collect();
        std::fs::write(&file, lines.concat()).unwrap();
        let verdict = verify(&file, std::slice::from_ref(&self.held), &self.keys, Expected::WHOLE);
        verdict.map(|verdict| verdict.head.entries).map_err(|error| error.to_string())
    }
}

fn entry(line: &[u8]) -> Option<Entry> {
    match serde_json::from_slice(line) {
        Ok(Line::Entry(entry)) => Some(entry),
        Ok(Line::Chain(_) | Line::Checkpoint(_)) | Err(_) => None,
    }
}

#[tokio::test(start_paused = true)]
async fn an_untouched_export_holds_and_its_checkpoint_is_the_droplets() {
    let exported = Exported::new().await;
    assert!(exported.entries.len() >= 8, "{:?}", exported.entries);
    assert_eq!(exported.verdict(&exported.entries), Ok(exported.entries.len() as u64));
}

#[tokio::test(start_paused = true)]
async fn every_byte_that_is_flipped_is_found_unless_it_says_the_same() {
    let exported = Exported::new().await;
    let (mut flips, mut same) = (0, 0);
    for n in 0..exported.entries.len() {
        let line = exported.entries[n].as_bytes();
        // The line's end stays: without it the next line is a part of this one, which is no JSON.
        for at in 0..line.len() - 1 {
            for mask in [0x01, 0x20] {
                let mut changed = line.to_vec();
                changed[at] ^= mask;
                let mut lines: Vec<&[u8]> = exported.entries.iter().map(String::as_bytes).collect();
                lines[n] = &changed;
                flips += 1;
                if exported.verdict(&lines).is_ok() {
                    assert_eq!(entry(&changed), entry(line), "{}", String::from_utf8_lossy(&changed));
                    same += 1;
                }
            }
        }
    }
    println!("{{\"flips\":{flips},\"found\":{},\"say_the_same\":{same}}}", flips - same);
    assert!(flips > 2_000 && same * 50 < flips);
}

#[tokio::test(start_paused = true)]
async fn every_deletion_insertion_exchange_and_truncation_is_found() {
    let exported = Exported::new().await;
    let whole = &exported.entries;
    let mut changes = 0;
    let mut found = |entries: Vec<String>, what: String| {
        let verdict = exported.verdict(&entries);
        assert!(verdict.is_err(), "{what}: {verdict:?}");
        changes += 1;
    };
    for n in 0..whole.len() {
        let mut without = whole.clone();
        without.remove(n);
        found(without, format!("{n} deleted"));
        found(whole[..n].to_vec(), format!("cut before {n}"));
        for m in 0..=whole.len() {
            let mut more = whole.clone();
            more.insert(m, whole[n].clone());
            found(more, format!("{n} once more at {m}"));
        }
        for m in n + 1..whole.len() {
            let mut moved = whole.clone();
            moved.swap(n, m);
            found(moved, format!("{n} and {m} exchanged"));
        }
    }
    println!("{{\"changes\":{changes},\"found\":{changes}}}");
}
