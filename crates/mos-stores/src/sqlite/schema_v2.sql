-- A cube that was deleted takes no late writes: its scope is closed until a cube of the same id is made.
ALTER TABLE scopes ADD COLUMN is_closed INTEGER NOT NULL DEFAULT 0;
