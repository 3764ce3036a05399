-- Sessions that foreign tokens became, for as long as those tokens would be good: longer than some rows.
CREATE TABLE adopted (
    session BLOB    PRIMARY KEY,  -- sessions.id
    until   INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX adopted_until ON adopted (until);
