-- Times are milliseconds since 1970-01-01T00:00:00Z. Expressions in comments say how columns that
-- hold a difference are read; they are kept small because a million rows are.

-- One row a session. Ids are time-ordered, so new rows append. A row never grows while its session
-- lives (`previous` is 16 zero bytes at first), so rotations never split a page.
CREATE TABLE sessions (
    id           BLOB    PRIMARY KEY,  -- 16 bytes
    user         TEXT    NOT NULL,
    user_hash    INTEGER NOT NULL,     -- 32 bits of SHA-256(user)
    confirmed    BLOB    NOT NULL,     -- 16 bytes
    previous     BLOB    NOT NULL,     -- 16 bytes; zero: none; empty once the session has ended
    generation   INTEGER NOT NULL,
    attempt      INTEGER NOT NULL,
    confirmed_at INTEGER NOT NULL,     -- 0: never
    child_after  INTEGER NOT NULL,     -- child_at - confirmed_at
    refresh_key  INTEGER NOT NULL,     -- keys.number
    created_at   INTEGER NOT NULL,
    auth_after   INTEGER NOT NULL,     -- auth_time - created_at
    lasts        INTEGER NOT NULL,     -- absolute_end - created_at
    flags        INTEGER NOT NULL,     -- 1 siblings, 2 remember, 4 delivery in bodies, 8 has details
    ended_at     INTEGER,
    ended_why    INTEGER,              -- EndReason
    version      INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX sessions_by_user ON sessions (user_hash);

-- What only some sessions have, apart from the row that every refresh rewrites.
CREATE TABLE details (
    session BLOB PRIMARY KEY,
    device  TEXT,
    address TEXT,
    agent   TEXT,
    claims  TEXT
) WITHOUT ROWID;

-- Users whose sessions were all ended at least once.
CREATE TABLE valid_from (
    user TEXT PRIMARY KEY,
    at   INTEGER NOT NULL
) WITHOUT ROWID;

-- The log of ends, in order.
CREATE TABLE ended (
    seq     INTEGER PRIMARY KEY AUTOINCREMENT,
    session BLOB    NOT NULL,
    at      INTEGER NOT NULL,
    why     INTEGER NOT NULL
);

CREATE TABLE accounts (
    id            TEXT    PRIMARY KEY,
    username      TEXT    NOT NULL UNIQUE,
    password_hash TEXT    NOT NULL,
    disabled      INTEGER NOT NULL,
    created_at    INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE keys (
    number     INTEGER PRIMARY KEY AUTOINCREMENT,
    id         INTEGER NOT NULL UNIQUE,
    purpose    TEXT    NOT NULL,  -- access, refresh
    algorithm  TEXT    NOT NULL,
    secret     BLOB    NOT NULL,  -- empty once retired
    created_at INTEGER NOT NULL,
    signs_from INTEGER NOT NULL,
    retired    INTEGER NOT NULL
);
