-- What webhooks have still to send. `address` is a hash of its URL.
CREATE TABLE outbox (
    address TEXT    PRIMARY KEY,
    seq     INTEGER NOT NULL         -- how far `events` was looked through
) WITHOUT ROWID;
CREATE TABLE deliveries (
    address  TEXT    NOT NULL,
    seq      INTEGER NOT NULL,       -- events.seq
    attempts INTEGER NOT NULL,
    due      INTEGER NOT NULL,
    PRIMARY KEY (address, seq)
) WITHOUT ROWID;
CREATE INDEX deliveries_by_due ON deliveries (address, due);
