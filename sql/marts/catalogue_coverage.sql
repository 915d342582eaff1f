-- One row in all: how much of what is played the song catalogue knows.
CREATE TABLE catalogue_coverage (
    plays INTEGER NOT NULL, -- plays in all
    matched INTEGER NOT NULL, -- plays whose song the catalogue knows
    share DOUBLE PRECISION -- matched / plays; null when nothing was played
)
DISTSTYLE ALL;

INSERT INTO catalogue_coverage (plays, matched, share)
SELECT
    COUNT(*) AS plays,
    COUNT(p.song_id) AS matched,
    CAST(COUNT(p.song_id) AS DOUBLE PRECISION) / NULLIF(COUNT(*), 0) AS share
FROM songplays AS p;
