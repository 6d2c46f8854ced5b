//! Follows a job until nothing more will happen to it.

use std::time::Duration;

use genesis_shared::id::JobId;
use genesis_shared::wire::{JobState, JobView};

use crate::client::HubClient;
use crate::error::Error;
use crate::exit::Exit;

/// Time between two looks. Short enough to feel immediate; a job's record is a few kilobytes.
pub const INTERVAL: Duration = Duration::from_millis(200);
/// How long a hub that does not answer is borne with while a job is watched: a restart of it takes seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// Asks for the job until it is final; `changed` hears of it whenever its state or number of tries is another.
///
/// # Errors
/// Every error of the client; that the hub is away is borne with for a minute.
pub async fn until_final(
    client: &HubClient,
    id: JobId,
    interval: Duration,
    mut changed: impl FnMut(&JobView),
) -> Result<JobView, Error> {
    let (mut seen, mut away_since) = (None, None);
    loop {
        match client.job(id).await {
            Ok(job) => {
                away_since = None;
                let now = (job.state, job.attempts);
                if seen.replace(now) != Some(now) {
                    changed(&job);
                }
                if job.state.is_final() {
                    return Ok(job);
                }
            }
            Err(error) if error.exit() == Exit::Unavailable => {
                let since = *away_since.get_or_insert_with(tokio::time::Instant::now);
                if since.elapsed() > PATIENCE {
                    return Err(error);
                }
            }
            Err(error) => return Err(error),
        }
        tokio::time::sleep(interval).await;
    }
}

/// The droplet's answer as a result: `Ok` only when all of it happened.
///
/// # Errors
/// [`Error::Job`] with the droplet's own code and words.
pub fn outcome(job: &JobView) -> Result<(), Error> {
    if job.state == JobState::Succeeded {
        return Ok(());
    }
    let (code, message) = match &job.result {
        Some(result) => (result.code.clone(), result.message.clone()),
        None => (job.state.name().to_owned(), "there is no answer of the droplet".to_owned()),
    };
    Err(Error::Job { job_id: job.job_id.to_string(), state: job.state.name().to_owned(), code, message })
}
