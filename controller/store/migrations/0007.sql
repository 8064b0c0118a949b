-- Who changed what, and what was refused to whom. The mark begins with the time and sorts by it.
CREATE TABLE audit (
    mark TEXT NOT NULL PRIMARY KEY,
    at_us BIGINT NOT NULL,
    request_id TEXT NOT NULL,
    global_request_id TEXT,
    user_id TEXT NOT NULL,
    caller_project_id TEXT,
    roles TEXT NOT NULL,
    deed TEXT NOT NULL,
    kind TEXT NOT NULL,
    resource_id TEXT,
    load_balancer_id TEXT,
    project_id TEXT,
    status BIGINT,
    sentence TEXT
);
CREATE INDEX audit_load_balancer ON audit (load_balancer_id, mark);
CREATE INDEX audit_resource ON audit (resource_id, mark);
CREATE INDEX audit_project ON audit (project_id, mark);

-- What was created under a name that a client chose so that it is created once.
CREATE TABLE once (
    project_id TEXT NOT NULL,
    scope TEXT NOT NULL,
    name TEXT NOT NULL,
    digest TEXT NOT NULL,
    kind TEXT NOT NULL,
    resource_id TEXT NOT NULL,
    created_us BIGINT NOT NULL,
    PRIMARY KEY (project_id, scope, name)
);
CREATE INDEX once_age ON once (created_us);
CREATE INDEX once_project_age ON once (project_id, created_us);
