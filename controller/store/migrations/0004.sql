-- Amphorae come and go: where each is, for whom it is, and whether it is to go.
ALTER TABLE amphora ADD COLUMN zone TEXT NOT NULL DEFAULT 'local';
ALTER TABLE amphora ADD COLUMN tenancy TEXT NOT NULL DEFAULT 'shared';
ALTER TABLE amphora ADD COLUMN retiring BIGINT NOT NULL DEFAULT 0;
ALTER TABLE amphora ADD COLUMN updated_us BIGINT;

-- With how many others at most a load balancer wants to be, so that whoever comes later keeps to it.
ALTER TABLE placement ADD COLUMN load_balancers_max BIGINT;

-- Amphorae that a load balancer was moved away from, until they have let go of it.
CREATE TABLE departure (
    load_balancer_id TEXT NOT NULL REFERENCES resource (id) ON DELETE CASCADE,
    amphora_id TEXT NOT NULL REFERENCES amphora (id) ON DELETE CASCADE,
    PRIMARY KEY (load_balancer_id, amphora_id)
);
CREATE INDEX departure_amphora ON departure (amphora_id);
