-- A single row: how many plays are of songs in the catalogue, with and without text repair.
CREATE TABLE catalogue_coverage (
    plays INTEGER NOT NULL, -- all plays
    matched INTEGER NOT NULL, -- plays of songs in the catalogue
    share DOUBLE PRECISION, -- matched / plays; null if nothing was played
    matched_before_repair INTEGER NOT NULL, -- plays matched by title and artist as logged
    share_before_repair DOUBLE PRECISION -- matched_before_repair / plays; null when nothing was played
)
-- one row
DISTSTYLE ALL;

INSERT INTO catalogue_coverage (plays, matched, share, matched_before_repair, share_before_repair)
SELECT
    repaired.plays,
    repaired.matched,
    CAST(repaired.matched AS DOUBLE PRECISION) / NULLIF(repaired.plays, 0) AS share,
    found.matched AS matched_before_repair,
    CAST(found.matched AS DOUBLE PRECISION) / NULLIF(repaired.plays, 0) AS share_before_repair
FROM (SELECT COUNT(*) AS plays, COUNT(p.song_id) AS matched FROM songplays AS p) AS repaired
CROSS JOIN (
    SELECT COUNT(*) AS matched
    FROM events AS e
    INNER JOIN (
        SELECT DISTINCT
            TRIM(BOTH ' ' FROM s.title) AS title,
            TRIM(BOTH ' ' FROM s.artist_name) AS artist_name
        FROM staging_songs AS s
    ) AS c
        ON
            COALESCE(e.song_before_repair, e.song) = c.title
            AND COALESCE(e.artist_before_repair, e.artist) = c.artist_name
    WHERE e.page = 'NextSong'
) AS found;
