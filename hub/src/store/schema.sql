-- Version 1. Times are milliseconds since 1970, ids and keys their text, digests of credentials raw SHA-256.

CREATE TABLE api_token (
    digest     BLOB PRIMARY KEY,
    name       TEXT NOT NULL UNIQUE,
    scopes     TEXT NOT NULL,           -- names joined by commas
    created_at INTEGER NOT NULL,
    revoked_at INTEGER
) STRICT;

CREATE TABLE droplet (
    workspace_id  TEXT PRIMARY KEY,
    droplet_id    TEXT NOT NULL UNIQUE,
    name          TEXT,
    region        TEXT,
    labels        TEXT NOT NULL,        -- JSON object of strings
    created_at    INTEGER NOT NULL,
    enrolment     INTEGER,              -- the current one; NULL before the first handshake
    last_seen_at  INTEGER,
    heartbeat     TEXT                  -- the latest, as JSON
) STRICT;

-- One row per identity key that a droplet ever had. Outbox numbers count within one.
CREATE TABLE enrolment (
    droplet_id    TEXT NOT NULL REFERENCES droplet(droplet_id),
    number        INTEGER NOT NULL,
    identity_key  TEXT NOT NULL,
    sealing_key   TEXT NOT NULL,
    enrolled_at   INTEGER NOT NULL,
    handshake     TEXT NOT NULL,        -- what the droplet said of itself, as JSON, without token and proof
    peer_ip       TEXT,                 -- what the hub saw
    stored_up_to  INTEGER NOT NULL DEFAULT 0,
    renewals      INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (droplet_id, number),
    UNIQUE (droplet_id, identity_key)
) STRICT, WITHOUT ROWID;

CREATE TABLE provisioning_token (
    digest       BLOB PRIMARY KEY,
    droplet_id   TEXT NOT NULL REFERENCES droplet(droplet_id),
    expires_at   INTEGER NOT NULL,
    used_by      TEXT                   -- identity key
) STRICT;

CREATE TABLE sidecar_token (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,   -- grows: a larger one is newer
    digest       BLOB NOT NULL UNIQUE,
    droplet_id   TEXT NOT NULL,
    enrolment    INTEGER NOT NULL,
    expires_at   INTEGER NOT NULL,
    used_at      INTEGER
) STRICT;
CREATE INDEX sidecar_token_of ON sidecar_token (droplet_id, enrolment);

CREATE TABLE renewal (
    droplet_id   TEXT NOT NULL,
    jti          TEXT NOT NULL,
    PRIMARY KEY (droplet_id, jti)
) STRICT, WITHOUT ROWID;

CREATE TABLE trust_root (
    version      INTEGER PRIMARY KEY,
    digest       TEXT NOT NULL,
    document     TEXT NOT NULL,
    stored_at    INTEGER NOT NULL
) STRICT;

CREATE TABLE bundle (
    bundle_id    TEXT PRIMARY KEY,
    digest       TEXT NOT NULL,         -- of the document's bytes
    document     TEXT NOT NULL,         -- exactly as pushed
    action       TEXT NOT NULL,
    queue        TEXT NOT NULL,
    priority     INTEGER NOT NULL,
    not_before   INTEGER NOT NULL,
    not_after    INTEGER NOT NULL,
    pushed_by    TEXT NOT NULL,
    created_at   INTEGER NOT NULL
) STRICT;
CREATE INDEX bundle_digest ON bundle (digest);

CREATE TABLE job (
    number       INTEGER PRIMARY KEY,
    job_id       TEXT NOT NULL UNIQUE,
    bundle_id    TEXT NOT NULL REFERENCES bundle(bundle_id),
    workspace_id TEXT NOT NULL REFERENCES droplet(workspace_id),
    state        TEXT NOT NULL,
    attempts     INTEGER NOT NULL DEFAULT 0,
    priority     INTEGER NOT NULL,
    not_before   INTEGER NOT NULL,
    not_after    INTEGER NOT NULL,
    created_at   INTEGER NOT NULL,
    lease_id     TEXT,
    lease_until  INTEGER,
    accepted_at  INTEGER,
    finished_at  INTEGER,
    result       TEXT,                  -- the droplet's, as JSON
    UNIQUE (bundle_id, workspace_id)
) STRICT;
CREATE INDEX job_waiting ON job (workspace_id, state, priority, created_at, number);
CREATE INDEX job_state ON job (state, not_after);

CREATE TABLE record (
    droplet_id   TEXT NOT NULL,
    enrolment    INTEGER NOT NULL,
    seq          INTEGER NOT NULL,
    body         TEXT NOT NULL,
    stored_at    INTEGER NOT NULL,
    PRIMARY KEY (droplet_id, enrolment, seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX record_age ON record (stored_at);

CREATE TABLE event (
    number       INTEGER PRIMARY KEY AUTOINCREMENT,
    at           INTEGER NOT NULL,
    code         TEXT NOT NULL,
    message      TEXT NOT NULL,
    droplet_id   TEXT,
    job_id       TEXT
) STRICT;
