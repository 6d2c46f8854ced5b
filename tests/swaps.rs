//! n8n is swapped under load on a real engine: nobody outside can tell but by waiting, whatever the new image is, and
//! whenever the power goes.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that cannot go on fails; figures are printed")]

mod real_engine {
    use genesis_shared::wire::JobState;
    use genesis_tests::forced::{Forced, force};
    use genesis_tests::stack::StackRig;
    use genesis_tests::swaps;
    use genesis_tests::traffic::with_traffic;

    #[tokio::test]
    async fn five_swaps_lose_no_request_and_no_tick_of_a_schedule() {
        with_traffic(async {
            let rig = StackRig::new().await;
            rig.deploy_ledger().await;
            let run = swaps::run(&rig, 5, 20, |_| {}).await.unwrap();
            println!("{}", run.figures());
            assert!(run.is_flawless(), "{} {:?} {:?} {:?}", run.figures(), run.failed(), run.lost(), run.doubled());
            assert!(run.calls.len() > 100);
        })
        .await;
    }

    #[tokio::test]
    async fn a_swap_that_cannot_succeed_leaves_the_version_and_the_data_of_before() {
        with_traffic(async {
            let mut rig = StackRig::new().await;
            rig.deploy_ledger().await;
            for (forced, code) in [(Forced::Ends, "not_healthy"), (Forced::Migration, "not_healthy")] {
                let outcome = force(&mut rig, forced, &format!("{forced:?}"), 5).await;
                let result = outcome.job.result.unwrap();
                assert_eq!((outcome.job.state, result.code.as_str()), (JobState::Failed, code), "{}", result.message);
                assert!(outcome.calls > 10 && outcome.unanswered.is_empty(), "{forced:?}: {:?}", outcome.unanswered);
                assert_eq!((outcome.lost, outcome.doubled), (0, 0), "{forced:?}");
            }
            // Just before the new container starts, and just after.
            for events in [14, 17] {
                let outcome = force(&mut rig, Forced::PowerCut(events), &format!("cut-{events}"), 5).await;
                assert!(outcome.job.state.is_final(), "{:?}", outcome.job);
                assert_eq!((outcome.lost, outcome.doubled), (0, 0), "cut after {events} events");
            }
        })
        .await;
    }
}
