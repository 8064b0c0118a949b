-- Which load balancer has which port of the network. The key is what makes two of them unable to adopt the same.
CREATE TABLE vip_port (
    port_id TEXT NOT NULL PRIMARY KEY,
    load_balancer_id TEXT NOT NULL REFERENCES resource (id) ON DELETE CASCADE
);
CREATE INDEX vip_port_load_balancer ON vip_port (load_balancer_id);
