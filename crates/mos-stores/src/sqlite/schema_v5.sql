-- The edges that a removal took away, in the version that tells of the removal: JSON, a list of [source, target, type].
ALTER TABLE versions ADD COLUMN edges TEXT;
-- Whether a scope may have edges: 1 from its first edge on, until it is emptied.
ALTER TABLE scopes ADD COLUMN may_have_edges INTEGER NOT NULL DEFAULT 0;
UPDATE scopes SET may_have_edges = 1 WHERE scope_key IN (SELECT scope FROM nodes JOIN edges ON source = node_key);
