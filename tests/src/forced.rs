//! Swaps that cannot succeed, and power cuts in the middle of one: the service is back with the data of before, or serves
//! the new version, and every caller has heard something.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use genesis_agent::ports::stack::Containers;
use genesis_shared::id::JobId;
use genesis_shared::stack::{ImageRef, Service};
use genesis_shared::wire::{JobState, JobView};

use serde_json::{Value, json};

use crate::engine::{CADDY_VARIABLE, POSTGRES_VARIABLE, Stage, image_from_env};
use crate::stack::{LEDGER_PATH, StackRig, patiently};
use crate::swaps::two_versions;
use crate::traffic::{Call, Traffic};

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forced {
    /// The new image ends as soon as it starts.
    Ends,
    /// The new image runs and never answers.
    NeverHealthy,
    /// The new n8n cannot raise the database's tables.
    Migration,
    /// Agent and containers are killed at once as soon as the journal holds so many events of the swap.
    PowerCut(u32),
}

/// Events of a swap's journal: each of its steps begins and ends.
pub const EVENTS_OF_A_SWAP: u32 = 22;

/// What one of them came to.
#[derive(Debug)]
pub struct Outcome {
    /// The job as the hub has it.
    pub job: JobView,
    /// Calls that were made meanwhile.
    pub calls: usize,
    /// Calls with neither 200 nor 503 and `Retry-After`. In a power cut connections break; elsewhere none may.
    pub unanswered: Vec<Call>,
    /// Calls that were answered with 200 and are not in the database.
    pub lost: usize,
    /// Ids that are in the database more than once.
    pub doubled: u64,
    /// From the swap's beginning to when n8n answered through the proxy again and the job had ended.
    pub took: Duration,
}

/// Plays one under `rate` calls a second.
///
/// # Panics
/// The service does not come back, or neither version runs.
pub async fn force(rig: &mut StackRig, forced: Forced, name: &str, rate: u32) -> Outcome {
    let [older, newer] = two_versions();
    if forced == Forced::Migration && running_image(rig).await != id_of(rig, &older).await {
        let job = rig.run(rig.swap_command(Service::N8n, &older)).await;
        assert_eq!(job.state, JobState::Succeeded, "{:?}", job.result);
    }
    let before = running_image(rig).await;
    let to = match forced {
        Forced::Ends => image_from_env(POSTGRES_VARIABLE),
        Forced::NeverHealthy => image_from_env(CADDY_VARIABLE),
        Forced::Migration => newer,
        Forced::PowerCut(_) => {
            if before == id_of(rig, &older).await {
                newer
            } else {
                older
            }
        }
    };
    if forced == Forced::Migration {
        spoil_migrations(rig).await;
    }
    let traffic = Traffic::start(rig.caller.clone(), rig.url(&format!("/webhook/{LEDGER_PATH}")), name, rate);
    let job = rig.start(rig.swap_command(Service::N8n, &to)).await;
    if let Forced::PowerCut(events) = forced {
        cut_power(rig, job, events).await;
    }
    let job = patiently("the job to end", || async {
        let view = rig.rig.client.job(job).await.ok()?;
        view.state.is_final().then_some(view)
    })
    .await;
    rig.serves().await;
    let took = traffic.elapsed();
    let calls = traffic.finish().await;
    if forced == Forced::Migration {
        rig.lab.sql("n8n", "DROP TRIGGER no_more ON migrations; DROP FUNCTION no_more()").await;
    }
    let expected = if job.state == JobState::Succeeded { id_of(rig, &to).await } else { before };
    assert_eq!(running_image(rig).await, expected, "{forced:?}: {:?}", job.result);
    let written: BTreeSet<String> = rig.ledger_ids().await.into_iter().collect();
    let (all, different) = rig.ledger_counts().await;
    let is_lost = |(id, call): &(&String, &Call)| call.outcome == Ok(200) && !written.contains(*id);
    let lost = calls.iter().filter(is_lost).count();
    let count = calls.len();
    let unanswered = calls.into_values().filter(|call| !call.is_answered()).collect();
    Outcome { job, calls: count, unanswered, lost, doubled: all - different, took }
}

/// The engine's id of the image that n8n's container runs.
async fn running_image(rig: &StackRig) -> String {
    patiently("n8n's container", || async {
        rig.lab.engine().container(Service::N8n).await.ok()?.map(|info| info.image_id)
    })
    .await
}

async fn id_of(rig: &StackRig, image: &ImageRef) -> String {
    rig.lab.engine().image(image).await.unwrap().unwrap().id
}

/// Whoever writes down that a migration was made is refused; the older version has none to make.
async fn spoil_migrations(rig: &StackRig) {
    let sql = "DELETE FROM migrations WHERE name LIKE 'AddWorkflowUnpublishScope%';
        CREATE FUNCTION no_more() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'spoiled for a test'; END $$;
        CREATE TRIGGER no_more BEFORE INSERT ON migrations EXECUTE FUNCTION no_more()";
    rig.lab.sql("n8n", sql).await;
}

/// Events of a job's steps so far, as the agent tells them; all there can be once it has ended. The journal itself is
/// the agent's alone while it runs.
fn progress(rig: &StackRig, job: JobId) -> Option<u32> {
    let output = rig.rig.agent_command(&["journal", "--lines", "1", "--json"]).output().ok()?;
    let lines: Value = serde_json::from_slice(&output.stdout).ok()?;
    let line = lines.as_array()?.iter().find(|line| line["job_id"] == json!(job))?;
    if !line["ended"].is_null() {
        return Some(EVENTS_OF_A_SWAP);
    }
    let steps = line["steps"].as_array()?.iter().filter_map(Value::as_str);
    Some(steps.map(|step| if step.ends_with(" done") { 2 } else { u32::from(!step.ends_with(" pending")) }).sum())
}

/// Kills agent and containers at once when the swap has come so far, and starts the agent; the engine starts what ran.
async fn cut_power(rig: &mut StackRig, job: JobId, events: u32) {
    patiently("the swap to come so far", || async { (progress(rig, job)? >= events).then_some(()) }).await;
    let mut pids = Vec::new();
    for service in Service::ALL {
        pids.extend(rig.lab.engine().container(service).await.unwrap().and_then(|info| info.pid));
    }
    rig.rig.agent.kill();
    let pids: Vec<String> = pids.iter().map(u32::to_string).collect();
    // One that has ended by itself meanwhile is as good.
    drop(Command::new("kill").arg("-9").args(&pids).status());
    rig.rig.start_agent();
}
