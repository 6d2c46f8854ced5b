//! Bundles, byte for byte as they were pushed, and their fan-out into one job per tenant.

use std::collections::BTreeSet;
use std::sync::Arc;

use data_encoding::BASE64URL_NOPAD;
use genesis_shared::audit::event;
use genesis_shared::bundle::{Bundle, Targets};
use genesis_shared::command::{Action, Class};
use genesis_shared::id::{BundleId, Digest, JobId, WorkspaceId};
use genesis_shared::timestamp::Timestamp;
use genesis_shared::wire::PushAnswer;
use serde_json::{Value, json};

use super::sqlite::{self, Conn, OptionalExtension, params, text, to_json};
use super::{Store, StoreError, audit, rollouts};
use crate::random;
use crate::rollout::{Plan, PlanError};

/// Unknown tenants that a refusal names; the rest is counted.
pub const NAMED_MAX: usize = 20;

/// What became of a push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Push {
    /// Queued, now or when the same bytes came before; these tenants may fetch it now.
    Queued(PushAnswer, Vec<WorkspaceId>),
    /// Another bundle has this id.
    IdTaken,
    /// Targets that no registered droplet belongs to: how many, and some of them by name.
    UnknownTargets(usize, Vec<WorkspaceId>),
    /// No registered droplet carries the labels.
    NobodyMatches,
    /// Its rollout cannot be understood.
    Rollout(PlanError),
    /// Tenants that must never receive commands are named, or are all that is reached.
    Excluded(Vec<WorkspaceId>),
}

pub(super) struct Row<'a> {
    pub(super) id: BundleId,
    pub(super) document: &'a str,
    pub(super) action: &'a str,
    pub(super) queue: &'a str,
    pub(super) priority: u8,
    pub(super) not_before: Timestamp,
    pub(super) not_after: Timestamp,
    pub(super) pushed_by: &'a str,
    pub(super) excluded: &'a [WorkspaceId],
}

/// Whether all of these action names, joined by commas, only look. An unknown one does not.
fn is_read_only(action: &str) -> bool {
    action.split(',').all(|name| name.parse::<Action>().is_ok_and(|action| action.class() == Class::Read))
}

pub(super) fn insert(db: &Conn, row: &Row<'_>, now: Timestamp) -> Result<(), StoreError> {
    db.execute(
        "INSERT INTO bundle (bundle_id, digest, document, action, queue, priority, not_before, not_after, pushed_by, created_at,
             read_only, excluded)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        params![
            row.id.to_string(),
            Digest::of(row.document.as_bytes()).to_string(),
            row.document,
            row.action,
            row.queue,
            row.priority,
            row.not_before.millis(),
            row.not_after.millis(),
            row.pushed_by,
            now.millis(),
            is_read_only(row.action),
            to_json(&row.excluded)?
        ],
    )?;
    Ok(())
}

/// Queues a bundle for one tenant; `wave` is its wave of a rollout, of which the first is released already.
pub(super) fn insert_job(
    db: &Conn,
    row: &Row<'_>,
    workspace: WorkspaceId,
    wave: Option<u32>,
    now: Timestamp,
) -> Result<JobId, StoreError> {
    let job = random::job_id();
    db.prepare_cached(
        "INSERT INTO job (job_id, bundle_id, workspace_id, state, priority, not_before, not_after, created_at, queue,
             wave, held)
         VALUES (?, ?, ?, 'queued', ?, ?, ?, ?, ?, ?, ?)",
    )?
    .execute(params![
        job.to_string(),
        row.id.to_string(),
        workspace.to_string(),
        row.priority,
        row.not_before.millis(),
        row.not_after.millis(),
        now.millis(),
        row.queue,
        wave,
        wave.is_some_and(|wave| wave > 0)
    ])?;
    Ok(job)
}

