-- One row is one play: an event with page NextSong, whether or not the song is in the catalogue.
-- A play matches a song record with the same repaired title and artist name; of several, the one with the nearest duration, then the smallest song_id.
-- maintained by: start_time = events.ts AND events.song = catalogue.title
CREATE TABLE songplays (
    songplay_id VARCHAR(96) NOT NULL PRIMARY KEY, -- event: session, item, epoch milliseconds and user, as text; natural key
    start_time TIMESTAMP NOT NULL REFERENCES time (start_time), -- when the song started, UTC
    user_id BIGINT REFERENCES users (user_id), -- who played it
    level VARCHAR(16), -- free or paid, when it was played
    song_id VARCHAR(64) REFERENCES songs (song_id), -- song; null if it is not in the catalogue
    artist_id VARCHAR(64) REFERENCES artists (artist_id), -- artist; null if the song is not in the catalogue
    session_id BIGINT NOT NULL, -- session as logged
    item_in_session INTEGER NOT NULL, -- number of the event in its session
    location VARCHAR(2048), -- where the user was
    user_agent VARCHAR(2048), -- browser of the user
    song VARCHAR(1024), -- title as logged, repaired
    artist VARCHAR(1024) -- artist as logged, repaired
)
-- nearly unique, and collocated with time; song_id is often null
DISTKEY (start_time)
SORTKEY (start_time);

INSERT INTO songplays (
    songplay_id, start_time, user_id, level, song_id, artist_id, session_id, item_in_session,
    location, user_agent, song, artist
)
-- If one record of the catalogue has the title and artist, it is the match; of several, the nearest.
WITH candidates AS (
    SELECT
        c.song_id,
        c.artist_id,
        c.title,
        c.artist_name,
        c.duration,
        COUNT(*) OVER (PARTITION BY c.title, c.artist_name) AS alike
    FROM catalogue AS c
),

nearest AS (
    SELECT
        e.event_id,
        c.song_id,
        c.artist_id,
        ROW_NUMBER() OVER (
            PARTITION BY e.event_id ORDER BY ABS(c.duration - e.length), c.song_id, c.artist_id
        ) AS nearness
    FROM events AS e
    INNER JOIN candidates AS c ON e.song = c.title AND e.artist = c.artist_name AND c.alike > 1
    WHERE e.page = 'NextSong'
)

SELECT
    e.event_id AS songplay_id,
    e.ts AS start_time,
    e.user_id,
    e.level,
    COALESCE(o.song_id, n.song_id) AS song_id,
    COALESCE(o.artist_id, n.artist_id) AS artist_id,
    e.session_id,
    e.item_in_session,
    e.location,
    e.user_agent,
    e.song,
    e.artist
FROM events AS e
LEFT JOIN candidates AS o ON e.song = o.title AND e.artist = o.artist_name AND o.alike = 1
LEFT JOIN nearest AS n ON e.event_id = n.event_id AND n.nearness = 1
WHERE e.page = 'NextSong';
