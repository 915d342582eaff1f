-- One row is one user whose records were deleted, and are left out of every later load.
-- may be empty
CREATE TABLE forgotten_users (
    user_id BIGINT NOT NULL PRIMARY KEY, -- user; nothing else about them is kept
    forgotten_at TIMESTAMP NOT NULL, -- when this was requested, UTC
    run_id VARCHAR(64) NOT NULL -- Dagster run that deleted the records
)
-- very few rows
DISTSTYLE ALL
SORTKEY (user_id);
