-- What failed logins have cost: see core/src/throttle.rs. Keys are keyed hashes.
CREATE TABLE throttle (
    key BLOB PRIMARY KEY NOT NULL,
    refilled_at INTEGER NOT NULL,
    failures INTEGER NOT NULL,
    counted_until INTEGER NOT NULL,
    span INTEGER NOT NULL,
    under_way INTEGER NOT NULL,
    older INTEGER NOT NULL,
    idle_at INTEGER NOT NULL
) WITHOUT ROWID, STRICT;
CREATE INDEX throttle_idle ON throttle (idle_at);
