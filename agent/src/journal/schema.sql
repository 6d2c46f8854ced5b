-- The agent's memory, version 3. Contract: see mod.rs. Times are milliseconds since 1970, records are versioned JSON.
-- A change here needs a new version, and a step from the one before in sqlite/open.rs.

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
    outcome     BLOB,
    -- How much of it was pruned: 0 nothing, 1 all but the bundle, 2 all but what refuses a replay.
    pruned      INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX command_open ON command (read_only, seq) WHERE outcome IS NULL;
CREATE INDEX command_whole ON command (pruned, seq) WHERE pruned < 2;
CREATE INDEX command_spent ON command (not_after) WHERE pruned = 2;

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
    record BLOB    NOT NULL,
    -- What gives way first where there is too much: 0 never, 1 metrics, 2 events that repeat.
    gives_way INTEGER NOT NULL DEFAULT 0,
    bytes     INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX outbox_weight ON outbox (gives_way, seq, bytes);

-- The audit chain (genesis_shared::audit). Its head is among the single values; delivered rows are pruned behind it.
CREATE TABLE audit (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    -- The record of the outbox that delivers it.
    outbox INTEGER NOT NULL,
    entry  BLOB    NOT NULL
) STRICT;
