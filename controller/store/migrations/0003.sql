-- What projects may have; a column that is null is as configured. A row stays when it was reset.
CREATE TABLE quota (
    project_id TEXT NOT NULL PRIMARY KEY,
    load_balancer BIGINT,
    listener BIGINT,
    pool BIGINT,
    member BIGINT,
    health_monitor BIGINT,
    l7_policy BIGINT,
    l7_rule BIGINT
);

-- Quotas count rows: no counter beside them can go wrong.
CREATE INDEX resource_counted ON resource (project_id, kind);
