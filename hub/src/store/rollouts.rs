//! Rollouts as they are stored: what [`crate::rollout`] decides is read, applied and told in one transaction.

use genesis_shared::audit::event;
use genesis_shared::bundle::Bundle;
use genesis_shared::id::{BundleId, JobId, WorkspaceId};
use genesis_shared::timestamp::Timestamp;
use serde_json::json;

use super::events::{self, NewEvent};
use super::leases::{move_all, select};
use super::sqlite::{ColumnResult, Conn, OptionalExtension, Row, json as from_json, params, text, time, to_json};
use super::{Store, StoreError, audit, bundles};
use crate::queue::Event;
use crate::rollout::{Act, Counts, Plan, Senseless, State, Wish};

/// A rollout with what was counted.
#[derive(Clone, Debug, PartialEq)]
pub struct Rollout {
    /// The bundle that it spreads.
    pub bundle: BundleId,
    /// What it was signed to do.
    pub plan: Plan,
    /// Where it is.
    pub state: State,
    /// Over the waves that are released.
    pub counts: Counts,
    /// When it began.
    pub created_at: Timestamp,
    /// When its state changed last.
    pub changed_at: Timestamp,
}

/// What a step has set free.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Advanced {
    /// Tenants that may have something to fetch.
    pub woken: Vec<WorkspaceId>,
    /// Jobs that are not in flight any more.
    pub freed: Vec<i64>,
}

/// What became of an operator's wish.
#[derive(Clone, Debug, PartialEq)]
pub enum SteeredRollout {
    /// Done; the rollout now.
    Done(Box<Rollout>, Advanced),
    /// No such rollout.
    NotFound,
    /// It makes no sense where the rollout is.
    Refused(Senseless),
}

const SELECT: &str = "SELECT bundle_id, plan, state, created_at, changed_at FROM rollout";

fn row(row: &Row<'_>) -> ColumnResult<Rollout> {
    Ok(Rollout {
        bundle: text(row, 0)?,
        plan: from_json(row, 1)?,
        state: from_json(row, 2)?,
        counts: Counts::default(),
        created_at: time(row, 3)?,
        changed_at: time(row, 4)?,
    })
}

/// Begins a rollout whose jobs are stored.
pub(super) fn begin(db: &Conn, bundle: BundleId, plan: &Plan, now: Timestamp) -> Result<(), StoreError> {
    // The first wave is not held, so there is nothing to release.
    let (state, _) = State::begin(now);
    let sql = "INSERT INTO rollout (bundle_id, plan, state, created_at, changed_at) VALUES (?1, ?2, ?3, ?4, ?4)";
    db.execute(sql, params![bundle.to_string(), to_json(plan)?, to_json(&state)?, now.millis()])?;
    Ok(())
}

fn counts(db: &Conn, rollout: &Rollout, now: Timestamp) -> Result<Counts, StoreError> {
    let verify_ms = i64::from(rollout.plan.verify_s) * 1000;
    let cut = now.plus_millis(-verify_ms).millis();
    let is_fresh = now.millis_since(rollout.state.released_at) < verify_ms;
    let sql = "SELECT count(*),
            total(j.state = 'queued' AND (?3 OR coalesce(d.last_seen_at, 0) > ?4)),
            total(j.state = 'queued' AND NOT (?3 OR coalesce(d.last_seen_at, 0) > ?4)),
            total(j.state IN ('leased', 'accepted') AND coalesce(j.leased_at, 0) > ?4),
            total(j.state IN ('leased', 'accepted') AND coalesce(j.leased_at, 0) <= ?4),
            total(j.state = 'succeeded'),
            total(j.state IN ('failed', 'rejected', 'stuck', 'dead') OR (j.state = 'expired' AND j.leased_at IS NOT NULL)),
            total(j.state = 'cancelled' OR (j.state = 'expired' AND j.leased_at IS NULL))
        FROM job j JOIN droplet d ON d.workspace_id = j.workspace_id WHERE j.bundle_id = ?1 AND j.wave <= ?2";
    let key = params![rollout.bundle.to_string(), rollout.state.wave, is_fresh, cut];
    // Counts of jobs are whole and far below 2^32.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counts of rows")]
    let number = |row: &Row<'_>, column| row.get::<_, f64>(column).map(|number| number as u32);
    Ok(db.prepare_cached(sql)?.query_row(key, |row| {
        Ok(Counts {
            released: row.get(0)?,
            waiting: number(row, 1)?,
            absent: number(row, 2)?,
            running: number(row, 3)?,
            missing: number(row, 4)?,
            succeeded: number(row, 5)?,
            failed: number(row, 6)?,
            withdrawn: number(row, 7)?,
        })
    })?)
}

