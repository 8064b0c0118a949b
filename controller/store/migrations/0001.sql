-- What tenants asked for. A load balancer and its children are rows of one table, so that a whole tree is one query;
-- load_balancer_id of a load balancer is its own id. seq orders the rows of a tree by creation, the load balancer first.
CREATE TABLE resource (
    id TEXT NOT NULL PRIMARY KEY,
    kind TEXT NOT NULL,
    load_balancer_id TEXT NOT NULL REFERENCES resource (id) ON DELETE CASCADE,
    project_id TEXT NOT NULL,
    name TEXT NOT NULL,
    seq BIGINT NOT NULL,
    generation BIGINT NOT NULL,
    touch TEXT NOT NULL,
    created_us BIGINT NOT NULL,
    updated_us BIGINT,
    document TEXT NOT NULL
);
CREATE INDEX resource_tree ON resource (load_balancer_id, seq);
CREATE INDEX resource_root_project ON resource (project_id) WHERE kind = 'load_balancer';
CREATE INDEX resource_root_name ON resource (name) WHERE kind = 'load_balancer';
CREATE INDEX resource_root ON resource (id, generation) WHERE kind = 'load_balancer';

-- Which load balancer has which address. The key is what makes two of them unable to have the same.
CREATE TABLE vip (
    network_id TEXT NOT NULL,
    address TEXT NOT NULL,
    load_balancer_id TEXT NOT NULL REFERENCES resource (id) ON DELETE CASCADE,
    PRIMARY KEY (network_id, address)
);
CREATE INDEX vip_load_balancer ON vip (load_balancer_id);

-- What is known of a load balancer: how far the data plane followed, why not further, and how things work.
CREATE TABLE observed (
    load_balancer_id TEXT NOT NULL PRIMARY KEY REFERENCES resource (id) ON DELETE CASCADE,
    settled BIGINT,
    errors TEXT,
    operating TEXT,
    due_us BIGINT,
    attempts BIGINT NOT NULL
);

-- The fleet.
CREATE TABLE amphora (
    id TEXT NOT NULL PRIMARY KEY,
    created_us BIGINT NOT NULL,
    agent TEXT,
    metrics TEXT,
    boot TEXT,
    version TEXT,
    pid BIGINT,
    last_seen_us BIGINT
);

CREATE TABLE placement (
    load_balancer_id TEXT NOT NULL PRIMARY KEY REFERENCES resource (id) ON DELETE CASCADE,
    amphora_id TEXT NOT NULL REFERENCES amphora (id) ON DELETE CASCADE
);
CREATE INDEX placement_amphora ON placement (amphora_id);

-- What listeners did. A tally outlives the amphora that counted it: totals never fall.
CREATE TABLE tally (
    listener_id TEXT NOT NULL REFERENCES resource (id) ON DELETE CASCADE,
    amphora_id TEXT NOT NULL,
    document TEXT NOT NULL,
    PRIMARY KEY (listener_id, amphora_id)
);
CREATE INDEX tally_amphora ON tally (amphora_id);
