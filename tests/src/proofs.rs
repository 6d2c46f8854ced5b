//! The agent dies where it is told to: one run of a scenario with planned crashes, and what is left after it.

use genesis_shared::id::JobId;

use crate::droplet::Droplet;
use crate::scenario::Scenario;

/// Lives after which a command must have ended: two planned crashes and one that runs to the end.
const LIVES_MAX: usize = 3;

/// What one run came to.
#[derive(Debug, Clone, Copy)]
pub struct Ran {
    /// Points passed in the life that ended first.
    pub passed: u64,
    /// How many planned crashes took place.
    pub crashed: usize,
    /// Creations that n8n carried out.
    pub creates: u64,
}

/// Plays a scenario with crashes at the given points of the first lives, and checks what is left.
pub async fn play(scenario: &Scenario, crashes: &[u64]) -> Ran {
    let droplet = Droplet::new(7);
    let before = scenario.prepare(&droplet).await;
    let job = droplet.push(scenario.commands(&droplet).await);
    let mut ran = Ran { passed: 0, crashed: 0, creates: 0 };
    for life in 0..LIVES_MAX {
        droplet.outside.crash.plan(crashes.get(life).copied());
        let ended = live(&droplet, job).await;
        if life == 0 {
            ran.passed = droplet.outside.crash.passed();
        }
        if ended {
            break;
        }
        ran.crashed += 1;
    }
    droplet.outside.crash.plan(None);
    let what = format!("{} with crashes at {crashes:?}", scenario.name);
    let result = droplet.while_running(droplet.result(job)).await;
    assert_eq!(result.state, scenario.outcome, "{what}: {} {}", result.code, result.message);
    scenario.check(&droplet, &before, &what);
    let standin = droplet.outside.n8n.borrow();
    ran.creates = ["/api/v1/credentials", "/api/v1/workflows"].map(|path| standin.count("POST", path)).iter().sum();
    ran
}

/// One life of the agent: until the hub has the result (`true`) or the planned crash.
async fn live(droplet: &Droplet, job: JobId) -> bool {
    let crash = droplet.outside.crash.clone();
    droplet
        .one_life(async {
            tokio::select! {
                _ = droplet.result(job) => true,
                () = crash.happened() => false,
            }
        })
        .await
        .unwrap_or(false)
}
