-- Ends of all sessions of a user that has too many for one transaction: decided here, in one write with
-- `valid_from`, then carried through in small ones, by whoever began it or by any other node.
CREATE TABLE @endings (
    user_id text COLLATE "C" PRIMARY KEY,
    at      bigint      NOT NULL,
    why     smallint    NOT NULL,
    kept    uuid,                          -- the session that goes on
    actor   text,                          -- null: no event a session
    network text,
    device  text,
    agent   text,
    begun   timestamptz NOT NULL DEFAULT now()
);
