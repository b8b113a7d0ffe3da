-- Version 1. Released: never change this file, add a migration instead.

-- One row: the number of the last change in the feed. It never goes back.
CREATE TABLE store (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    sequence INTEGER NOT NULL
) STRICT;
INSERT INTO store (only_row, sequence) VALUES (1, 0);

CREATE TABLE users (
    row_key INTEGER PRIMARY KEY AUTOINCREMENT,
    user_id TEXT NOT NULL UNIQUE,
    user_name TEXT NOT NULL UNIQUE,
    role TEXT NOT NULL,
    created_at TEXT NOT NULL,
    is_active INTEGER NOT NULL
) STRICT;

CREATE TABLE cubes (
    row_key INTEGER PRIMARY KEY AUTOINCREMENT,
    cube_id TEXT NOT NULL UNIQUE,
    cube_name TEXT NOT NULL,
    cube_path TEXT,
    owner INTEGER NOT NULL REFERENCES users (row_key),
    created_at TEXT NOT NULL,
    is_registered INTEGER NOT NULL,
    config TEXT NOT NULL
) STRICT;
CREATE INDEX cubes_by_owner ON cubes (owner);

CREATE TABLE shares (
    cube INTEGER NOT NULL REFERENCES cubes (row_key) ON DELETE CASCADE,
    user INTEGER NOT NULL REFERENCES users (row_key),
    PRIMARY KEY (cube, user)
) STRICT, WITHOUT ROWID;
CREATE INDEX shares_by_user ON shares (user);

-- Embedding models that were ever used.
CREATE TABLE spaces (
    space_key INTEGER PRIMARY KEY,
    model TEXT NOT NULL,
    dimension INTEGER NOT NULL CHECK (dimension > 0),
    UNIQUE (model, dimension)
) STRICT;

-- Whatever memories are kept for: the internal key of a cube id, its embedding space and its term statistics.
-- Keys are never used twice, because terms in the full-text index begin with them.
CREATE TABLE scopes (
    scope_key INTEGER PRIMARY KEY AUTOINCREMENT,
    cube_id TEXT NOT NULL UNIQUE,
    space INTEGER REFERENCES spaces (space_key),
    n_documents INTEGER NOT NULL DEFAULT 0,
    n_terms INTEGER NOT NULL DEFAULT 0
) STRICT;

-- The present state of each memory. `node_key` gives the order of the first write and names the document in `terms`.
CREATE TABLE nodes (
    node_key INTEGER PRIMARY KEY AUTOINCREMENT,
    scope INTEGER NOT NULL REFERENCES scopes (scope_key),
    id TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    number INTEGER NOT NULL,
    n_terms INTEGER NOT NULL,
    actor TEXT NOT NULL,
    reason TEXT NOT NULL,
    message_id TEXT,
    changed_at TEXT NOT NULL,
    memory TEXT NOT NULL,
    metadata TEXT NOT NULL,
    UNIQUE (scope, id)
) STRICT;
CREATE INDEX nodes_by_sequence ON nodes (scope, sequence);
CREATE INDEX nodes_in_order ON nodes (scope, node_key, n_terms);

-- What was removed, for whoever follows the feed.
CREATE TABLE tombstones (
    scope INTEGER NOT NULL REFERENCES scopes (scope_key),
    id TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    PRIMARY KEY (scope, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX tombstones_by_sequence ON tombstones (scope, sequence);

-- Earlier states; `memory` and `metadata` are null where the change was a removal.
CREATE TABLE versions (
    scope INTEGER NOT NULL REFERENCES scopes (scope_key),
    id TEXT NOT NULL,
    number INTEGER NOT NULL,
    actor TEXT NOT NULL,
    reason TEXT NOT NULL,
    message_id TEXT,
    changed_at TEXT NOT NULL,
    memory TEXT,
    metadata TEXT,
    PRIMARY KEY (scope, id, number)
) STRICT;

CREATE TABLE edges (
    source INTEGER NOT NULL REFERENCES nodes (node_key) ON DELETE CASCADE,
    target INTEGER NOT NULL REFERENCES nodes (node_key) ON DELETE CASCADE,
    kind TEXT NOT NULL,
    PRIMARY KEY (source, target, kind)
) STRICT, WITHOUT ROWID;
CREATE INDEX edges_by_target ON edges (target);

-- Little-endian f32, unit length. Those in another space than the scope's are written aside.
CREATE TABLE embeddings (
    node INTEGER NOT NULL REFERENCES nodes (node_key) ON DELETE CASCADE,
    space INTEGER NOT NULL REFERENCES spaces (space_key),
    vector BLOB NOT NULL,
    PRIMARY KEY (node, space)
) STRICT;
CREATE INDEX embeddings_by_space ON embeddings (space);

CREATE TABLE idempotency (
    row_key INTEGER PRIMARY KEY AUTOINCREMENT,
    scope INTEGER NOT NULL REFERENCES scopes (scope_key),
    key TEXT NOT NULL,
    receipt TEXT NOT NULL,
    at_s INTEGER NOT NULL,
    UNIQUE (scope, key)
) STRICT;
CREATE INDEX idempotency_by_time ON idempotency (at_s);

-- Terms come analysed, each as `<scope_key>_<term>` with everything but ASCII letters, digits and non-ASCII
-- characters escaped, so that the tokenizer finds exactly the terms that were written.
CREATE VIRTUAL TABLE terms USING fts5 (
    tokens, content = '', contentless_delete = 1, tokenize = "ascii tokenchars '_'"
);
CREATE VIRTUAL TABLE term_instances USING fts5vocab (terms, instance);
