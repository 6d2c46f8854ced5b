//! The whole fleet at once, in the few bytes per droplet that a map of it needs, and what waits in the queues.

use std::collections::BTreeMap;

use super::droplets::facts;
use super::{Store, StoreError};
use crate::state::{DropletState, Moment};

/// Every droplet, by region and id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fleet {
    /// Ids in the order of the map.
    pub ids: Vec<String>,
    /// The regions in that order, and how many droplets each has; those without one come first, as `""`.
    pub regions: Vec<(String, usize)>,
    /// The state of each.
    pub states: Vec<DropletState>,
}

/// Jobs that are not over, and dead letters: by queue, then by state.
pub type QueueDepths = BTreeMap<String, BTreeMap<String, u64>>;

// The columns that `facts` reads stand where it looks for them.
const SELECT: &str = "SELECT d.droplet_id, coalesce(d.region, ''), NULL, NULL, NULL, d.enrolment, NULL, d.last_seen_at,
    NULL, d.quarantine, json_extract(d.heartbeat, '$.state') FROM droplet d ORDER BY 2, 1";

// Grouped by bundle before the queue is looked up: a push to all is one look-up, not 15,000.
const DEPTHS: &str = "SELECT b.queue, g.state, sum(g.jobs) FROM (
        SELECT bundle_id, state, count(*) AS jobs FROM job
        WHERE state IN ('queued', 'leased', 'accepted', 'dead') GROUP BY bundle_id, state
    ) g JOIN bundle b ON b.bundle_id = g.bundle_id GROUP BY b.queue, g.state";

impl Store {
    /// Every droplet's state at a moment.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn fleet(&self, moment: Moment) -> Result<Fleet, StoreError> {
        self.read(move |db| {
            let mut fleet = Fleet::default();
            let mut query = db.prepare_cached(SELECT)?;
            let mut rows = query.query([])?;
            while let Some(row) = rows.next()? {
                fleet.ids.push(row.get(0)?);
                fleet.states.push(facts(row)?.state(moment));
                let region = row.get_ref(1)?.as_str().map_err(|e| StoreError::Broken(e.to_string()))?;
                match fleet.regions.last_mut() {
                    Some((last, count)) if last == region => *count += 1,
                    Some(_) | None => fleet.regions.push((region.to_owned(), 1)),
                }
            }
            Ok(fleet)
        })
        .await
    }

    /// What waits, is under way, or was given up.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn queue_depths(&self) -> Result<QueueDepths, StoreError> {
        self.read(|db| {
            let mut query = db.prepare_cached(DEPTHS)?;
            let mut rows = query.query([])?;
            let mut depths = QueueDepths::new();
            while let Some(row) = rows.next()? {
                let of: &mut BTreeMap<_, _> = depths.entry(row.get(0)?).or_default();
                of.insert(row.get(1)?, row.get::<_, i64>(2)?.unsigned_abs());
            }
            Ok(depths)
        })
        .await
    }
}