fn find(db: &Conn, bundle: BundleId, now: Timestamp) -> Result<Option<Rollout>, StoreError> {
    let sql = format!("{SELECT} WHERE bundle_id = ?");
    let Some(mut rollout) = db.prepare_cached(&sql)?.query_row([bundle.to_string()], row).optional()? else {
        return Ok(None);
    };
    rollout.counts = counts(db, &rollout, now)?;
    Ok(Some(rollout))
}

/// Stores the next state and does what it asks for.
fn apply(db: &Conn, rollout: &Rollout, state: &State, acts: Vec<Act>, now: Timestamp) -> Result<Advanced, StoreError> {
    let bundle = rollout.bundle.to_string();
    let sql = "UPDATE rollout SET state = ?, is_over = ?, changed_at = ? WHERE bundle_id = ?";
    db.prepare_cached(sql)?.execute(params![to_json(state)?, state.phase.is_over(), now.millis(), bundle])?;
    let mut advanced = Advanced::default();
    for act in acts {
        match act {
            Act::Release(wave) => advanced.woken.extend(release(db, &bundle, wave)?),
            Act::Withdraw => {
                // What is on its way too: a droplet that has it says so, and its word counts; no other gets it again.
                let waiting = select(db, "bundle_id = ? AND state IN ('queued', 'leased')", [&bundle])?;
                move_all(db, &waiting, Event::Cancel, now)?;
                advanced.freed.extend(waiting.iter().map(|found| found.number));
            }
            Act::RollBack => advanced.woken.extend(roll_back(db, rollout, now)?),
            Act::Tell(code, why) => {
                let message = format!("rollout {bundle}: {why}");
                events::insert(db, &NewEvent { code, message: &message, droplet: None, job: None }, now)?;
            }
        }
    }
    Ok(advanced)
}

