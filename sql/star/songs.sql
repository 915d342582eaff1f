-- One row is one song of the catalogue. If a song_id has several records, all columns come from one of them.
CREATE TABLE songs (
    song_id VARCHAR(64) NOT NULL PRIMARY KEY, -- song, natural key
    title VARCHAR(1024), -- title
    artist_id VARCHAR(64) NOT NULL REFERENCES artists (artist_id), -- artist of the song
    year INTEGER, -- year of release; null when unknown
    duration DOUBLE PRECISION -- seconds
)
-- a small dimension, joined by song: a copy on every node, sorted by key
DISTSTYLE ALL
SORTKEY (song_id);

INSERT INTO songs (song_id, title, artist_id, year, duration)
SELECT
    chosen.song_id,
    COALESCE(title.repaired_text, TRIM(BOTH ' ' FROM chosen.title)) AS title,
    chosen.artist_id,
    NULLIF(chosen.year, 0) AS year,
    chosen.duration
FROM (
    SELECT
        s.song_id,
        s.title,
        s.artist_id,
        s.year,
        s.duration,
        ROW_NUMBER() OVER (
            PARTITION BY s.song_id ORDER BY s.artist_id, s.title, s.duration, s.year DESC
        ) AS preference
    FROM staging_songs AS s
) AS chosen
LEFT JOIN repaired_text AS title ON TRIM(BOTH ' ' FROM chosen.title) = title.raw_text
WHERE chosen.preference = 1;
