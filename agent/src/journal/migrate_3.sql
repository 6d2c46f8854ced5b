-- From version 2 to 3: the audit chain. Its head is among the single values; delivered rows are pruned behind it.
CREATE TABLE audit (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    -- The record of the outbox that delivers it.
    outbox INTEGER NOT NULL,
    entry  BLOB    NOT NULL
) STRICT;
