-- Rotations, appended as they happen and folded into `sessions` later: appended ones share a page,
-- where each update in place would write a page of its own. Of a session's row and its rotations the
-- greatest version counts. The last entry always stays, so that `seq` never goes back.
CREATE TABLE rotations (
    seq          INTEGER PRIMARY KEY,
    session      BLOB    NOT NULL,
    confirmed    BLOB    NOT NULL,
    previous     BLOB    NOT NULL,
    generation   INTEGER NOT NULL,
    attempt      INTEGER NOT NULL,
    confirmed_at INTEGER NOT NULL,
    child_after  INTEGER NOT NULL,
    refresh_key  INTEGER NOT NULL,     -- keys.id
    auth_after   INTEGER NOT NULL,
    flags        INTEGER NOT NULL,
    version      INTEGER NOT NULL
);
