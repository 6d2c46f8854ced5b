//! Lives of each droplet's agent, and quarantine: a droplet that was restored or cloned gets no changing command until
//! an operator resumes it.
//!
//! What gives it away (the names of the events are [`Cause::code`]'s):
//! - a new life whose journal is older than what is stored here was restored from a snapshot;
//! - a life that speaks again long after another one took its place runs beside that one;
//! - a record that is stored here with another content belongs to another branch of the journal.

use genesis_shared::audit::event;
use genesis_shared::id::DropletId;
use genesis_shared::life::{Life, LifeView, Quarantine, ResumeRequest};
use genesis_shared::timestamp::Timestamp;
use serde_json::json;

use super::events::{self, NewEvent};
use super::sqlite::{Conn, OptionalExtension, params, time, to_json};
use super::tokens::SidecarToken;
use super::{Store, StoreError, audit, leases};

/// Lives remembered per enrolment. A clone is recognised by the life before it, so two would do; the rest is for
/// restarts in between.
const LIVES_MAX: i64 = 16;

/// Event of an operator's word that a droplet is the right one.
pub const RESUMED: &str = "droplet_resumed";

/// Why a droplet is quarantined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Its journal is older than what it has delivered.
    Restored,
    /// Two lives speak in turn.
    Cloned,
    /// It delivers a number again with another content.
    Diverged,
}

impl Cause {
    /// Name of the event, and the quarantine's code.
    pub fn code(self) -> &'static str {
        match self {
            Self::Restored => "droplet_restored",
            Self::Cloned => "droplet_cloned",
            Self::Diverged => "journal_diverged",
        }
    }
}

/// What to make of a request by a life that is not the present one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight {
    /// It is the present life now.
    Present,
    /// The late word of a life that has ended, it seems: it is heard, and gets nothing.
    Late,
    /// The droplet was quarantined before.
    Quarantined,
    /// The droplet is quarantined from this request on.
    Alarm,
}

/// What became of an operator's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resumed {
    /// The droplet goes on.
    Done,
    /// No such droplet.
    NotFound,
    /// It is not quarantined.
    NotQuarantined,
    /// It has no life of that name.
    UnknownLife,
}

fn life_number(db: &Conn, of: &SidecarToken, epoch: &str) -> Result<Option<i64>, StoreError> {
    let sql = "SELECT number FROM life WHERE droplet_id = ? AND enrolment = ? AND epoch = ?";
    let key = params![of.droplet.as_str(), of.enrolment, epoch];
    Ok(db.prepare_cached(sql)?.query_row(key, |row| row.get(0)).optional()?)
}

fn stored_up_to(db: &Conn, droplet: &DropletId, enrolment: i64) -> Result<i64, StoreError> {
    let sql = "SELECT stored_up_to FROM enrolment WHERE droplet_id = ? AND number = ?";
    Ok(db.prepare_cached(sql)?.query_row(params![droplet.as_str(), enrolment], |row| row.get(0))?)
}

fn column(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Whether the droplet is quarantined.
pub(super) fn is_quarantined(db: &Conn, droplet: &DropletId) -> Result<bool, StoreError> {
    let sql = "SELECT quarantine IS NOT NULL FROM droplet WHERE droplet_id = ?";
    Ok(db.prepare_cached(sql)?.query_row([droplet.as_str()], |row| row.get(0))?)
}

/// Quarantines a droplet that is not yet, and says so.
pub(super) fn quarantine(
    db: &Conn,
    droplet: &DropletId,
    cause: Cause,
    message: String,
    now: Timestamp,
) -> Result<(), StoreError> {
    let event = NewEvent { code: cause.code(), message: &message, droplet: Some(droplet), job: None };
    events::insert(db, &event, now)?;
    let mark = Quarantine { code: cause.code().to_owned(), message, since: now };
    let sql = "UPDATE droplet SET quarantine = coalesce(quarantine, ?) WHERE droplet_id = ?";
    db.execute(sql, params![to_json(&mark)?, droplet.as_str()])?;
    Ok(())
}

fn insert(
    db: &Conn,
    of: (&DropletId, i64),
    life: &Life,
    first_seen: Timestamp,
    now: Timestamp,
) -> Result<(), StoreError> {
    let (droplet, enrolment) = of;
    db.execute(
        "INSERT INTO life (droplet_id, enrolment, epoch, high_water, since, first_seen, last_seen)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?5)",
        params![
            droplet.as_str(),
            enrolment,
            life.boot_epoch,
            column(life.journal_high_water),
            now.millis(),
            first_seen.millis()
        ],
    )?;
    db.execute(
        "DELETE FROM life WHERE droplet_id = ?1 AND enrolment = ?2 AND number NOT IN (
            SELECT number FROM life WHERE droplet_id = ?1 AND enrolment = ?2 ORDER BY number DESC LIMIT ?3)",
        params![droplet.as_str(), enrolment, LIVES_MAX],
    )?;
    Ok(())
}

