-- Version 4: pace and waves of delivery, settings that operators change while the hub runs, lifecycles of droplets.

-- The bundle's, here too, so that what is due can be told from one table.
ALTER TABLE job ADD COLUMN queue TEXT NOT NULL DEFAULT 'template';
UPDATE job SET queue = (SELECT queue FROM bundle WHERE bundle.bundle_id = job.bundle_id);
-- Not to be handed out again before; 0 where nothing went wrong yet.
ALTER TABLE job ADD COLUMN retry_at INTEGER NOT NULL DEFAULT 0;
-- When it was handed out last.
ALTER TABLE job ADD COLUMN leased_at INTEGER;
-- Which wave of its rollout it belongs to, from 0; NULL where there is no rollout.
ALTER TABLE job ADD COLUMN wave INTEGER;
-- Whether its wave was not released yet.
ALTER TABLE job ADD COLUMN held INTEGER NOT NULL DEFAULT 0;

CREATE TABLE rollout (
    bundle_id    TEXT PRIMARY KEY REFERENCES bundle(bundle_id),
    plan         TEXT NOT NULL,         -- as JSON
    state        TEXT NOT NULL,         -- as JSON
    is_over      INTEGER NOT NULL DEFAULT 0,
    created_at   INTEGER NOT NULL,
    changed_at   INTEGER NOT NULL
) STRICT;
CREATE INDEX rollout_open ON rollout (is_over);

CREATE TABLE setting (
    name         TEXT PRIMARY KEY,
    value        TEXT NOT NULL          -- as JSON
) STRICT;

-- What its operators say it is doing, as JSON; NULL where nothing special is.
ALTER TABLE droplet ADD COLUMN lifecycle TEXT;

-- For pruning: what ended first.
CREATE INDEX job_finished ON job (finished_at) WHERE finished_at IS NOT NULL;
