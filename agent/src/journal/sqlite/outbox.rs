//! The outbox: numbered records that wait for delivery, for as long as it takes and up to a limit of bytes.

use genesis_shared::limits::OUTBOX_BYTES_MAX;
use genesis_shared::report::{Event, OutboxRecord, Record};
use genesis_shared::timestamp::Timestamp;

use super::{Journal, OptionalExtension, Outcome, Result, Transaction, params, readable};

/// A record as it is stored.
pub(super) struct Parcel {
    bytes: Vec<u8>,
    gives_way: i64,
}

/// What has to give way where there is too much, in this order; 0 never does.
const METRICS: i64 = 1;
const REPEATING: i64 = 2;

impl Parcel {
    /// A record that never gives way.
    pub(super) fn lasting(bytes: Vec<u8>) -> Self {
        Self { bytes, gives_way: 0 }
    }

    /// Whether it goes where there is too much.
    pub(super) fn may_give_way(&self) -> bool {
        self.gives_way > 0
    }
}

impl Journal {
    /// A record, ready to be pushed.
    pub(super) fn parcel(&self, record: &Record) -> Result<Parcel> {
        let gives_way = match record {
            Record::Metrics(_) => METRICS,
            // What still differs is found and told again by the next round.
            Record::Event(event) if event.code.starts_with("drift_") => REPEATING,
            Record::Accepted { .. } | Record::Result(_) | Record::Event(_) | Record::Escrow(_) | Record::Audit(_) => 0,
        };
        Ok(Parcel { bytes: self.encode(record)?, gives_way })
    }

    /// The oldest outbox records, at most `limit`. A damaged one becomes an event that says so under its number.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn outbox(&self, limit: usize) -> Result<Vec<OutboxRecord>> {
        let rows: Vec<(i64, i64, Vec<u8>)> = self.read(|c| {
            let mut statement = c.prepare_cached("SELECT seq, at, record FROM outbox ORDER BY seq LIMIT ?")?;
            let rows = statement
                .query_map([i64::try_from(limit).unwrap_or(i64::MAX)], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)))?;
            rows.collect()
        })?;
        let decode = |(seq, at, record): (i64, i64, Vec<u8>)| {
            let lost = || {
                let message = format!("record {seq} of the outbox is damaged; what it said is lost");
                Record::Event(Event { code: "journal_damaged".into(), message })
            };
            let record = readable(self.decode("outbox", &seq, &record)).unwrap_or_else(lost);
            OutboxRecord { seq: seq.unsigned_abs(), at: Timestamp::from_millis(at), record }
        };
        Ok(rows.into_iter().map(decode).collect())
    }

    /// Forgets the records that the hub has stored.
    ///
    /// # Errors
    /// They are still there and will be delivered again, which does no harm.
    pub fn delivered(&self, up_to: u64) -> Result<()> {
        let up_to = i64::try_from(up_to).unwrap_or(i64::MAX);
        self.write(|tx| tx.execute("DELETE FROM outbox WHERE seq <= ?", [up_to]).map(drop))
    }

    /// The highest outbox number ever used, and how many records wait.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn outbox_state(&self) -> Result<(u64, u64)> {
        let sql = "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'outbox'), 0), (SELECT count(*) FROM outbox)";
        let (high, depth): (i64, i64) = self.read(|c| c.query_row(sql, [], |r| Ok((r.get(0)?, r.get(1)?))))?;
        Ok((high.unsigned_abs(), depth.unsigned_abs()))
    }

    /// The number of the first record that waits, or of the next one that will be written.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn outbox_next(&self) -> Result<u64> {
        let first: Option<i64> = self.read(|c| c.query_row("SELECT min(seq) FROM outbox", [], |row| row.get(0)))?;
        Ok(match first {
            Some(first) => first.unsigned_abs(),
            None => self.outbox_state()?.0 + 1,
        })
    }

    /// Bytes of the records that wait.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn outbox_bytes(&self) -> Result<u64> {
        self.read(|c| c.query_row(WEIGHT, [], |row| row.get(0))).map(i64::unsigned_abs)
    }
}

const WEIGHT: &str = "SELECT coalesce(sum(bytes), 0) FROM outbox";

/// Writes a record under the next number, and lets older ones give way where that makes it too much.
pub(super) fn push(tx: &Transaction<'_>, now: Timestamp, parcel: &Parcel) -> Outcome<()> {
    let bytes = i64::try_from(parcel.bytes.len()).unwrap_or(i64::MAX);
    let insert = "INSERT INTO outbox (at, record, gives_way, bytes) VALUES (?, ?, ?, ?)";
    tx.prepare_cached(insert)?.execute(params![now.millis(), parcel.bytes, parcel.gives_way, bytes])?;
    let weight: i64 = tx.prepare_cached(WEIGHT)?.query_row([], |row| row.get(0))?;
    let mut excess = weight - i64::try_from(OUTBOX_BYTES_MAX).unwrap_or(i64::MAX);
    while excess > 0 {
        // The index's order: the metrics before the events, the oldest of each first.
        let sql = "DELETE FROM outbox WHERE seq = (SELECT seq FROM outbox WHERE gives_way > 0 ORDER BY gives_way, seq LIMIT 1)
                   RETURNING bytes";
        let freed: Option<i64> = tx.prepare_cached(sql)?.query_row([], |row| row.get(0)).optional()?;
        match freed {
            Some(freed) => excess -= freed.max(1),
            // Results, acknowledgements, refusals and the audit stay, whatever they weigh.
            None => break,
        }
    }
    Ok(())
}
