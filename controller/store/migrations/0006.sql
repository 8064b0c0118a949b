-- What load balancers can be made of. The version tells whether somebody else changed the catalogue meanwhile.
CREATE TABLE catalogue (
    version BIGINT NOT NULL PRIMARY KEY
);
INSERT INTO catalogue (version) VALUES (0);

-- Flavor profiles and availability zone profiles.
CREATE TABLE profile (
    id TEXT NOT NULL PRIMARY KEY,
    family TEXT NOT NULL,
    name TEXT NOT NULL,
    provider TEXT NOT NULL,
    data TEXT NOT NULL,
    terms TEXT NOT NULL,
    created_us BIGINT NOT NULL,
    UNIQUE (id, family)
);

-- Flavors and availability zones. The keys are what makes two of a family unable to have one name, and what keeps the
-- profile of one from going.
CREATE TABLE offer (
    id TEXT NOT NULL PRIMARY KEY,
    family TEXT NOT NULL,
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    enabled BIGINT NOT NULL,
    profile_id TEXT NOT NULL,
    created_us BIGINT NOT NULL,
    UNIQUE (family, name),
    FOREIGN KEY (profile_id, family) REFERENCES profile (id, family)
);
CREATE INDEX offer_profile ON offer (profile_id);

-- What load balancers are made of. While one is, its flavor and its zone cannot go.
CREATE TABLE chosen (
    load_balancer_id TEXT NOT NULL REFERENCES resource (id) ON DELETE CASCADE,
    offer_id TEXT NOT NULL REFERENCES offer (id),
    PRIMARY KEY (load_balancer_id, offer_id)
);
CREATE INDEX chosen_offer ON chosen (offer_id);
