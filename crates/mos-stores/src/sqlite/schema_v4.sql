-- Cubes may be made and deleted in another store: the number of the cube that a scope was opened for last.
ALTER TABLE scopes ADD COLUMN generation INTEGER NOT NULL DEFAULT 0;
