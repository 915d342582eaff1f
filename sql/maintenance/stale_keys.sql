-- One row is one key of a table whose rows must be rebuilt, because upstream rows have changed.
-- may be empty
CREATE TABLE stale_keys (
    table_name VARCHAR(128) NOT NULL, -- table
    stale_key VARCHAR(2048) -- value of the table's "maintained by" key, as text; null means every row
)
-- written by one table and read by the next
DISTSTYLE EVEN
SORTKEY (table_name);
