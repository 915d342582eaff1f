-- One row is one place where users were when they played a song, ranked by its plays.
CREATE TABLE plays_by_location (
    rank INTEGER NOT NULL, -- 1 has the most plays; places with equally many share a rank
    location VARCHAR(2048) NOT NULL PRIMARY KEY, -- metropolitan area as logged, repaired
    plays INTEGER NOT NULL, -- plays there
    listeners INTEGER NOT NULL -- users who played them
)
-- small, and read from the top
DISTSTYLE ALL
SORTKEY (rank, location);

INSERT INTO plays_by_location (rank, location, plays, listeners)
SELECT
    RANK() OVER (ORDER BY counted.plays DESC) AS rank,
    counted.location,
    counted.plays,
    counted.listeners
FROM (
    SELECT
        COALESCE(NULLIF(p.location, ''), '(not logged)') AS location,
        COUNT(*) AS plays,
        COUNT(DISTINCT p.user_id) AS listeners
    FROM songplays AS p
    GROUP BY COALESCE(NULLIF(p.location, ''), '(not logged)')
) AS counted;
