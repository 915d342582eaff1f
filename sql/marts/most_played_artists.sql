-- One row is one artist as logged, with repaired text, ranked by plays. Every play counts, in the catalogue or not.
CREATE TABLE most_played_artists (
    rank INTEGER NOT NULL, -- 1 is the most played; artists with equally many plays share a rank
    artist VARCHAR(1024) NOT NULL PRIMARY KEY, -- artist as logged, repaired
    plays INTEGER NOT NULL, -- how often a song of the artist was played
    listeners INTEGER NOT NULL, -- how many users played one
    songs INTEGER NOT NULL, -- how many different songs were played
    first_play TIMESTAMP NOT NULL, -- when one was first played, UTC
    last_play TIMESTAMP NOT NULL -- when one was last played, UTC
)
-- small beside the plays, and read from the top
DISTSTYLE ALL
SORTKEY (rank, artist);

INSERT INTO most_played_artists (rank, artist, plays, listeners, songs, first_play, last_play)
SELECT
    RANK() OVER (ORDER BY counted.plays DESC) AS rank,
    counted.artist,
    counted.plays,
    counted.listeners,
    counted.songs,
    counted.first_play,
    counted.last_play
FROM (
    SELECT
        COALESCE(NULLIF(p.artist, ''), '(not logged)') AS artist,
        COUNT(*) AS plays,
        COUNT(DISTINCT p.user_id) AS listeners,
        COUNT(DISTINCT p.song) AS songs,
        MIN(p.start_time) AS first_play,
        MAX(p.start_time) AS last_play
    FROM songplays AS p
    GROUP BY COALESCE(NULLIF(p.artist, ''), '(not logged)')
) AS counted;