/// A handshake: an operator has vouched for this life with a provisioning token. It is the only one, and good.
pub(super) fn begin(
    db: &Conn,
    droplet: &DropletId,
    enrolment: i64,
    life: &Life,
    now: Timestamp,
) -> Result<(), StoreError> {
    db.execute("DELETE FROM life WHERE droplet_id = ?", [droplet.as_str()])?;
    insert(db, (droplet, enrolment), life, now, now)?;
    let sql = "UPDATE droplet SET quarantine = NULL WHERE droplet_id = ? AND quarantine IS NOT NULL";
    if db.execute(sql, [droplet.as_str()])? > 0 {
        let message = "it enrolled anew with a provisioning token";
        events::insert(db, &NewEvent { code: RESUMED, message, droplet: Some(droplet), job: None }, now)?;
    }
    Ok(())
}

fn sight(db: &Conn, of: &SidecarToken, life: &Life, grace_ms: i64, now: Timestamp) -> Result<Sight, StoreError> {
    let quarantined = is_quarantined(db, &of.droplet)?;
    let Some(number) = life_number(db, of, &life.boot_epoch)? else {
        insert(db, (&of.droplet, of.enrolment), life, now, now)?;
        let stored = stored_up_to(db, &of.droplet, of.enrolment)?;
        if quarantined {
            return Ok(Sight::Quarantined);
        }
        if column(life.journal_high_water) >= stored {
            return Ok(Sight::Present);
        }
        let message = format!(
            "boot epoch {} began with a journal that ends at record {}, and {stored} are stored here: it was restored from a snapshot",
            life.boot_epoch, life.journal_high_water
        );
        quarantine(db, &of.droplet, Cause::Restored, message, now)?;
        return Ok(Sight::Alarm);
    };
    let sql =
        "SELECT epoch, since FROM life WHERE droplet_id = ? AND enrolment = ? AND number > ? ORDER BY number LIMIT 1";
    let next: Option<(String, Timestamp)> = db
        .query_row(sql, params![of.droplet.as_str(), of.enrolment, number], |row| Ok((row.get(0)?, time(row, 1)?)))
        .optional()?;
    let Some((successor, since)) = next else {
        return Ok(if quarantined { Sight::Quarantined } else { Sight::Present });
    };
    if quarantined {
        return Ok(Sight::Quarantined);
    }
    if now.millis_since(since) < grace_ms {
        return Ok(Sight::Late);
    }
    let message = format!(
        "boot epoch {} speaks again, though {successor} took its place at {since}: two machines act as this droplet",
        life.boot_epoch
    );
    quarantine(db, &of.droplet, Cause::Cloned, message, now)?;
    Ok(Sight::Alarm)
}

/// Takes what is stored beyond `base` out of the way of a journal that counts from there again. Nothing is lost: it is
/// kept as long as other records are.
pub(super) fn set_aside(
    db: &Conn,
    droplet: &DropletId,
    enrolment: i64,
    base: i64,
    now: Timestamp,
) -> Result<(), StoreError> {
    let sql = "UPDATE enrolment SET stored_up_to = ?3 WHERE droplet_id = ?1 AND number = ?2 AND stored_up_to > ?3";
    if db.execute(sql, params![droplet.as_str(), enrolment, base])? == 0 {
        return Ok(());
    }
    db.execute(
        "INSERT INTO former_record (droplet_id, enrolment, seq, body, stored_at, set_aside_at)
         SELECT droplet_id, enrolment, seq, body, stored_at, ?4 FROM record
         WHERE droplet_id = ?1 AND enrolment = ?2 AND seq > ?3",
        params![droplet.as_str(), enrolment, base, now.millis()],
    )?;
    let sql = "DELETE FROM record WHERE droplet_id = ? AND enrolment = ? AND seq > ?";
    db.execute(sql, params![droplet.as_str(), enrolment, base])?;
    leases::reinstalled(db, droplet, now)
}

/// Whether the journal may differ from what is stored: an operator resumed it, and it has not gone on since.
pub(super) fn rejoins(db: &Conn, droplet: &DropletId, enrolment: i64) -> Result<bool, StoreError> {
    let sql = "SELECT rejoins FROM enrolment WHERE droplet_id = ? AND number = ?";
    Ok(db.prepare_cached(sql)?.query_row(params![droplet.as_str(), enrolment], |row| row.get(0))?)
}

/// Notes that the journal has gone on.
pub(super) fn rejoined(db: &Conn, droplet: &DropletId, enrolment: i64) -> Result<(), StoreError> {
    let sql = "UPDATE enrolment SET rejoins = 0 WHERE droplet_id = ? AND number = ?";
    db.execute(sql, params![droplet.as_str(), enrolment])?;
    Ok(())
}

/// Notes that a life reported, and the highest outbox number known of it.
pub(super) fn heard(
    db: &Conn,
    of: (&DropletId, i64),
    epoch: Option<&str>,
    high_water: u64,
    now: Timestamp,
) -> Result<(), StoreError> {
    let Some(epoch) = epoch else { return Ok(()) };
    let sql = "UPDATE life SET last_seen = ?, high_water = max(high_water, ?)
               WHERE droplet_id = ? AND enrolment = ? AND epoch = ?";
    db.prepare_cached(sql)?.execute(params![now.millis(), column(high_water), of.0.as_str(), of.1, epoch])?;
    Ok(())
}

