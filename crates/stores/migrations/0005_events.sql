-- The log of events. `seq` is a record's place: it only grows, also where records were removed, so
-- that a cursor misses nothing. What is not known is null, and takes no room.
CREATE TABLE events (
    seq     INTEGER PRIMARY KEY AUTOINCREMENT,
    at      INTEGER NOT NULL,
    name    TEXT    NOT NULL,
    actor   TEXT    NOT NULL,
    count   INTEGER NOT NULL,
    user    TEXT,
    session BLOB,
    reason  TEXT,
    detail  TEXT,
    network TEXT,
    device  TEXT,
    agent   TEXT
);
CREATE INDEX events_by_user ON events (user) WHERE user IS NOT NULL;
CREATE INDEX events_by_session ON events (session) WHERE session IS NOT NULL;
CREATE INDEX events_by_time ON events (at);
