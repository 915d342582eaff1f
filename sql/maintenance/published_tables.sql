-- One row is one table as last published, written in the same transaction as its rows.
CREATE TABLE published_tables (
    table_name VARCHAR(128) NOT NULL PRIMARY KEY, -- table
    file_version VARCHAR(64) NOT NULL, -- fingerprint of its file, its checks and the code that fills it; empty if its file is gone or it must be rebuilt
    row_count BIGINT NOT NULL, -- number of rows
    published_at TIMESTAMP NOT NULL, -- when its rows last changed, UTC
    audited_at TIMESTAMP NOT NULL, -- when every row was last audited, UTC
    details VARCHAR(65535) NOT NULL -- its first rows, and the results of its checks, as JSON
)
-- one row per table
DISTSTYLE ALL
SORTKEY (table_name);
