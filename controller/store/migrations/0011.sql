-- Where a load balancer is beside its first place: of two amphorae that take turns the second one.
CREATE TABLE companion (
    load_balancer_id TEXT NOT NULL PRIMARY KEY REFERENCES resource (id) ON DELETE CASCADE,
    amphora_id TEXT NOT NULL REFERENCES amphora (id) ON DELETE CASCADE,
    load_balancers_max BIGINT
);
CREATE INDEX companion_amphora ON companion (amphora_id);
