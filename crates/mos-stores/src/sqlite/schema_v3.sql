-- Jobs: waiting, claimed and dead ones. Times are milliseconds since 1970.

-- One row: numbers that are never used twice.
CREATE TABLE queue (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    last_claim INTEGER NOT NULL,
    last_turn INTEGER NOT NULL
) STRICT;
INSERT INTO queue (only_row, last_claim, last_turn) VALUES (1, 0, 0);

-- Tenants that ever had jobs. `turn` is set exactly while a job of the tenant is ready: its place in the line.
CREATE TABLE queues (
    scope INTEGER PRIMARY KEY REFERENCES scopes (scope_key),
    n_jobs INTEGER NOT NULL,
    n_dead INTEGER NOT NULL,
    turn INTEGER
) STRICT;
CREATE INDEX queues_in_line ON queues (turn) WHERE turn IS NOT NULL;

-- `job_key` is the order in which jobs were pushed.
-- `stage`: 0 blocked (behind another job of its group), 1 delayed, 2 ready, 3 claimed, 4 dead.
-- `due_ms`: when it may be claimed (0 to 2), when the lease is over (3), when it died (4).
-- `error`: of the attempt before. `reason`: why it is dead.
CREATE TABLE jobs (
    job_key INTEGER PRIMARY KEY AUTOINCREMENT,
    scope INTEGER NOT NULL REFERENCES scopes (scope_key),
    id TEXT NOT NULL,
    kind TEXT NOT NULL,
    in_group TEXT,
    priority INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    max_attempts INTEGER NOT NULL,
    pushed_ms INTEGER NOT NULL,
    stage INTEGER NOT NULL,
    due_ms INTEGER NOT NULL,
    claim INTEGER,
    consumer TEXT,
    error TEXT,
    reason TEXT,
    payload TEXT NOT NULL,
    UNIQUE (scope, id)
) STRICT;
-- The best ready job of a tenant, and its statistics.
CREATE INDEX jobs_by_stage ON jobs (scope, stage, priority DESC, job_key, pushed_ms);
CREATE INDEX jobs_in_group ON jobs (scope, in_group, job_key) WHERE in_group IS NOT NULL AND stage < 4;
-- What happens by itself: a delayed job becomes ready, a lease is over.
CREATE INDEX jobs_due ON jobs (due_ms) WHERE stage IN (1, 3);
CREATE INDEX jobs_dead ON jobs (scope, due_ms, job_key) WHERE stage = 4;

-- Finished jobs whose ids are still remembered.
CREATE TABLE finished_jobs (
    row_key INTEGER PRIMARY KEY AUTOINCREMENT,
    scope INTEGER NOT NULL REFERENCES scopes (scope_key),
    id TEXT NOT NULL,
    claim INTEGER NOT NULL,
    at_ms INTEGER NOT NULL,
    UNIQUE (scope, id)
) STRICT;
CREATE INDEX finished_jobs_by_age ON finished_jobs (scope, row_key);
CREATE INDEX finished_jobs_by_time ON finished_jobs (at_ms);
