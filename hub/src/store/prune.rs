//! Retention: what ended long ago goes, and sooner where the file grows too large. Audit chains and what is not over
//! stay, whatever they weigh.

use genesis_shared::timestamp::Timestamp;

use super::leases::SWEEP_MAX;
use super::sqlite::{Conn, params};
use super::{Store, StoreError};

/// What is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Milliseconds that ended jobs, and bundles and rollouts without others, are kept.
    pub jobs_ms: i64,
    /// Milliseconds that outbox records are kept after they were applied, for looking into what went wrong.
    pub records_ms: i64,
    /// Bytes in use beyond which the oldest go before their time.
    pub bytes_max: u64,
}

/// Rows that a step of pruning has taken out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Jobs.
    pub jobs: usize,
    /// Bundles that had no job left.
    pub bundles: usize,
    /// Outbox records.
    pub records: usize,
}

/// Bytes of the file that hold something.
fn bytes_in_use(db: &Conn) -> Result<u64, StoreError> {
    let pragma = |name: &str| db.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i64>(0));
    let pages = pragma("page_count")? - pragma("freelist_count")?;
    Ok((pages * pragma("page_size")?).unsigned_abs())
}

/// One step: some thousand rows at most, so that no request waits for long.
pub(super) fn prune(db: &Conn, retention: &Retention, now: Timestamp) -> Result<Pruned, StoreError> {
    let before = |kept_ms: i64| now.plus_millis(-kept_ms).millis();
    let is_full = bytes_in_use(db)? > retention.bytes_max;
    let (jobs_before, records_before) = match is_full {
        true => (now.millis(), now.millis()),
        false => (before(retention.jobs_ms), before(retention.records_ms)),
    };
    // As long as a bundle can be pushed again it has to be known: the same bytes must not become other jobs.
    let sql = "DELETE FROM job WHERE number IN (
            SELECT number FROM job WHERE finished_at < ?1
            AND not_after < ?2 AND (SELECT coalesce(max(is_over), 1) FROM rollout r WHERE r.bundle_id = job.bundle_id)
            ORDER BY finished_at LIMIT ?3)";
    let jobs = db.prepare_cached(sql)?.execute(params![jobs_before, now.millis(), SWEEP_MAX])?;
    let mut bundles = 0;
    if jobs > 0 {
        db.execute(
            "DELETE FROM rollout WHERE NOT EXISTS (SELECT 1 FROM job j WHERE j.bundle_id = rollout.bundle_id)",
            [],
        )?;
        let sql = "DELETE FROM bundle WHERE not_after < ?
                   AND NOT EXISTS (SELECT 1 FROM job j WHERE j.bundle_id = bundle.bundle_id)";
        bundles = db.prepare_cached(sql)?.execute([now.millis()])?;
    }
    // A deposit for the recovery key is made once and needed years later.
    let sql = "DELETE FROM record WHERE (droplet_id, enrolment, seq) IN (
            SELECT droplet_id, enrolment, seq FROM record
            WHERE stored_at < ? AND body ->> '$.record.escrow' IS NULL ORDER BY stored_at LIMIT ?)";
    let records = db.prepare_cached(sql)?.execute(params![records_before, SWEEP_MAX])?;
    let sql = "DELETE FROM former_record WHERE set_aside_at < ?";
    db.prepare_cached(sql)?.execute([before(retention.records_ms)])?;
    if is_full {
        tracing::warn!(jobs, records, "the database is larger than it may be: the oldest go before their time");
    }
    Ok(Pruned { jobs, bundles, records })
}

impl Store {
    /// Takes out some of what was kept for long enough, or of the oldest where the file is too large.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn prune(&self, retention: Retention, now: Timestamp) -> Result<Pruned, StoreError> {
        self.write(move |db| prune(db, &retention, now)).await
    }
}
