-- An address that an amphora of the load balancer has for itself: nobody else gets it, and it goes with either of them.
ALTER TABLE vip ADD COLUMN amphora_id TEXT REFERENCES amphora (id) ON DELETE CASCADE;
CREATE UNIQUE INDEX vip_amphora ON vip (amphora_id, load_balancer_id);
