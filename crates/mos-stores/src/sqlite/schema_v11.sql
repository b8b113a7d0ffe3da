-- Memories that are kept apart, and no others: found without reading every archived one. `listing.rs` asks in the same words.
CREATE INDEX nodes_kept_apart ON nodes (scope, node_key)
WHERE (CASE WHEN json_valid(metadata) THEN json_type(metadata, '$.quarantine') END) = 'text';
