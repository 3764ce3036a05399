-- `sessions.flags` says 16 of privileged sessions from here on.

-- Whether the account's sessions are privileged.
ALTER TABLE accounts ADD COLUMN privileged INTEGER NOT NULL DEFAULT 0;

-- Passwords that may be set anew, by whoever has the token: one a user, the last that was started.
CREATE TABLE resets (
    hash       BLOB    PRIMARY KEY,  -- SHA-256 of the token
    user       TEXT    NOT NULL UNIQUE,
    expires_at INTEGER NOT NULL
) WITHOUT ROWID;
