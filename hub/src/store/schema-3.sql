-- Version 3: audit chains (genesis_shared::audit), the hub's own and those of droplets as they were delivered. Rows are
-- never changed and never deleted.

CREATE TABLE audit (
    number       INTEGER PRIMARY KEY AUTOINCREMENT,
    droplet_id   TEXT,                  -- NULL: the hub's own
    seq          INTEGER NOT NULL,
    at           INTEGER NOT NULL,
    event        TEXT NOT NULL,
    detail       TEXT NOT NULL,         -- the exact text that is hashed
    prev         TEXT NOT NULL,
    hash         TEXT NOT NULL
) STRICT;
CREATE INDEX audit_of ON audit (droplet_id, number);
CREATE INDEX audit_seq ON audit (droplet_id, seq);

-- The name of the hub's own chain; one row.
CREATE TABLE audit_chain (
    name         TEXT PRIMARY KEY
) STRICT;

-- What droplets signed of their chains: the first and the latest of each.
CREATE TABLE audit_checkpoint (
    number       INTEGER PRIMARY KEY AUTOINCREMENT,
    droplet_id   TEXT NOT NULL,
    seq          INTEGER NOT NULL,
    hash         TEXT NOT NULL,
    document     TEXT NOT NULL,         -- exactly as it was signed
    stored_at    INTEGER NOT NULL
) STRICT;
CREATE INDEX audit_checkpoint_of ON audit_checkpoint (droplet_id, number);
