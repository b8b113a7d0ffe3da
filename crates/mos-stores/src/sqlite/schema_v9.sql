-- Keys that programs and users prove themselves with: the SHA-256 of each, never its text. Moments are microseconds since 1970.
-- `user_id` is null for a program's; `scopes` are words with spaces between them; `cubes` is JSON, a list of ids, or null.
CREATE TABLE api_keys (
    row_key INTEGER PRIMARY KEY AUTOINCREMENT,
    key_id TEXT NOT NULL UNIQUE,
    hash TEXT NOT NULL UNIQUE,
    prefix TEXT NOT NULL,
    user_id TEXT,
    scopes TEXT NOT NULL,
    cubes TEXT,
    description TEXT,
    created_us INTEGER NOT NULL,
    last_used_us INTEGER,
    expires_us INTEGER,
    is_active INTEGER NOT NULL
) STRICT;
CREATE INDEX api_keys_by_user ON api_keys (user_id);
