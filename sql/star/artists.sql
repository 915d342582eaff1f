-- One row is one artist of the catalogue. If song records disagree, all columns come from one record: preferably one
-- with coordinates, then one with a location, then the first in alphabetical order.
CREATE TABLE artists (
    artist_id VARCHAR(64) NOT NULL PRIMARY KEY, -- artist, natural key
    name VARCHAR(1024), -- name
    location VARCHAR(2048), -- where the artist is from, free text; null when unknown
    latitude DOUBLE PRECISION, -- degrees north
    longitude DOUBLE PRECISION -- degrees east
)
-- a small dimension, joined by artist: a copy on every node, sorted by key
DISTSTYLE ALL
SORTKEY (artist_id);

INSERT INTO artists (artist_id, name, location, latitude, longitude)
SELECT
    chosen.artist_id,
    COALESCE(name.repaired_text, TRIM(BOTH ' ' FROM chosen.artist_name)) AS name,
    NULLIF(COALESCE(location.repaired_text, TRIM(BOTH ' ' FROM chosen.artist_location)), '') AS location,
    chosen.artist_latitude AS latitude,
    chosen.artist_longitude AS longitude
FROM (
    SELECT
        s.artist_id,
        s.artist_name,
        s.artist_location,
        s.artist_latitude,
        s.artist_longitude,
        ROW_NUMBER() OVER (
            PARTITION BY s.artist_id
            ORDER BY
                CASE WHEN s.artist_latitude IS NULL THEN 1 ELSE 0 END,
                CASE WHEN TRIM(BOTH ' ' FROM COALESCE(s.artist_location, '')) = '' THEN 1 ELSE 0 END,
                s.artist_name, s.artist_location, s.artist_latitude, s.artist_longitude
        ) AS preference
    FROM staging_songs AS s
) AS chosen
LEFT JOIN repaired_text AS name ON TRIM(BOTH ' ' FROM chosen.artist_name) = name.raw_text
LEFT JOIN repaired_text AS location ON TRIM(BOTH ' ' FROM chosen.artist_location) = location.raw_text
WHERE chosen.preference = 1;
