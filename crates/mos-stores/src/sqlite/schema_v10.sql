-- Lists: what is newest, and how many there are of each kind, without reading memories. `listing.rs` asks in the same words.
-- Fields are JSON texts of what conditions see: the memory's own field, else that of `info`, null where it is absent.
CREATE INDEX nodes_by_time ON nodes (
    scope,
    (CASE WHEN json_valid(metadata) AND json_type(metadata, '$.created_at') = 'text'
          THEN metadata ->> '$.created_at' END),
    id,
    (CASE WHEN json_valid(metadata) THEN coalesce(nullif(metadata -> '$.memory_type', 'null'),
                                                  nullif(metadata -> '$.info.memory_type', 'null')) END),
    (CASE WHEN json_valid(metadata) THEN coalesce(nullif(metadata -> '$.status', 'null'),
                                                  nullif(metadata -> '$.info.status', 'null')) END),
    (CASE WHEN json_valid(metadata) THEN coalesce(nullif(metadata -> '$.user_id', 'null'),
                                                  nullif(metadata -> '$.info.user_id', 'null')) END)
);
CREATE INDEX nodes_by_type ON nodes (
    scope,
    (CASE WHEN json_valid(metadata) THEN coalesce(nullif(metadata -> '$.memory_type', 'null'),
                                                  nullif(metadata -> '$.info.memory_type', 'null')) END),
    (CASE WHEN json_valid(metadata) THEN coalesce(nullif(metadata -> '$.status', 'null'),
                                                  nullif(metadata -> '$.info.status', 'null')) END),
    (CASE WHEN json_valid(metadata) THEN coalesce(nullif(metadata -> '$.user_id', 'null'),
                                                  nullif(metadata -> '$.info.user_id', 'null')) END)
);
