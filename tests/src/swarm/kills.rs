//! `kill -9` of the hub at random moments under load: whether it knows afterwards what it had acknowledged.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use genesis_shared::id::JobId;
use genesis_shared::wire::JobState;
use genesisctl::client::HubClient;
use tokio::sync::Mutex;

use super::{Pace, Script, Stage, Swarm, now};
use crate::PATIENCE;
use crate::kills::Dice;

/// Bundles per second while the hub is there.
const PUSHES_PER_S: u32 = 100;
/// Longest life of a hub between two kills.
const LIFE_MS: u64 = 700;

/// What a run came to.
#[derive(Debug, Default)]
pub struct Figures {
    /// Kills under load.
    pub kills: u32,
    /// Bundles whose push was acknowledged.
    pub pushed: usize,
    /// Results that were acknowledged.
    pub reported: usize,
    /// Of both, what the hub does not know afterwards, or knows otherwise.
    pub lost: usize,
    /// Bundles that are two jobs for their one tenant.
    pub doubled: usize,
    /// Hand-outs beyond the first of a job: at least once is the promise.
    pub redelivered: u64,
}

type Pushed = Arc<Mutex<BTreeMap<String, JobId>>>;

/// Runs `agents` agents against a hub that is killed `kills` times.
///
/// # Errors
/// What kept it from being measured.
pub async fn run(agents: u32, kills: u32, seed: u64) -> Result<Figures, String> {
    let mut stage = Stage::new("heartbeat_interval_s = 1\nsweep_interval_s = 1\nlease_ttl_ms = 2000\n").await;
    let mut swarm = Swarm::enrol(&stage.client, &stage.way, agents, |_| Script::PROMPT).await?;
    let pace = Pace { beat: Duration::from_secs(1), poll_wait: Duration::from_secs(5) };
    swarm.start(pace, Duration::from_millis(200));
    let (mut dice, pushed) = (Dice(seed), Pushed::default());
    let mut figures = Figures::default();
    for _ in 0..kills {
        let load = tokio::spawn(load(stage.client.clone(), bundles(&stage, &swarm, &mut dice), Arc::clone(&pushed)));
        tokio::time::sleep(Duration::from_millis(20 + dice.roll(LIFE_MS))).await;
        stage.kill_hub();
        figures.kills += 1;
        load.abort();
        stage.start_hub().await;
    }
    let pushed = pushed.lock().await.clone();
    let jobs: Vec<JobId> = pushed.values().copied().collect();
    let from = now();
    while swarm.ledger.progress(&jobs).1 < jobs.len() && from.elapsed() < PATIENCE {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    (figures.pushed, figures.redelivered) = (jobs.len(), swarm.ledger.redelivered());
    for (bundle, job) in &pushed {
        // The same bundle again must be the same job: what it has become is what was acknowledged.
        let again = stage.client.push(bundle.as_bytes()).await.map_err(|e| e.to_string())?;
        figures.doubled += usize::from(again.job_ids != [*job]);
        let known = stage.client.job(*job).await.ok();
        figures.lost += usize::from(known.is_none_or(|job| job.state != JobState::Succeeded));
    }
    let reported = swarm.ledger.reported_jobs();
    figures.reported = reported.len();
    for job in reported {
        let known = stage.client.job(job).await.ok();
        figures.lost += usize::from(known.is_none_or(|job| job.result.is_none()));
    }
    swarm.stop().await;
    Ok(figures)
}

/// Bundles for one hub's life, each for one tenant.
fn bundles(stage: &Stage, swarm: &Swarm, dice: &mut Dice) -> Vec<String> {
    let most = LIFE_MS * u64::from(PUSHES_PER_S) / 1000 + 1;
    let droplets = swarm.droplets.len() as u64;
    (0..most)
        .map(|_| {
            let number = usize::try_from(dice.roll(droplets)).unwrap_or(0);
            stage.look(vec![swarm.droplets[number].workspace])
        })
        .collect()
}

/// Pushes until it is stopped; keeps what was acknowledged.
async fn load(client: HubClient, bundles: Vec<String>, pushed: Pushed) {
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / PUSHES_PER_S);
    for bundle in bundles {
        ticks.tick().await;
        // One whose answer was lost counts for nothing: nothing was promised.
        if let Ok(answer) = client.push(bundle.as_bytes()).await
            && let Some(job) = answer.job_ids.first()
        {
            pushed.lock().await.insert(bundle, *job);
        }
    }
}
