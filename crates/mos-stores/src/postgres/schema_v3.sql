-- Version 3. Released: never change this file, add a migration instead.

-- Keys that programs and users prove themselves with: the SHA-256 of each, never its text. Moments are microseconds since 1970.
-- `user_id` is null for a program's; `scopes` are words with spaces between them; `cubes` is JSON, a list of ids, or null.
CREATE TABLE mos_api_keys (
    row_key BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key_id VARCHAR NOT NULL UNIQUE,
    hash VARCHAR NOT NULL UNIQUE,
    prefix VARCHAR NOT NULL,
    user_id VARCHAR,
    scopes VARCHAR NOT NULL,
    cubes TEXT,
    description TEXT,
    created_us BIGINT NOT NULL,
    last_used_us BIGINT,
    expires_us BIGINT,
    is_active BOOLEAN NOT NULL
);
CREATE INDEX mos_api_keys_by_user ON mos_api_keys (user_id);
