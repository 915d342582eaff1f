-- One row is one staging table: its source, and its loaded, rejected and repeated records.
CREATE TABLE load_summary (
    table_name VARCHAR(128) NOT NULL PRIMARY KEY, -- staging table
    source_root VARCHAR(1024) NOT NULL, -- folder or prefix that it was loaded from
    objects BIGINT NOT NULL, -- files or S3 keys
    records BIGINT NOT NULL, -- records in them
    rows_loaded BIGINT NOT NULL, -- records that are rows of the table
    rows_rejected BIGINT NOT NULL, -- records that are rows of rejected_records
    rows_repeated BIGINT, -- loaded rows that repeat another one, value for value; null for tables where they are not counted
    last_loaded_at TIMESTAMP NOT NULL -- when something was last loaded, UTC
)
-- one row per staging table
DISTSTYLE ALL
SORTKEY (table_name);

INSERT INTO load_summary (
    table_name, source_root, objects, records, rows_loaded, rows_rejected, rows_repeated, last_loaded_at
)
SELECT
    loaded.table_name,
    loaded.source_root,
    loaded.objects,
    loaded.records,
    loaded.rows_loaded,
    loaded.rows_rejected,
    counted.rows_repeated,
    loaded.last_loaded_at
FROM (
    SELECT
        h.table_name,
        MIN(h.source_root) AS source_root,
        COUNT(*) AS objects,
        SUM(h.records) AS records,
        SUM(h.rows_loaded) AS rows_loaded,
        SUM(h.rows_rejected) AS rows_rejected,
        MAX(h.loaded_at) AS last_loaded_at
    FROM load_history AS h
    GROUP BY h.table_name
) AS loaded
LEFT JOIN (
    SELECT 'staging_events' AS table_name, COALESCE(SUM(e.deliveries - e.versions), 0) AS rows_repeated
    FROM events AS e
    UNION ALL
    SELECT 'staging_songs' AS table_name, COALESCE(SUM(record.copies - 1), 0) AS rows_repeated
    FROM (
        SELECT COUNT(*) AS copies
        FROM staging_songs AS s
        GROUP BY
            s.num_songs, s.artist_id, s.artist_latitude, s.artist_longitude, s.artist_location, s.artist_name,
            s.song_id, s.title, s.duration, s.year
    ) AS record
) AS counted ON loaded.table_name = counted.table_name;
