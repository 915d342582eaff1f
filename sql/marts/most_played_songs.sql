-- One row is one song as logged, with repaired text, ranked by plays. Every play counts, in the catalogue or not.
-- show rows: 10 of rank, song, artist, plays, listeners
CREATE TABLE most_played_songs (
    rank INTEGER NOT NULL, -- 1 is the most played; songs with equally many plays share a rank
    song VARCHAR(1024) NOT NULL, -- title as logged, repaired
    artist VARCHAR(1024) NOT NULL, -- artist as logged, repaired
    plays INTEGER NOT NULL, -- how often it was played
    listeners INTEGER NOT NULL, -- how many users played it
    song_id VARCHAR(64) REFERENCES songs (song_id), -- song in the catalogue, the smallest where several match
    in_catalogue BOOLEAN NOT NULL, -- whether the catalogue has it
    first_play TIMESTAMP NOT NULL, -- when it was first played, UTC
    last_play TIMESTAMP NOT NULL, -- when it was last played, UTC
    PRIMARY KEY (song, artist)
)
-- small beside the plays, and read from the top
DISTSTYLE ALL
SORTKEY (rank, song, artist);

INSERT INTO most_played_songs (
    rank, song, artist, plays, listeners, song_id, in_catalogue, first_play, last_play
)
SELECT
    RANK() OVER (ORDER BY counted.plays DESC) AS rank,
    counted.song,
    counted.artist,
    counted.plays,
    counted.listeners,
    counted.song_id,
    counted.song_id IS NOT NULL AS in_catalogue,
    counted.first_play,
    counted.last_play
FROM (
    SELECT
        COALESCE(NULLIF(p.song, ''), '(not logged)') AS song,
        COALESCE(NULLIF(p.artist, ''), '(not logged)') AS artist,
        COUNT(*) AS plays,
        COUNT(DISTINCT p.user_id) AS listeners,
        MIN(p.start_time) AS first_play,
        MAX(p.start_time) AS last_play,
        MIN(p.song_id) AS song_id
    FROM songplays AS p
    GROUP BY COALESCE(NULLIF(p.song, ''), '(not logged)'), COALESCE(NULLIF(p.artist, ''), '(not logged)')
) AS counted;
