-- Documents and logs of parts that work in the background, in the scope of a cube.

-- A removed document leaves its row without `value`, so that its versions count on.
CREATE TABLE state_documents (
    row_key INTEGER PRIMARY KEY,
    scope INTEGER NOT NULL REFERENCES scopes (scope_key),
    key TEXT NOT NULL,
    version INTEGER NOT NULL,
    value TEXT,
    UNIQUE (scope, key)
) STRICT;

-- `last`: number of the last entry that there ever was.
CREATE TABLE state_logs (
    log_key INTEGER PRIMARY KEY,
    scope INTEGER NOT NULL REFERENCES scopes (scope_key),
    name TEXT NOT NULL,
    last INTEGER NOT NULL,
    UNIQUE (scope, name)
) STRICT;

CREATE TABLE state_entries (
    row_key INTEGER PRIMARY KEY,
    log INTEGER NOT NULL REFERENCES state_logs (log_key) ON DELETE CASCADE,
    sequence INTEGER NOT NULL,
    value TEXT NOT NULL,
    UNIQUE (log, sequence)
) STRICT;

-- Whether a consumer has a job of a group: nothing else of the group is given out until it has none.
CREATE INDEX jobs_claimed_in_group ON jobs (scope, in_group) WHERE stage = 3 AND in_group IS NOT NULL;