fn resume(
    db: &Conn,
    droplet: &DropletId,
    request: &ResumeRequest,
    by: &str,
    now: Timestamp,
) -> Result<Resumed, StoreError> {
    let sql = "SELECT enrolment, quarantine IS NOT NULL FROM droplet WHERE droplet_id = ?";
    let found = db.query_row(sql, [droplet.as_str()], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    let (enrolment, quarantined): (Option<i64>, bool) = match found {
        Some(found) => found,
        None => return Ok(Resumed::NotFound),
    };
    let (Some(enrolment), true) = (enrolment, quarantined) else { return Ok(Resumed::NotQuarantined) };
    let sql = "SELECT number, epoch, high_water, first_seen FROM life
               WHERE droplet_id = ?1 AND enrolment = ?2 AND epoch = coalesce(?3, epoch)
               ORDER BY last_seen DESC, number DESC LIMIT 1";
    let chosen = db.query_row(sql, params![droplet.as_str(), enrolment, request.boot_epoch], |row| {
        let (number, boot_epoch, high): (i64, String, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        Ok((number, Life { boot_epoch, journal_high_water: high.unsigned_abs() }, time(row, 3)?))
    });
    let chosen = chosen.optional()?;
    if chosen.is_none() && request.boot_epoch.is_some() {
        return Ok(Resumed::UnknownLife);
    }
    let stored = stored_up_to(db, droplet, enrolment)?;
    let mut what = String::new();
    if let Some((number, life, first_seen)) = chosen {
        // Whichever lives there are, this one is the newest from now on.
        db.execute("DELETE FROM life WHERE number = ?", [number])?;
        insert(db, (droplet, enrolment), &life, first_seen, now)?;
        let high_water = column(life.journal_high_water);
        set_aside(db, droplet, enrolment, high_water, now)?;
        what = format!("; boot epoch {} goes on from record {}", life.boot_epoch, high_water.min(stored));
    }
    let sql = "UPDATE enrolment SET rejoins = 1 WHERE droplet_id = ? AND number = ?";
    db.execute(sql, params![droplet.as_str(), enrolment])?;
    db.execute("UPDATE droplet SET quarantine = NULL WHERE droplet_id = ?", [droplet.as_str()])?;
    let detail = json!({"droplet": droplet, "by": by, "reason": request.reason});
    audit::note(db, event::DROPLET_RESUMED, detail, now)?;
    let message = format!("resumed by {by}: {}{what}", request.reason);
    events::insert(db, &NewEvent { code: RESUMED, message: &message, droplet: Some(droplet), job: None }, now)?;
    Ok(Resumed::Done)
}

impl Store {
    /// Takes note of a life that is not the present one by the look-up of its token. A former life that speaks later
    /// than `grace_ms` after its successor's first word is a second machine's.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn sight(
        &self,
        token: &SidecarToken,
        life: Life,
        grace_ms: i64,
        now: Timestamp,
    ) -> Result<Sight, StoreError> {
        let token = token.clone();
        self.write(move |db| sight(db, &token, &life, grace_ms, now)).await
    }

    /// Whether a droplet is quarantined now.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn is_quarantined(&self, droplet: DropletId) -> Result<bool, StoreError> {
        self.read(move |db| is_quarantined(db, &droplet)).await
    }

    /// Ends a quarantine: the chosen life is the droplet from now on, and what its journal says is new even under
    /// numbers that were used before.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn resume(
        &self,
        droplet: DropletId,
        request: ResumeRequest,
        by: String,
        now: Timestamp,
    ) -> Result<Resumed, StoreError> {
        self.write(move |db| resume(db, &droplet, &request, &by, now)).await
    }

    /// The lives that are remembered of a droplet's present identity, the present one first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn lives(&self, droplet: DropletId) -> Result<Vec<LifeView>, StoreError> {
        self.read(move |db| {
            let sql = "SELECT l.epoch, l.high_water, l.first_seen, l.last_seen FROM life l
                       JOIN droplet d ON d.droplet_id = l.droplet_id AND d.enrolment = l.enrolment
                       WHERE l.droplet_id = ? ORDER BY l.number DESC";
            let mut query = db.prepare_cached(sql)?;
            let rows = query.query_map([droplet.as_str()], |row| {
                Ok(LifeView {
                    boot_epoch: row.get(0)?,
                    journal_high_water: row.get::<_, i64>(1)?.unsigned_abs(),
                    first_seen_at: time(row, 2)?,
                    last_seen_at: time(row, 3)?,
                    present: false,
                })
            })?;
            let mut lives = rows.collect::<Result<Vec<_>, _>>()?;
            if let Some(first) = lives.first_mut() {
                first.present = true;
            }
            Ok(lives)
        })
        .await
    }
}
