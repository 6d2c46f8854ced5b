//! What an operator does for a new tenant: seals, signs, pushes and watches, and then looks at the droplet.

use std::time::Duration;

use genesis_shared::bundle::Targets;
use genesis_shared::id::BundleId;
use genesis_shared::wire::{DropletView, JobState, JobView};
use tokio::time::{Instant, sleep};

use super::process::{LOOK, Processes};
use super::report::{GOAL_STATE, Report};
use super::stage::Stage;
use super::timeline::Timeline;
use super::values;
use crate::error::Error;
use crate::ignition::{self, Template};
use crate::orders::{self, Spec};
use crate::{system, watch};

/// How long an ignition may take: a real n8n that is just starting on a small machine needs minutes.
const IGNITION_S: u64 = 600;
/// How long the health report may take to show the result. A machine that was busy building is called degraded until
/// some calm samples have been taken.
const HEALTH_S: u64 = 60;

/// Ignites the tenant on the stage and judges the result.
///
/// # Errors
/// Whatever fails first; a result that is not the goal is no error here but shows in the report.
pub async fn ignite(stage: &Stage, processes: &mut Processes, timeline: &Timeline) -> Result<Report, Error> {
    let template = Template::golden()?;
    let tenant = values::tenant(&template, stage.recipient)?;
    let commands = ignition::commands(&template, &tenant, system::random)?;
    let credentials = tenant.credentials.len();
    timeline.say(&format!("{credentials} credentials and the secret variable sealed to the droplet"));

    let targets = Targets::Workspaces(vec![stage.recipient.workspace]);
    let spec = Spec::of(targets, ignition::QUEUE, ignition::PRIORITY, commands);
    let id = BundleId::from_random(system::random()?);
    let (bundle, document) = orders::sign(spec, std::slice::from_ref(&stage.operator), id, system::now())?;
    let text = document.to_text();
    let (count, kib) = (bundle.commands.len(), text.len() / 1024);
    timeline.say(&format!("bundle {id} signed by {}: {count} commands, {kib} KiB", bundle.issuer));

    let pushed = Instant::now();
    let answer = stage.client.push(text.as_bytes()).await?;
    let [job_id] = answer.job_ids[..] else {
        return Err(Error::DemoResult(format!("the hub made {} jobs of one target", answer.job_ids.len())));
    };
    timeline.say(&format!("pushed: job {job_id}"));
    timeline.doing("the droplet is igniting");
    let changed = |job: &JobView| timeline.say(&format!("job {}", job.state.name()));
    let waited = Duration::from_secs(IGNITION_S);
    let job = tokio::select! {
        job = tokio::time::timeout(waited, watch::until_final(&stage.client, job_id, LOOK, changed)) => job,
        death = processes.watch_over("agent", |warning| timeline.say(warning)) => return Err(death),
    };
    let job = match job {
        Ok(job) => job?,
        Err(_) => {
            let what = format!("the ignition; the agent's last lines:\n{}\nIt", processes.log_tail("agent"));
            return Err(Error::Timeout { what, seconds: IGNITION_S });
        }
    };
    let ignition_ms = u64::try_from(pushed.elapsed().as_millis()).unwrap_or(u64::MAX);
    tell_steps(&job, timeline);
    if job.state != JobState::Succeeded {
        let log = processes.log_tail("agent");
        let refused = watch::outcome(&job).expect_err("a job that did not succeed is an error");
        timeline.say(&format!("the agent's last lines:\n{log}"));
        return Err(refused);
    }
    timeline.doing("waiting for the droplet's health report");
    let droplet = healthy(stage, processes).await?;
    let rss = processes.resident_bytes("agent");
    let report = Report::new(&bundle.commands, &job, &droplet, credentials, ignition_ms, rss);
    timeline.say(&format!("droplet is {} with {} workflows active", report.state, report.workflows_active));
    Ok(report)
}

/// Tells each step that was begun; those behind a failure are only counted.
fn tell_steps(job: &JobView, timeline: &Timeline) {
    let steps = job.result.iter().flat_map(|result| &result.steps);
    let (pending, begun): (Vec<_>, Vec<_>) = steps.partition(|step| step.state == "pending");
    for step in begun {
        let tries = if step.attempts > 1 { format!(", {} tries", step.attempts) } else { String::new() };
        timeline.detail(&format!("{:>5} ms  {} {}{tries}", step.ms, step.name, step.state));
    }
    if !pending.is_empty() {
        timeline.detail(&format!("{} steps were not begun", pending.len()));
    }
}

/// Waits for a health report that shows the goal; gives the last one when it does not come.
async fn healthy(stage: &Stage, processes: &mut Processes) -> Result<DropletView, Error> {
    let deadline = Instant::now() + Duration::from_secs(HEALTH_S);
    loop {
        let droplet = stage.client.droplet(&stage.droplet).await?;
        let active = droplet.health.as_ref().and_then(|health| health.active_workflows);
        if (droplet.state == GOAL_STATE && active == Some(super::report::GOAL_WORKFLOWS)) || Instant::now() > deadline {
            return Ok(droplet);
        }
        processes.check()?;
        sleep(LOOK).await;
    }
}
