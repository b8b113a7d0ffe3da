-- Tenants with a weight are given several jobs in their turn: how many it was so far.
ALTER TABLE queues ADD COLUMN given INTEGER NOT NULL DEFAULT 0;
