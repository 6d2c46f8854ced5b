//! Delivers the outbox: a batch at a time, in order, again until the hub has it.
//!
//! A report that cannot be delivered changes no outcome; it waits.

use genesis_shared::limits::{RESULTS_BATCH_BYTES_MAX, RESULTS_BATCH_MAX};
use genesis_shared::report::OutboxRecord;
use genesis_shared::secret::Secret;

use crate::journal::{Journal, JournalError};
use crate::ports::{EffectError, ErrorKind, HubLink};

/// What one round of delivery came to.
#[derive(Debug)]
pub enum Delivered {
    /// Nothing waits any more.
    Empty,
    /// A batch is stored at the hub; more may wait.
    Some,
    /// The hub could not take it; it still waits.
    NotNow(EffectError),
}

/// Delivers one batch.
///
/// # Errors
/// The journal failed.
pub async fn deliver(journal: &Journal, hub: &impl HubLink, token: &Secret<String>) -> Result<Delivered, JournalError> {
    let records = first_batch(journal.outbox(RESULTS_BATCH_MAX)?);
    let (Some(first), Some(last)) = (records.first().map(|r| r.seq), records.last().map(|r| r.seq)) else {
        return Ok(Delivered::Empty);
    };
    match hub.results(token, &records).await {
        Ok(answer) if answer.stored_up_to < first => {
            let message = format!("the hub has stored up to {}, and did not take record {first}", answer.stored_up_to);
            Ok(Delivered::NotNow(EffectError::new(ErrorKind::Transient, "hub_answer", message)))
        }
        Ok(answer) => {
            // Never beyond what was sent: a hub that lies must not make us forget.
            journal.delivered(answer.stored_up_to.min(last))?;
            Ok(Delivered::Some)
        }
        Err(error) => Ok(Delivered::NotNow(error)),
    }
}

/// As many records from the front as one request may carry, and at least one.
fn first_batch(mut records: Vec<OutboxRecord>) -> Vec<OutboxRecord> {
    let mut bytes = 0;
    let fits = records.iter().take_while(|record| {
        bytes += serde_json::to_vec(record).map_or(0, |json| json.len());
        bytes <= RESULTS_BATCH_BYTES_MAX
    });
    let count = fits.count().max(1);
    records.truncate(count);
    records
}
