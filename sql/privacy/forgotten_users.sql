-- One row is one user whose records were deleted, and are left out of every later load.
-- may be empty
CREATE TABLE forgotten_users (
    user_id BIGINT NOT NULL PRIMARY KEY, -- user; nothing else is kept of them
    forgotten_at TIMESTAMP NOT NULL, -- when this was asked for, UTC
    run_id VARCHAR(64) NOT NULL -- Dagster run that deleted the records
)
-- hardly a row
DISTSTYLE ALL
SORTKEY (user_id);
