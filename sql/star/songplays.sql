-- One row is one play: an event with page NextSong, whether or not the catalogue knows the song.
-- The match: title and artist name equal to a song record's, the nearest duration first, then the smaller song_id.
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
    song VARCHAR(1024), -- title as logged
    artist VARCHAR(1024) -- artist as logged
)
DISTKEY (song_id)
SORTKEY (start_time);

INSERT INTO songplays (
    songplay_id, start_time, user_id, level, song_id, artist_id, session_id, item_in_session,
    location, user_agent, song, artist
)
SELECT
    CAST(play.sessionid AS VARCHAR(20)) || '-' || CAST(play.iteminsession AS VARCHAR(20)) AS songplay_id,
    play.ts AS start_time,
    play.userid AS user_id,
    TRIM(BOTH ' ' FROM play.level) AS level,
    known.song_id,
    known.artist_id,
    play.sessionid AS session_id,
    play.iteminsession AS item_in_session,
    TRIM(BOTH ' ' FROM play.location) AS location,
    TRIM(BOTH ' ' FROM play.useragent) AS user_agent,
    TRIM(BOTH ' ' FROM play.song) AS song,
    TRIM(BOTH ' ' FROM play.artist) AS artist
FROM staging_events AS play
LEFT JOIN (
    SELECT
        e.sessionid,
        e.iteminsession,
        s.song_id,
        s.artist_id,
        ROW_NUMBER() OVER (
            PARTITION BY e.sessionid, e.iteminsession
            ORDER BY ABS(s.duration - e.length), s.song_id, s.artist_id
        ) AS nearness
    FROM staging_events AS e
    INNER JOIN staging_songs AS s
        ON
            TRIM(BOTH ' ' FROM e.song) = TRIM(BOTH ' ' FROM s.title)
            AND TRIM(BOTH ' ' FROM e.artist) = TRIM(BOTH ' ' FROM s.artist_name)
    WHERE e.page = 'NextSong'
) AS known
    ON
        play.sessionid = known.sessionid
        AND play.iteminsession = known.iteminsession
        AND known.nearness = 1
WHERE play.page = 'NextSong';
