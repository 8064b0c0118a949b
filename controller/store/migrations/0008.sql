-- Several controllers share a database: who attends to what, for how long at most.
CREATE TABLE lease (
    name TEXT NOT NULL PRIMARY KEY,
    holder TEXT NOT NULL,
    until_us BIGINT NOT NULL
);

-- Secrets of the deployment, sealed with a key that is not in here.
CREATE TABLE sealed (
    name TEXT NOT NULL PRIMARY KEY,
    document TEXT NOT NULL
);

-- Whose it is to start and end an amphora: the controller of this host alone. Where there was one controller it is its.
ALTER TABLE amphora ADD COLUMN host TEXT NOT NULL DEFAULT '';

-- How fresh what is known of how things work is: whoever knows less overwrites nothing.
ALTER TABLE observed ADD COLUMN as_of_us BIGINT;

-- Grows with what was counted: whoever counted less overwrites nothing.
ALTER TABLE tally ADD COLUMN weight BIGINT NOT NULL DEFAULT 0;