fn answer(db: &Conn, id: BundleId) -> Result<PushAnswer, StoreError> {
    let mut query = db.prepare("SELECT job_id FROM job WHERE bundle_id = ? ORDER BY number")?;
    let jobs = query.query_map([id.to_string()], |row| text(row, 0))?;
    let job_ids = jobs.collect::<Result<_, _>>()?;
    let sql = "SELECT excluded FROM bundle WHERE bundle_id = ?";
    let excluded = db.query_row(sql, [id.to_string()], |row| sqlite::json(row, 0))?;
    let sql = "SELECT 1 FROM rollout WHERE bundle_id = ?";
    let rollout_id = db.prepare_cached(sql)?.exists([id.to_string()])?.then_some(id);
    Ok(PushAnswer { bundle_id: id, job_ids, rollout_id, excluded })
}

/// The tenants to queue for, in the bundle's order or by id.
fn targets(db: &Conn, targets: &Targets) -> Result<Result<Vec<WorkspaceId>, Push>, StoreError> {
    if let Targets::Workspaces(named) = targets {
        let mut known = db.prepare_cached("SELECT 1 FROM droplet WHERE workspace_id = ?")?;
        let (mut seen, mut found, mut unknown) = (BTreeSet::new(), Vec::new(), Vec::new());
        for &workspace in named {
            let list = if known.exists([workspace.to_string()])? { &mut found } else { &mut unknown };
            if seen.insert(workspace) {
                list.push(workspace);
            }
        }
        let count = unknown.len();
        unknown.truncate(NAMED_MAX);
        return Ok(if count == 0 { Ok(found) } else { Err(Push::UnknownTargets(count, unknown)) });
    }
    let mut all = db.prepare("SELECT workspace_id, labels FROM droplet ORDER BY workspace_id")?;
    let rows = all.query_map([], |row| Ok((text(row, 0)?, sqlite::json(row, 1)?)))?;
    let mut found = Vec::new();
    for row in rows {
        let (workspace, labels) = row?;
        if targets.include(workspace, &labels) {
            found.push(workspace);
        }
    }
    Ok(if found.is_empty() { Err(Push::NobodyMatches) } else { Ok(found) })
}

fn count(workspaces: &[WorkspaceId]) -> u32 {
    u32::try_from(workspaces.len()).unwrap_or(u32::MAX)
}

/// What the audit says of a push; of a grant what it says of itself, for whoever pushed need not be who signed.
fn pushed(bundle: &Bundle, document: &str, by: &str, jobs: usize) -> Value {
    let grant = bundle.support().ok().flatten();
    let support =
        grant.map(|grant| json!({"ticket": grant.ticket, "level": grant.level, "support": grant.support.kid}));
    let digest = Digest::of(document.as_bytes());
    json!({"bundle": bundle.id, "digest": digest, "issuer": bundle.issuer, "jobs": jobs, "support": support, "by": by})
}

