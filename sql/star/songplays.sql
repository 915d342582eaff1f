-- One row is one play: an event with page NextSong, whether or not the catalogue knows the song.
-- The match: repaired title and artist name equal to a song record's, the nearest duration first, then the smaller song_id.
CREATE TABLE songplays (
    songplay_id VARCHAR(64) NOT NULL PRIMARY KEY, -- session and item, as text: 139-1; natural key
    start_time TIMESTAMP NOT NULL REFERENCES time (start_time), -- when the song started, UTC
    user_id BIGINT REFERENCES users (user_id), -- who played it
    level VARCHAR(16), -- free or paid, when it was played
    song_id VARCHAR(64) REFERENCES songs (song_id), -- song; null when the catalogue does not know it
    artist_id VARCHAR(64) REFERENCES artists (artist_id), -- artist; null when the catalogue does not know the song
    session_id BIGINT NOT NULL, -- session
    item_in_session INTEGER NOT NULL, -- number of the event in its session
    location VARCHAR(2048), -- where the user was
    user_agent VARCHAR(2048), -- browser of the user
    song VARCHAR(1024), -- title as logged, repaired
    artist VARCHAR(1024) -- artist as logged, repaired
)
-- hardly two plays share it, and time lies beside; song_id is null for what the catalogue lacks
DISTKEY (start_time)
SORTKEY (start_time);

INSERT INTO songplays (
    songplay_id, start_time, user_id, level, song_id, artist_id, session_id, item_in_session,
    location, user_agent, song, artist
)
WITH plays AS (
    SELECT
        e.sessionid,
        e.iteminsession,
        e.ts,
        e.userid,
        e.level,
        e.length,
        e.useragent,
        COALESCE(location.repaired_text, TRIM(BOTH ' ' FROM e.location)) AS location,
        COALESCE(song.repaired_text, TRIM(BOTH ' ' FROM e.song)) AS song,
        COALESCE(artist.repaired_text, TRIM(BOTH ' ' FROM e.artist)) AS artist
    FROM staging_events AS e
    LEFT JOIN repaired_text AS location ON TRIM(BOTH ' ' FROM e.location) = location.raw_text
    LEFT JOIN repaired_text AS song ON TRIM(BOTH ' ' FROM e.song) = song.raw_text
    LEFT JOIN repaired_text AS artist ON TRIM(BOTH ' ' FROM e.artist) = artist.raw_text
    WHERE e.page = 'NextSong'
),

catalogue AS (
    SELECT
        s.song_id,
        s.artist_id,
        s.duration,
        COALESCE(title.repaired_text, TRIM(BOTH ' ' FROM s.title)) AS title,
        COALESCE(artist.repaired_text, TRIM(BOTH ' ' FROM s.artist_name)) AS artist_name
    FROM staging_songs AS s
    LEFT JOIN repaired_text AS title ON TRIM(BOTH ' ' FROM s.title) = title.raw_text
    LEFT JOIN repaired_text AS artist ON TRIM(BOTH ' ' FROM s.artist_name) = artist.raw_text
),

matches AS (
    SELECT
        p.sessionid,
        p.iteminsession,
        c.song_id,
        c.artist_id,
        ROW_NUMBER() OVER (
            PARTITION BY p.sessionid, p.iteminsession
            ORDER BY ABS(c.duration - p.length), c.song_id, c.artist_id
        ) AS nearness
    FROM plays AS p
    INNER JOIN catalogue AS c ON p.song = c.title AND p.artist = c.artist_name
)

SELECT
    CAST(p.sessionid AS VARCHAR(20)) || '-' || CAST(p.iteminsession AS VARCHAR(20)) AS songplay_id,
    p.ts AS start_time,
    p.userid AS user_id,
    TRIM(BOTH ' ' FROM p.level) AS level,
    m.song_id,
    m.artist_id,
    p.sessionid AS session_id,
    p.iteminsession AS item_in_session,
    p.location,
    TRIM(BOTH ' ' FROM p.useragent) AS user_agent,
    p.song,
    p.artist
FROM plays AS p
LEFT JOIN matches AS m
    ON p.sessionid = m.sessionid AND p.iteminsession = m.iteminsession AND m.nearness = 1;
