-- One row is one distinct song record of the catalogue, with repaired text. Plays are matched against this table.
CREATE TABLE catalogue (
    song_id VARCHAR(64) NOT NULL, -- song
    artist_id VARCHAR(64) NOT NULL, -- artist of the song
    title VARCHAR(1024), -- title, repaired
    artist_name VARCHAR(1024), -- name of the artist in this record, repaired
    duration DOUBLE PRECISION -- seconds
)
-- small, and joined with plays by title: a copy on every node
DISTSTYLE ALL
SORTKEY (title);

INSERT INTO catalogue (song_id, artist_id, title, artist_name, duration)
SELECT DISTINCT
    s.song_id,
    s.artist_id,
    COALESCE(title.repaired_text, TRIM(BOTH ' ' FROM s.title)) AS title,
    COALESCE(artist.repaired_text, TRIM(BOTH ' ' FROM s.artist_name)) AS artist_name,
    s.duration
FROM staging_songs AS s
LEFT JOIN repaired_text AS title ON TRIM(BOTH ' ' FROM s.title) = title.raw_text
LEFT JOIN repaired_text AS artist ON TRIM(BOTH ' ' FROM s.artist_name) = artist.raw_text;
