-- Times are milliseconds since 1970-01-01T00:00:00Z. `@` stands for the schema. Texts compare by their
-- bytes, so that every node sorts as the database does.

-- One row a session, written anew in its page by each refresh: no column that changes then is indexed, and
-- a page has room for one row more. None is null: that would cost 8 bytes a row.
CREATE TABLE @sessions (
    id           uuid     PRIMARY KEY,
    confirmed    uuid     NOT NULL,
    previous     uuid     NOT NULL,        -- zero: none; of an ended row 8 bytes of when and 1 of why
    confirmed_at bigint   NOT NULL,        -- 0: never
    child_after  bigint   NOT NULL,        -- child_at - confirmed_at
    refresh_key  bigint   NOT NULL,        -- keys.id
    created_at   bigint   NOT NULL,
    auth_after   bigint   NOT NULL,        -- auth_time - created_at
    lasts        bigint   NOT NULL,        -- absolute_end - created_at
    version      integer  NOT NULL,
    generation   integer  NOT NULL,
    attempt      integer  NOT NULL,
    user_hash    integer  NOT NULL,        -- 32 bits of SHA-256(user_id)
    flags        smallint NOT NULL,        -- 1 siblings, 2 remember, 4 in bodies, 8 has details,
                                           -- 16 privileged, 32 has ended
    user_id      text COLLATE "C" NOT NULL
) WITH (fillfactor = 97);
CREATE INDEX sessions_by_user ON @sessions (user_hash);

-- What refreshes never write.
CREATE TABLE @details (
    session uuid PRIMARY KEY,
    device  text,
    address text,
    agent   text,
    claims  text
);

-- One row a user who ever logged in; it is locked by whoever opens a session or ends all of them.
CREATE TABLE @valid_from (
    user_id text COLLATE "C" PRIMARY KEY,
    at      bigint NOT NULL
);

-- The last place of each log, given in the last statement of a transaction: places become readable in
-- their order. `keys` is locked by whoever changes keys; `restored_at` is a time.
CREATE TABLE @heads (
    name  text COLLATE "C" PRIMARY KEY,
    place bigint NOT NULL
) WITH (fillfactor = 10);
INSERT INTO @heads VALUES ('ended', 0), ('events', 0), ('keys', 0), ('restored_at', 0);

-- The log of ends.
CREATE TABLE @ended (
    place   bigint   PRIMARY KEY,
    session uuid     NOT NULL,
    at      bigint   NOT NULL,
    why     smallint NOT NULL
);

CREATE TABLE @accounts (
    id            text COLLATE "C" PRIMARY KEY,
    username      text COLLATE "C" NOT NULL UNIQUE,
    password_hash text    NOT NULL,
    disabled      boolean NOT NULL,
    privileged    boolean NOT NULL,
    created_at    bigint  NOT NULL
);

-- Passwords that may be set anew, by whoever has the token: one a user, the last that was started.
CREATE TABLE @resets (
    user_id    text COLLATE "C" PRIMARY KEY,
    hash       bytea  NOT NULL UNIQUE,     -- SHA-256 of the token
    expires_at bigint NOT NULL
);

CREATE TABLE @keys (
    id             bigint  PRIMARY KEY,
    number         bigint  NOT NULL UNIQUE,
    purpose        text    NOT NULL,       -- access, refresh
    algorithm      text    NOT NULL,
    secret         bytea   NOT NULL,       -- empty once retired
    created_at     bigint  NOT NULL,
    signs_from     bigint  NOT NULL,
    verifies_until bigint  NOT NULL,
    scopes         text    NOT NULL,
    retired        boolean NOT NULL
);

-- Sessions that foreign tokens became, for as long as those tokens would be good.
CREATE TABLE @adopted (
    session uuid   PRIMARY KEY,
    until   bigint NOT NULL
);
CREATE INDEX adopted_until ON @adopted (until);

-- What failed logins have cost. Keys are keyed hashes.
CREATE TABLE @throttle (
    key           uuid    PRIMARY KEY,
    refilled_at   bigint  NOT NULL,
    counted_until bigint  NOT NULL,
    span          bigint  NOT NULL,
    idle_at       bigint  NOT NULL,
    failures      integer NOT NULL,
    under_way     integer NOT NULL,
    older         integer NOT NULL
);
CREATE INDEX throttle_idle ON @throttle (idle_at);

-- The log of events. What is not known is null, and takes no room.
CREATE TABLE @events (
    place   bigint PRIMARY KEY,
    at      bigint NOT NULL,
    count   bigint NOT NULL,
    name    text   NOT NULL,
    actor   text   NOT NULL,
    user_id text COLLATE "C",
    session uuid,
    reason  text,
    detail  text,
    network text,
    device  text,
    agent   text
);
CREATE INDEX events_by_user ON @events (user_id) WHERE user_id IS NOT NULL;
CREATE INDEX events_by_session ON @events (session) WHERE session IS NOT NULL;
CREATE INDEX events_by_time ON @events (at);

-- What webhooks have still to send. `address` is a hash of its URL.
CREATE TABLE @outbox (
    address text COLLATE "C" PRIMARY KEY,
    place   bigint NOT NULL                -- how far `events` was looked through
);
CREATE TABLE @deliveries (
    address  text COLLATE "C" NOT NULL,
    place    bigint  NOT NULL,             -- events.place
    attempts integer NOT NULL,
    due      bigint  NOT NULL,
    PRIMARY KEY (address, place)
);
CREATE INDEX deliveries_by_due ON @deliveries (address, due);

-- What is said once of the whole store: `left`, and for what.
CREATE TABLE @marks (
    name  text PRIMARY KEY,
    value text NOT NULL
);

-- Which node does what only one has to do.
CREATE TABLE @leases (
    name   text PRIMARY KEY,
    holder uuid        NOT NULL,
    until  timestamptz NOT NULL
);
INSERT INTO @leases VALUES ('purge', '00000000-0000-0000-0000-000000000000', '2000-01-01 00:00:00Z');
