-- Hosts that amphorae run on, other than those of controllers. One that was removed stays, so that it is told so.
CREATE TABLE host (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    zone TEXT NOT NULL,
    agent TEXT NOT NULL,
    facts TEXT NOT NULL,
    state TEXT NOT NULL,
    key_digest TEXT NOT NULL,
    load_balancers_max BIGINT,
    amphorae_max BIGINT,
    enrolled_us BIGINT NOT NULL,
    last_seen_us BIGINT
);

-- What lets one host in, by its hash: nobody can use what stands here.
CREATE TABLE host_token (
    hash TEXT NOT NULL PRIMARY KEY,
    zone TEXT NOT NULL,
    load_balancers_max BIGINT,
    amphorae_max BIGINT,
    created_us BIGINT NOT NULL,
    expires_us BIGINT NOT NULL,
    host_id TEXT
);
