-- One row is one key of a table whose rows are to be made again: what they are made from has changed since.
-- may be empty
CREATE TABLE stale_keys (
    table_name VARCHAR(128) NOT NULL, -- table
    stale_key VARCHAR(2048) -- value of the column that its file maintains it by, as text; null stands for every row
)
-- written by one table and read by the next
DISTSTYLE EVEN
SORTKEY (table_name);
