-- Version 2: lives of agents, quarantine, tenants that must never receive commands.

-- Why and since when the droplet may change nothing, as JSON; NULL where it may.
ALTER TABLE droplet ADD COLUMN quarantine TEXT;
-- Whether every command of the bundle only looks.
ALTER TABLE bundle ADD COLUMN read_only INTEGER NOT NULL DEFAULT 0;
-- Tenants that it would have reached but for their exclusion, as a JSON list.
ALTER TABLE bundle ADD COLUMN excluded TEXT NOT NULL DEFAULT '[]';
-- Whether an operator resumed it and its journal has not gone on yet: what then differs from what is stored is new.
ALTER TABLE enrolment ADD COLUMN rejoins INTEGER NOT NULL DEFAULT 0;

CREATE TABLE life (
    number       INTEGER PRIMARY KEY AUTOINCREMENT,   -- the largest of an enrolment is its present life
    droplet_id   TEXT NOT NULL,
    enrolment    INTEGER NOT NULL,
    epoch        TEXT NOT NULL,
    high_water   INTEGER NOT NULL,
    since        INTEGER NOT NULL,                    -- when it became the present one
    first_seen   INTEGER NOT NULL,
    last_seen    INTEGER NOT NULL,
    UNIQUE (droplet_id, enrolment, epoch)
) STRICT;

-- Records of a journal that was rolled back since: their numbers are used again.
CREATE TABLE former_record (
    number       INTEGER PRIMARY KEY,
    droplet_id   TEXT NOT NULL,
    enrolment    INTEGER NOT NULL,
    seq          INTEGER NOT NULL,
    body         TEXT NOT NULL,
    stored_at    INTEGER NOT NULL,
    set_aside_at INTEGER NOT NULL
) STRICT;
CREATE INDEX former_record_age ON former_record (set_aside_at);
