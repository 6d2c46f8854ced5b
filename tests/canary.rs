//! Secret values are nowhere but where they belong, looked for in everything that a stolen hub or a log would give away.
//!
//! There is no stack of containers and no user data yet, so `docker inspect` and user data are not looked at.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that cannot go on fails, and figures are printed")]

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use genesis_shared::wire::JobState;
use genesis_tests::canary;
use genesis_tests::n8n::Kind;
use genesis_tests::rig::Rig;

/// Bytes that are read at once: some pages.
const PIECE: usize = 64 * 1024;

/// What a core dump of a process would hold: every mapping that it can read, but for the code in its files.
fn core_dump(pid: u32) -> Vec<u8> {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let memory = File::open(format!("/proc/{pid}/mem")).unwrap();
    let mut dump = Vec::new();
    for line in maps.lines() {
        let mut fields = line.split_whitespace();
        let (range, rights) = (fields.next().unwrap(), fields.next().unwrap());
        // The kernel's own pages cannot be read like this.
        if !rights.starts_with('r') || rights.contains('x') || line.contains("[v") {
            continue;
        }
        let (from, to) = range.split_once('-').unwrap();
        let [from, to] = [from, to].map(|hex| u64::from_str_radix(hex, 16).unwrap());
        // Piece by piece: a page that was given back meanwhile is in no dump either.
        for at in (from..to).step_by(PIECE) {
            let mut piece = vec![0; PIECE.min(usize::try_from(to - at).unwrap())];
            if memory.read_exact_at(&mut piece, at).is_ok() {
                dump.extend(piece);
            }
        }
    }
    dump
}

/// Environment and arguments of a process.
fn surroundings(pid: u32) -> Vec<u8> {
    ["environ", "cmdline"].map(|file| std::fs::read(format!("/proc/{pid}/{file}")).unwrap()).concat()
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[tokio::test]
async fn no_secret_is_in_what_the_hub_knows_or_in_what_the_agent_writes() {
    let rig = Rig::new(Kind::StandIn).await;
    let ignition = rig.ignition().await;
    let job = rig.run(ignition).await;
    assert_eq!(job.state, JobState::Succeeded, "{:?}", job.result);
    let workspace = rig.workspace.to_string();

    // In memory: while the hub still serves, with the bundle that it handed out just now.
    let dump = core_dump(rig.hub.id());
    assert!(contains(&dump, &workspace), "the dump is one of this hub");
    assert!(!canary::holds(&dump), "the hub's memory");
    println!("hub's core dump: {} bytes, 0 hits", dump.len());

    for (what, pid) in [("hub", rig.hub.id()), ("agent", rig.agent.id())] {
        let around = surroundings(pid);
        assert!(!around.is_empty() && !canary::holds(&around), "environment and arguments of the {what}");
    }

    // On disk: each place by its name, so that none is missed for want of a file.
    let place = |what: &str, path: &Path, must_hold: &str| {
        let bytes = std::fs::read(path).unwrap();
        assert!(contains(&bytes, must_hold), "{what}: {} holds what it is for", path.display());
        assert!(!canary::holds(&bytes), "{what}");
        println!("{what}: {} bytes, 0 hits", bytes.len());
    };
    let database = genesis_hub::setup::database(&rig.hub_dir());
    let log = |path: &Path, ending: &str| path.with_file_name(format!("{}{ending}", file_name(path)));
    place("hub's database or its log", &log(&database, "-wal"), &workspace);
    let journal = rig.agent_dir().join("journal.db");
    place("agent's journal or its log", &log(&journal, "-wal"), &job.job_id.to_string());
    for (what, log) in [("hub's log", rig.hub.log()), ("agent's log", rig.agent.log())] {
        assert!(!log.is_empty() && !canary::holds(log.as_bytes()), "{what}");
        println!("{what}: {} bytes, 0 hits", log.len());
    }
    assert_eq!(canary::find(&rig.hub_dir(), &[]), Vec::<String>::new(), "the hub's folder");
    assert_eq!(canary::find(&rig.agent_dir(), &[]), Vec::<String>::new(), "the agent's folder");

    // The search can find: this very process sealed the secrets, and the tenant's n8n has what it was given.
    assert!(canary::holds(&core_dump(std::process::id())));
    let held = rig.n8n.content(&rig.n8n_key()).await;
    assert!(canary::holds(&serde_json::to_vec(&held.workflows).unwrap()));
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}
