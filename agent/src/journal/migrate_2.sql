-- From version 1 to 2: what pruning and the outbox's limit need to know.
ALTER TABLE command ADD COLUMN pruned INTEGER NOT NULL DEFAULT 0;
CREATE INDEX command_whole ON command (pruned, seq) WHERE pruned < 2;
CREATE INDEX command_spent ON command (not_after) WHERE pruned = 2;
ALTER TABLE outbox ADD COLUMN gives_way INTEGER NOT NULL DEFAULT 0;
ALTER TABLE outbox ADD COLUMN bytes INTEGER NOT NULL DEFAULT 0;
UPDATE outbox SET bytes = length(record);
CREATE INDEX outbox_weight ON outbox (gives_way, seq, bytes);
