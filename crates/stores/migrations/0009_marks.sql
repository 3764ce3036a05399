-- What is said once of the whole store: `restored_at`, from when on sessions count.
CREATE TABLE marks (
    name  TEXT PRIMARY KEY,
    value ANY  NOT NULL
) WITHOUT ROWID, STRICT;