fn release(db: &Conn, bundle: &str, wave: u32) -> Result<Vec<WorkspaceId>, StoreError> {
    let sql = "UPDATE job SET held = 0 WHERE bundle_id = ? AND wave <= ? AND held = 1 RETURNING workspace_id";
    let mut query = db.prepare_cached(sql)?;
    let rows = query.query_map(params![bundle, wave], |row| text(row, 0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Queues the rollback for those who were given the bundle.
fn roll_back(db: &Conn, rollout: &Rollout, now: Timestamp) -> Result<Vec<WorkspaceId>, StoreError> {
    let Some(document) = &rollout.plan.rollback else { return Ok(Vec::new()) };
    // Its signatures were checked when it came, and every droplet checks them again.
    let bundle = Bundle::reread(document.as_bytes()).map_err(|e| StoreError::Broken(e.to_string()))?;
    let sql = "SELECT 1 FROM bundle WHERE bundle_id = ?";
    if db.prepare_cached(sql)?.exists([bundle.id.to_string()])? {
        let message = format!("the rollback {} of rollout {} was pushed before", bundle.id, rollout.bundle);
        let event = NewEvent { code: "rollback_known", message: &message, droplet: None, job: None };
        events::insert(db, &event, now)?;
        return Ok(Vec::new());
    }
    let sql = "SELECT workspace_id FROM job WHERE bundle_id = ? AND leased_at IS NOT NULL ORDER BY number";
    let mut query = db.prepare_cached(sql)?;
    let given = query.query_map([rollout.bundle.to_string()], |row| text(row, 0))?;
    let given = given.collect::<Result<Vec<WorkspaceId>, _>>()?;
    let action = bundle.action_label();
    let row = bundles::Row {
        id: bundle.id,
        document,
        action: &action,
        queue: &bundle.queue,
        priority: bundle.priority,
        not_before: bundle.not_before,
        not_after: bundle.not_after,
        pushed_by: "rollout",
        excluded: &[],
    };
    bundles::insert(db, &row, now)?;
    let jobs: Result<Vec<JobId>, _> =
        given.iter().map(|&workspace| bundles::insert_job(db, &row, workspace, None, now)).collect();
    let detail = json!({"bundle": bundle.id, "issuer": bundle.issuer, "jobs": jobs?.len(), "by": "rollout",
        "takes_back": rollout.bundle});
    audit::note(db, event::BUNDLE_PUSHED, detail, now)?;
    Ok(given)
}

impl Store {
    /// Rollouts that are not over, of which time or answers would change something at `now`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn rollouts_due(&self, now: Timestamp) -> Result<Vec<BundleId>, StoreError> {
        self.read(move |db| {
            let mut query = db.prepare_cached(&format!("{SELECT} WHERE is_over = 0 ORDER BY created_at"))?;
            let open = query.query_map([], row)?.collect::<Result<Vec<_>, _>>()?;
            let mut due = Vec::new();
            for rollout in open {
                let counts = counts(db, &rollout, now)?;
                if rollout.state.step(&rollout.plan, &counts, now).0 != rollout.state {
                    due.push(rollout.bundle);
                }
            }
            Ok(due)
        })
        .await
    }

    /// Takes a rollout one step further.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn advance(&self, bundle: BundleId, now: Timestamp) -> Result<Advanced, StoreError> {
        self.write(move |db| {
            let Some(rollout) = find(db, bundle, now)? else { return Ok(Advanced::default()) };
            let (state, acts) = rollout.state.step(&rollout.plan, &rollout.counts, now);
            if state == rollout.state && acts.is_empty() {
                return Ok(Advanced::default());
            }
            apply(db, &rollout, &state, acts, now)
        })
        .await
    }

    /// Does what an operator wants of a rollout, and notes who wanted it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn steer_rollout(
        &self,
        bundle: BundleId,
        wish: Wish,
        by: String,
        now: Timestamp,
    ) -> Result<SteeredRollout, StoreError> {
        self.write(move |db| {
            let Some(rollout) = find(db, bundle, now)? else { return Ok(SteeredRollout::NotFound) };
            let (state, acts) = match rollout.state.steer(&rollout.plan, &rollout.counts, wish, now) {
                Ok(next) => next,
                Err(senseless) => return Ok(SteeredRollout::Refused(senseless)),
            };
            let advanced = apply(db, &rollout, &state, acts, now)?;
            let detail = json!({"rollout": bundle, "wish": format!("{wish:?}").to_lowercase(), "by": by});
            audit::note(db, event::ROLLOUT_STEERED, detail, now)?;
            let gone = || StoreError::Broken(format!("rollout {bundle} is gone"));
            Ok(SteeredRollout::Done(Box::new(find(db, bundle, now)?.ok_or_else(gone)?), advanced))
        })
        .await
    }

    /// One rollout.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn rollout(&self, bundle: BundleId, now: Timestamp) -> Result<Option<Rollout>, StoreError> {
        self.read(move |db| find(db, bundle, now)).await
    }

    /// The latest rollouts, newest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn rollouts(&self, limit: u32, now: Timestamp) -> Result<Vec<Rollout>, StoreError> {
        self.read(move |db| {
            let mut query = db.prepare_cached(&format!("{SELECT} ORDER BY created_at DESC, bundle_id LIMIT ?"))?;
            let mut found = query.query_map([limit], row)?.collect::<Result<Vec<_>, _>>()?;
            for rollout in &mut found {
                rollout.counts = counts(db, rollout, now)?;
            }
            Ok(found)
        })
        .await
    }
}
