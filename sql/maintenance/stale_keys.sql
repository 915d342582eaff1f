-- One row is one key of a table whose rows must be made again, because the rows that they are made from have changed.
-- may be empty
CREATE TABLE stale_keys (
    table_name VARCHAR(128) NOT NULL, -- table
    stale_key VARCHAR(2048) -- value of the key that the table is maintained by, as text; null stands for every row
)
-- written by one table and read by the next
DISTSTYLE EVEN
SORTKEY (table_name);
