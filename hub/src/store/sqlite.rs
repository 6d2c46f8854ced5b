//! The database driver: opening, migrating, reading columns into our types. Other files of the store use what this one
//! passes on and do not name the driver.

use std::path::Path;
use std::str::FromStr;

use genesis_shared::timestamp::Timestamp;
use rusqlite::config::DbConfig;
use rusqlite::types::Type;
use rusqlite::{Error, ErrorCode, OpenFlags};
use serde::de::DeserializeOwned;

pub(super) use rusqlite::{Connection as Conn, OptionalExtension, Params, Row, params};

use super::StoreError;

/// What leads from each version to the next, from an empty file on. A new version is a new last step.
const STEPS: &[&str] = &[
    include_str!("schema.sql"),
    include_str!("schema-2.sql"),
    include_str!("schema-3.sql"),
    include_str!("schema-4.sql"),
];
/// How long to wait for another process that holds the file, such as `genesis-hub token create`.
const BUSY_MS: u64 = 5_000;

/// Prepared statements that a connection keeps: more than the store has, where the driver's 16 would be prepared anew
/// again and again.
const STATEMENTS_KEPT: usize = 128;

/// Page cache of a reader in KiB.
const READER_CACHE_KIB: i64 = 256;

/// What a column read gives.
pub(super) type ColumnResult<T> = Result<T, Error>;

impl From<Error> for StoreError {
    fn from(error: Error) -> Self {
        let text = error.to_string();
        match error.sqlite_error_code() {
            Some(
                ErrorCode::DiskFull
                | ErrorCode::SystemIoFailure
                | ErrorCode::CannotOpen
                | ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::OutOfMemory
                | ErrorCode::ReadOnly
                | ErrorCode::OperationAborted,
            ) => Self::Unavailable(text),
            _ => Self::Broken(text),
        }
    }
}

/// Opens the file for the writer and migrates it.
pub(super) fn open(path: &Path) -> Result<Conn, StoreError> {
    let conn = Conn::open(path)?;
    conn.busy_timeout(std::time::Duration::from_millis(BUSY_MS))?;
    conn.pragma_update(None, "journal_mode", "WAL")?;
    // S1: FULL, for in WAL mode NORMAL may lose the last commits with the power.
    conn.pragma_update(None, "synchronous", "FULL")?;
    conn.pragma_update(None, "foreign_keys", "ON")?;
    keep_statements(&conn)?;
    migrate(&conn)?;
    Ok(conn)
}

/// Opens the file for a simulation: nobody else does, and nothing is synced.
#[cfg(feature = "sim")]
pub(super) fn open_unsynced(path: &Path) -> Result<Conn, StoreError> {
    let conn = Conn::open(path)?;
    conn.execute_batch(
        "PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF; PRAGMA foreign_keys = ON",
    )?;
    keep_statements(&conn)?;
    migrate(&conn)?;
    Ok(conn)
}

/// A statement is prepared once and planned once, whatever values are bound to it later.
fn keep_statements(conn: &Conn) -> Result<(), StoreError> {
    conn.set_prepared_statement_cache_capacity(STATEMENTS_KEPT);
    // Without it SQLite prepares anew whenever a bound value could have led to another plan, which is on each poll.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(())
}

/// Opens the file for reading only.
pub(super) fn open_reader(path: &Path) -> Result<Conn, StoreError> {
    let conn = Conn::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    conn.busy_timeout(std::time::Duration::from_millis(BUSY_MS))?;
    // A look reads a few pages, and the system caches the file anyway.
    conn.pragma_update(None, "cache_size", -READER_CACHE_KIB)?;
    keep_statements(&conn)?;
    Ok(conn)
}

fn migrate(conn: &Conn) -> Result<(), StoreError> {
    // IMMEDIATE: of two processes that open a new file at once, one migrates and the other then sees it done.
    conn.execute_batch("BEGIN IMMEDIATE")?;
    let version: i64 = conn.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let Some(steps) = usize::try_from(version).ok().and_then(|version| STEPS.get(version..)) else {
        return Err(StoreError::Unavailable(format!(
            "the database has version {version}, this hub knows up to {}; install the newer hub again",
            STEPS.len()
        )));
    };
    for step in steps {
        conn.execute_batch(step)?;
    }
    if !steps.is_empty() {
        conn.execute_batch(&format!("PRAGMA user_version = {}", STEPS.len()))?;
    }
    conn.execute_batch("COMMIT")?;
    Ok(())
}

fn unreadable(column: usize, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::FromSqlConversionFailure(column, Type::Text, Box::new(error))
}

/// A text column as one of our types.
pub(super) fn text<T>(row: &Row<'_>, column: usize) -> ColumnResult<T>
where
    T: FromStr,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    row.get::<_, String>(column)?.parse().map_err(|e| unreadable(column, e))
}

/// A text column that may be empty, as one of our types.
pub(super) fn text_or_none<T>(row: &Row<'_>, column: usize) -> ColumnResult<Option<T>>
where
    T: FromStr,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    let text: Option<String> = row.get(column)?;
    text.map(|text| text.parse()).transpose().map_err(|e| unreadable(column, e))
}

/// A column of milliseconds.
pub(super) fn time(row: &Row<'_>, column: usize) -> ColumnResult<Timestamp> {
    Ok(Timestamp::from_millis(row.get(column)?))
}

/// A column of milliseconds that may be empty.
pub(super) fn time_or_none(row: &Row<'_>, column: usize) -> ColumnResult<Option<Timestamp>> {
    Ok(row.get::<_, Option<i64>>(column)?.map(Timestamp::from_millis))
}

/// A column of JSON.
pub(super) fn json<T: DeserializeOwned>(row: &Row<'_>, column: usize) -> ColumnResult<T> {
    serde_json::from_str(&row.get::<_, String>(column)?).map_err(|e| unreadable(column, e))
}

/// A column of JSON that may be empty.
pub(super) fn json_or_none<T: DeserializeOwned>(row: &Row<'_>, column: usize) -> ColumnResult<Option<T>> {
    let text: Option<String> = row.get(column)?;
    text.map(|text| serde_json::from_str(&text)).transpose().map_err(|e| unreadable(column, e))
}

/// A value as JSON for a column.
pub(super) fn to_json<T: serde::Serialize>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|e| StoreError::Broken(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_of_the_first_version_is_brought_up_with_what_is_in_it_and_a_later_one_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hub.db");
        let old = Conn::open(&path).unwrap();
        old.execute_batch(STEPS[0]).unwrap();
        old.execute_batch(
            "PRAGMA user_version = 1;
             INSERT INTO droplet (workspace_id, droplet_id, labels, created_at) VALUES ('w', 'd1', '{}', 0);",
        )
        .unwrap();
        drop(old);
        for _ in 0..2 {
            let new = open(&path).unwrap();
            let count = "SELECT count(*) FROM droplet WHERE quarantine IS NULL";
            assert_eq!(new.query_row(count, [], |row| row.get::<_, i64>(0)).unwrap(), 1);
            let version: i64 = new.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
            assert_eq!(usize::try_from(version).unwrap(), STEPS.len());
        }
        Conn::open(&path).unwrap().execute_batch("PRAGMA user_version = 99").unwrap();
        let refusal = open(&path).unwrap_err().to_string();
        assert!(refusal.contains("version 99"), "{refusal}");
    }
}
