//! The journal's disk is full: the agent says so, accepts nothing it could forget, and goes on when there is space.
#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test that cannot go on, or meets anything else, fails"
)]

use genesis_shared::wire::JobState;
use genesis_tests::rig::Rig;
use genesis_tests::until;

#[tokio::test]
async fn on_a_small_disk_that_is_full_nothing_is_accepted_and_nothing_is_lost() {
    let mut rig = Rig::with_small_disk(32 * 1024).await;
    let filler = rig.agent_dir().join("filler");
    let commands = rig.ignition().await;
    // As much as fits; the error at the end is the point.
    drop(std::fs::write(&filler, vec![0; 64 << 20]));

    // The poll that is under way brings the bundle: it cannot be kept, so it is not acknowledged, and the agent ends.
    let bundle = rig.operator.bundle(rig.workspace, commands);
    let job = rig.push(&rig.operator.sign(&bundle)).await;
    assert_eq!(rig.agent.exit().await.code(), Some(3), "{}", rig.agent.log());
    assert!(
        rig.agent.log().contains("journal_full") && rig.agent.log().contains("free some space"),
        "{}",
        rig.agent.log()
    );
    // Started again, as systemd would, it says what is wrong and asks for nothing that it could not keep.
    rig.start_agent();
    until("the agent's words", || {
        let said = rig.agent.log().contains("disk_full");
        async move { said.then_some(()) }
    })
    .await;
    assert!(rig.agent.is_running(), "{}", rig.agent.log());
    let view = rig.client.job(job).await.unwrap();
    assert_eq!((view.state, view.attempts), (JobState::Leased, 1), "what is not in the journal is not acknowledged");

    std::fs::remove_file(&filler).unwrap();
    let view = rig.finished(job).await;
    assert_eq!(view.state, JobState::Succeeded, "{:?}", view.result);
    let content = rig.n8n.content(&rig.n8n_key()).await;
    assert_eq!((content.credentials.len(), content.workflows.len()), (6, 7));
}
