//! `genesisctl job`: shows and watches jobs.

use clap::Subcommand;
use genesis_shared::command::grouped;
use genesis_shared::id::{JobId, WorkspaceId};
use genesis_shared::wire::{JobState, JobView};

use super::{Global, wait};
use crate::client::{self, HubClient};
use crate::error::Error;
use crate::output::{self, Format};
use crate::progress::Progress;
use crate::watch;

#[derive(Debug, Subcommand)]
#[command(after_help = "Example:\n  genesisctl job list --state queued")]
pub(super) enum Verb {
    /// List jobs
    #[command(after_help = "Example:\n  genesisctl job list --state queued")]
    List {
        /// Only those in this state, for example queued or failed
        #[arg(long, value_parser = state)]
        state: Option<JobState>,
        /// Only those of this tenant
        #[arg(long, value_name = "ID")]
        workspace: Option<WorkspaceId>,
    },
    /// Show one job with its steps and output
    #[command(after_help = "Example:\n  genesisctl job show 0192f0a1-1111-7000-8000-000000000002")]
    Show {
        /// The job
        id: JobId,
    },
    /// Follow a job until its end; the exit code says how it went
    #[command(after_help = "Example:\n  genesisctl job watch 0192f0a1-1111-7000-8000-000000000002")]
    Watch {
        /// The job
        id: JobId,
    },
}

fn state(text: &str) -> Result<JobState, String> {
    let names = || JobState::ALL.iter().map(|state| state.name()).collect::<Vec<_>>().join(", ");
    JobState::ALL
        .iter()
        .copied()
        .find(|state| state.name() == text)
        .ok_or_else(|| format!("the states are {}", names()))
}

pub(super) fn run(verb: Verb, global: &Global) -> Result<(), Error> {
    let format = global.output;
    let client = global.client()?;
    match verb {
        Verb::List { state, workspace } => {
            let (state, workspace) = (state.map(JobState::name), workspace.map(|id| id.to_string()));
            let filter = [("state", state), ("workspace_id", workspace.as_deref())];
            let filter: Vec<_> = filter.iter().filter_map(|(name, value)| Some((*name, (*value)?))).collect();
            let progress = Progress::start("listing jobs");
            let jobs = wait(client::all_pages(&filter, async |query| client.jobs(query).await))?;
            drop(progress);
            format.result(&jobs, |jobs| table(jobs));
            Ok(())
        }
        Verb::Show { id } => {
            let progress = Progress::start("asking the hub");
            let job = wait(client.job(id))?;
            drop(progress);
            format.result(&job, text);
            Ok(())
        }
        Verb::Watch { id } => wait(async {
            let jobs = watch_all(&client, &[id], format).await?;
            for job in &jobs {
                format.result(job, text);
            }
            jobs.iter().try_for_each(watch::outcome)
        }),
    }
}

/// Follows jobs one after the other, which shows each of their ends; prints every change.
pub(super) async fn watch_all(client: &HubClient, ids: &[JobId], format: Format) -> Result<Vec<JobView>, Error> {
    let progress = Progress::start("waiting for the droplet");
    let mut jobs = Vec::with_capacity(ids.len());
    for (n, id) in (1..).zip(ids) {
        let changed = |job: &JobView| {
            progress.aside(|| format.news(&line(job)));
            progress.say(&format!("job {n} of {}: {}", ids.len(), job.state.name()));
        };
        jobs.push(watch::until_final(client, *id, watch::INTERVAL, changed).await?);
    }
    Ok(jobs)
}

/// One change of a job in one line.
fn line(job: &JobView) -> String {
    let tries = if job.attempts > 1 { format!(", handed out {} times", job.attempts) } else { String::new() };
    format!("job {} {}{tries}", job.job_id, job.state.name())
}

/// How many jobs ended how.
pub(super) fn tally(jobs: &[JobView]) -> String {
    let count = |state: JobState| jobs.iter().filter(|job| job.state == state).count();
    let parts: Vec<_> = JobState::ALL
        .iter()
        .map(|state| (count(*state), state.name()))
        .filter(|(count, _)| *count > 0)
        .map(|(count, name)| format!("{count} {name}"))
        .collect();
    parts.join(", ")
}

fn table(jobs: &[JobView]) -> String {
    let mut rows = vec![["JOB", "WORKSPACE", "STATE", "QUEUE", "CREATED", "ACTION"].map(str::to_owned).to_vec()];
    rows.extend(jobs.iter().map(|job| {
        vec![
            job.job_id.to_string(),
            job.workspace_id.to_string(),
            job.state.name().to_owned(),
            job.queue.clone(),
            job.created_at.to_string(),
            grouped(&job.action),
        ]
    }));
    output::table(&rows)
}

fn text(job: &JobView) -> String {
    let mut lines = vec![
        format!("job        {}", job.job_id),
        format!("bundle     {}", job.bundle_id),
        format!("workspace  {}", job.workspace_id),
        format!("state      {} (handed out {} times)", job.state.name(), job.attempts),
        format!("queue      {} (priority {})", job.queue, job.priority),
        format!("commands   {}", grouped(&job.action)),
        format!("created    {}", job.created_at),
    ];
    lines.extend(job.accepted_at.map(|at| format!("accepted   {at}")));
    lines.extend(job.finished_at.map(|at| format!("finished   {at}")));
    if let Some(result) = &job.result {
        lines.push(format!("result     {}: {}", result.code, result.message));
        for step in &result.steps {
            let tries = if step.attempts > 1 { format!(", {} tries", step.attempts) } else { String::new() };
            lines.push(format!("  {:>7} ms  {} {}{tries}", step.ms, step.name, step.state));
        }
        lines.push(format!("output     {}", result.output));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_read_by_its_name_on_the_wire() {
        assert_eq!(state("queued"), Ok(JobState::Queued));
        assert!(state("done").unwrap_err().contains("succeeded"));
    }

    #[test]
    fn equal_actions_in_a_row_are_counted() {
        assert_eq!(grouped("HEALTH_CHECK"), "HEALTH_CHECK");
        assert_eq!(grouped("A,A,B,A"), "2 x A, B, A");
    }
}
