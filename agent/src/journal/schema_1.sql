-- The agent's memory, version 1. Contract: see mod.rs. Times are milliseconds since 1970, records are versioned JSON.

-- Single values: the time floor, the hub's pace, the verified trust root.
CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT;

-- Accepted bundles, in the order in which they run. The id stays as long as a replay would be possible.
CREATE TABLE command (
    seq         INTEGER PRIMARY KEY AUTOINCREMENT,
    bundle_id   TEXT    NOT NULL UNIQUE,
    job_id      TEXT    NOT NULL,
    digest      TEXT    NOT NULL,
    bundle      BLOB    NOT NULL,
    not_after   INTEGER NOT NULL,
    read_only   INTEGER NOT NULL,
    accepted_at INTEGER NOT NULL,
    plan        BLOB,
    outcome     BLOB
) STRICT;
CREATE INDEX command_open ON command (read_only, seq) WHERE outcome IS NULL;

-- What happened to them, one row per event, in order.
CREATE TABLE event (
    command INTEGER NOT NULL REFERENCES command (seq),
    n       INTEGER NOT NULL,
    at      INTEGER NOT NULL,
    record  BLOB    NOT NULL,
    PRIMARY KEY (command, n)
) STRICT, WITHOUT ROWID;

-- The id map: managed names -> n8n ids.
CREATE TABLE credential (name TEXT PRIMARY KEY, record BLOB NOT NULL) STRICT;
CREATE TABLE workflow (key TEXT PRIMARY KEY, record BLOB NOT NULL) STRICT;

-- What the hub has still to hear of. A number is never used twice.
CREATE TABLE outbox (
    seq    INTEGER PRIMARY KEY AUTOINCREMENT,
    at     INTEGER NOT NULL,
    record BLOB    NOT NULL
) STRICT;