impl Store {
    /// The answer to an earlier push of exactly these bytes.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn pushed_before(&self, document: Digest) -> Result<Option<PushAnswer>, StoreError> {
        self.read(move |db| {
            let sql = "SELECT bundle_id FROM bundle WHERE digest = ?";
            let id = db.query_row(sql, [document.to_string()], |row| text(row, 0)).optional()?;
            id.map(|id| answer(db, id)).transpose()
        })
        .await
    }

    /// Stores a bundle that was checked, and one job per target but those in `never`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn push(
        &self,
        bundle: Bundle,
        document: String,
        pushed_by: String,
        never: Arc<BTreeSet<WorkspaceId>>,
        now: Timestamp,
    ) -> Result<Push, StoreError> {
        self.write(move |db| {
            let sql = "SELECT digest FROM bundle WHERE bundle_id = ?";
            let taken: Option<Digest> = db.query_row(sql, [bundle.id.to_string()], |row| text(row, 0)).optional()?;
            if let Some(digest) = taken {
                let same = digest == Digest::of(document.as_bytes());
                return Ok(if same { Push::Queued(answer(db, bundle.id)?, Vec::new()) } else { Push::IdTaken });
            }
            let reached = match targets(db, &bundle.targets)? {
                Ok(workspaces) => workspaces,
                Err(refusal) => return Ok(refusal),
            };
            let (excluded, workspaces): (Vec<_>, Vec<_>) = reached.into_iter().partition(|id| never.contains(id));
            // Who is named one by one was meant; who is reached by labels or with all the others was not.
            if workspaces.is_empty() || (matches!(bundle.targets, Targets::Workspaces(_)) && !excluded.is_empty()) {
                return Ok(Push::Excluded(excluded));
            }
            let action = bundle.action_label();
            let row = Row {
                id: bundle.id,
                document: &document,
                action: &action,
                queue: &bundle.queue,
                priority: bundle.priority,
                not_before: bundle.not_before,
                not_after: bundle.not_after,
                pushed_by: &pushed_by,
                excluded: &excluded,
            };
            let plan = match bundle.rollout.as_ref().map(|rollout| Plan::read(rollout, count(&workspaces))).transpose()
            {
                Ok(plan) => plan,
                Err(error) => return Ok(Push::Rollout(error)),
            };
            insert(db, &row, now)?;
            let wave =
                |target: usize| plan.as_ref().map(|plan| plan.wave_of(u32::try_from(target).unwrap_or(u32::MAX)));
            let jobs = workspaces.iter().enumerate();
            let jobs = jobs.map(|(target, &workspace)| insert_job(db, &row, workspace, wave(target), now));
            let job_ids = jobs.collect::<Result<_, _>>()?;
            if let Some(plan) = &plan {
                rollouts::begin(db, bundle.id, plan, now)?;
            }
            audit::note(db, event::BUNDLE_PUSHED, pushed(&bundle, &document, &pushed_by, workspaces.len()), now)?;
            let released = plan.as_ref().and_then(|plan| plan.waves.first()).copied().unwrap_or(u32::MAX);
            let woken = workspaces.into_iter().take(usize::try_from(released).unwrap_or(usize::MAX)).collect();
            let rollout_id = plan.map(|_| bundle.id);
            Ok(Push::Queued(PushAnswer { bundle_id: bundle.id, job_ids, rollout_id, excluded }, woken))
        })
        .await
    }

    /// **For tests of the agent's admission only**: queues any bytes for any registered tenant, as a stolen hub would,
    /// without a check and as often as one likes. No handler calls it.
    ///
    /// The stored bundle gets a random id of its own, so that a replay can be queued too; the delivery token's action
    /// is read from the bytes where they can be read, so that the agent meets the rule under test and not another.
    ///
    /// # Errors
    /// [`StoreError`], also if the tenant has no droplet.
    pub async fn enqueue_unchecked(
        &self,
        workspace: WorkspaceId,
        bundle: &[u8],
        now: Timestamp,
    ) -> Result<JobId, StoreError> {
        let document = String::from_utf8_lossy(bundle).into_owned();
        self.write(move |db| {
            let row = Row {
                id: random::bundle_id(),
                document: &document,
                action: &claimed_action(&document),
                queue: "template",
                priority: 3,
                not_before: Timestamp::from_millis(0),
                not_after: Timestamp::from_millis(i64::MAX),
                pushed_by: "test",
                excluded: &[],
            };
            insert(db, &row, now)?;
            insert_job(db, &row, workspace, None, now)
        })
        .await
    }
}

fn claimed_action(document: &str) -> String {
    let read = || -> Option<String> {
        let jws: serde_json::Value = serde_json::from_str(document).ok()?;
        let payload = BASE64URL_NOPAD.decode(jws.get("payload")?.as_str()?.as_bytes()).ok()?;
        let payload: serde_json::Value = serde_json::from_slice(&payload).ok()?;
        let names = payload.get("commands")?.as_array()?.iter().filter_map(|command| command.get("action")?.as_str());
        Some(names.collect::<Vec<_>>().join(","))
    };
    read().unwrap_or_else(|| "HEALTH_CHECK".to_owned())
}
