-- One row is one staging table: from what it was loaded, and what became of the records.
CREATE TABLE load_summary (
    table_name VARCHAR(128) NOT NULL PRIMARY KEY, -- staging table
    source_root VARCHAR(1024) NOT NULL, -- folder or prefix that it was loaded from
    objects BIGINT NOT NULL, -- files or S3 keys
    records BIGINT NOT NULL, -- records in them
    rows_loaded BIGINT NOT NULL, -- records that are rows of the table
    rows_rejected BIGINT NOT NULL, -- records that are rows of rejected_records
    last_loaded_at TIMESTAMP NOT NULL -- when something was last loaded, UTC
)
-- a row for each staging table
DISTSTYLE ALL
SORTKEY (table_name);

INSERT INTO load_summary (
    table_name, source_root, objects, records, rows_loaded, rows_rejected, last_loaded_at
)
SELECT
    h.table_name,
    MIN(h.source_root) AS source_root,
    COUNT(*) AS objects,
    SUM(h.records) AS records,
    SUM(h.rows_loaded) AS rows_loaded,
    SUM(h.rows_rejected) AS rows_rejected,
    MAX(h.loaded_at) AS last_loaded_at
FROM load_history AS h
GROUP BY h.table_name;
