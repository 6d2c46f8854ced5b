//! Secrets on the droplet: whose the files are, and who may read them.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use genesis_shared::command::CommandWire;
use genesis_shared::wire::JobState;
use genesis_tests::n8n::Kind;
use genesis_tests::rig::Rig;

/// Everything in a folder, itself included, with its mode bits and owner.
fn walk(path: &Path, found: &mut Vec<(PathBuf, u32, u32)>) {
    let metadata = std::fs::symlink_metadata(path).unwrap();
    found.push((path.to_owned(), metadata.permissions().mode() & 0o7777, metadata.uid()));
    if metadata.is_dir() {
        for entry in std::fs::read_dir(path).unwrap() {
            walk(&entry.unwrap().path(), found);
        }
    }
}

fn everything_is_the_owners_alone(folder: &Path) -> usize {
    let mut found = Vec::new();
    walk(folder, &mut found);
    let me = std::fs::metadata("/proc/self").unwrap().uid();
    for (path, mode, uid) in &found {
        let expected = if path.is_dir() { 0o700 } else { 0o600 };
        assert_eq!((*mode, *uid), (expected, me), "{} has mode {mode:o}", path.display());
    }
    found.len()
}

#[tokio::test]
async fn after_an_ignition_every_file_and_folder_of_the_agent_is_its_owners_alone_and_a_loosened_one_is_mended() {
    let mut rig = Rig::new(Kind::StandIn).await;
    let commands = rig.ignition().await;
    assert_eq!(rig.run(commands).await.state, JobState::Succeeded);
    // Folder, secrets, journal with its log, socket, five keys and tokens at least.
    assert!(everything_is_the_owners_alone(&rig.agent_dir()) >= 9);

    assert!(rig.agent.terminate().await.success());
    let mut found = Vec::new();
    walk(&rig.agent_dir(), &mut found);
    for (path, ..) in &found {
        let loose = if path.is_dir() { 0o755 } else { 0o644 };
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(loose)).unwrap();
    }
    rig.start_agent();
    let look = vec![CommandWire { action: "HEALTH_CHECK".into(), payload: None }];
    assert_eq!(rig.run(look).await.state, JobState::Succeeded);
    everything_is_the_owners_alone(&rig.agent_dir());
    assert!(rig.agent.log().contains("could be read by others"), "{}", rig.agent.log());
}
