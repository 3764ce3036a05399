-- Access keys verify until somebody stops moving this on; own keys, for those who joined with them.
ALTER TABLE keys ADD COLUMN verifies_until INTEGER NOT NULL DEFAULT 9223372036854775807;
ALTER TABLE keys ADD COLUMN scopes TEXT NOT NULL DEFAULT '';
-- No token lives longer than a day. Another day for processes that still run the version before, which
-- move nothing on.
UPDATE keys SET verifies_until = CAST(unixepoch('now') AS INTEGER) * 1000 + 2 * 24 * 3600 * 1000
    WHERE purpose = 'access';
