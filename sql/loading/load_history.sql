-- One row is one object (a file or an S3 key) as last loaded into a staging table, written in the same
-- transaction as its rows. Its counts must match the other tables, which proves that no record is lost.
CREATE TABLE load_history (
    object_id INTEGER NOT NULL PRIMARY KEY, -- surrogate key, assigned by the load; a replaced object gets a new one
    table_name VARCHAR(128) NOT NULL, -- staging table that holds the rows
    source_root VARCHAR(1024) NOT NULL, -- folder or prefix that was listed
    uri VARCHAR(2048) NOT NULL, -- URI that was read
    version VARCHAR(256) NOT NULL, -- version that was read: size and modification time of a file, or ETag of an S3 object
    bytes BIGINT NOT NULL, -- size of the object
    records BIGINT NOT NULL, -- records in the object, counted separately from the rows
    rows_loaded BIGINT NOT NULL, -- records that became rows of the staging table
    rows_rejected BIGINT NOT NULL, -- records that became rows of rejected_records
    loaded_at TIMESTAMP NOT NULL, -- when it was loaded, UTC
    run_id VARCHAR(64) NOT NULL -- Dagster run that loaded it
)
-- one row per file, joined by every staging table: a copy on every node
DISTSTYLE ALL
SORTKEY (object_id);
