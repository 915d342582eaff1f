-- One row is one user: everything the user did, from all events with that user. The starting point for a study of churn.
-- maintained by: user_id = users.user_id AND user_id = events.user_id AND user_id = songplays.user_id
CREATE TABLE user_activity (
    user_id BIGINT NOT NULL PRIMARY KEY REFERENCES users (user_id), -- user
    registered_at TIMESTAMP, -- when the user registered, UTC, cut to the second
    first_seen TIMESTAMP NOT NULL, -- first event, UTC
    last_seen TIMESTAMP NOT NULL, -- last event, UTC
    level VARCHAR(16), -- free or paid, at the last event
    visits INTEGER NOT NULL, -- visits, each a row of sessions
    days_active INTEGER NOT NULL, -- days, UTC, with an event
    plays INTEGER NOT NULL, -- songs played
    songs INTEGER NOT NULL, -- different songs played, by title and artist
    artists INTEGER NOT NULL, -- different artists played
    thumbs_up INTEGER NOT NULL, -- page Thumbs Up
    thumbs_down INTEGER NOT NULL, -- page Thumbs Down
    added_to_playlist INTEGER NOT NULL, -- page Add to Playlist
    friends_added INTEGER NOT NULL, -- page Add Friend
    adverts INTEGER NOT NULL, -- page Roll Advert
    errors INTEGER NOT NULL, -- page Error
    upgrades INTEGER NOT NULL, -- page Submit Upgrade
    downgrades INTEGER NOT NULL, -- page Submit Downgrade
    cancelled_at TIMESTAMP -- latest page Cancellation Confirmation, UTC; null while the user stays
)
-- one row per user, joined with users: a copy on every node, sorted by key
DISTSTYLE ALL
SORTKEY (user_id);

INSERT INTO user_activity (
    user_id, registered_at, first_seen, last_seen, level, visits, days_active, plays, songs, artists, thumbs_up,
    thumbs_down, added_to_playlist, friends_added, adverts, errors, upgrades, downgrades, cancelled_at
)
SELECT
    u.user_id,
    seen.registered_at,
    seen.first_seen,
    seen.last_seen,
    u.level,
    seen.visits,
    seen.days_active,
    COALESCE(played.plays, 0) AS plays,
    COALESCE(played.songs, 0) AS songs,
    COALESCE(played.artists, 0) AS artists,
    seen.thumbs_up,
    seen.thumbs_down,
    seen.added_to_playlist,
    seen.friends_added,
    seen.adverts,
    seen.errors,
    seen.upgrades,
    seen.downgrades,
    seen.cancelled_at
FROM users AS u
INNER JOIN (
    SELECT
        e.user_id,
        MIN(e.registered_at) AS registered_at,
        MIN(e.ts) AS first_seen,
        MAX(e.ts) AS last_seen,
        COUNT(DISTINCT e.session_id) AS visits,
        COUNT(DISTINCT CAST(e.ts AS DATE)) AS days_active,
        COUNT(CASE WHEN e.page = 'Thumbs Up' THEN 1 END) AS thumbs_up,
        COUNT(CASE WHEN e.page = 'Thumbs Down' THEN 1 END) AS thumbs_down,
        COUNT(CASE WHEN e.page = 'Add to Playlist' THEN 1 END) AS added_to_playlist,
        COUNT(CASE WHEN e.page = 'Add Friend' THEN 1 END) AS friends_added,
        COUNT(CASE WHEN e.page = 'Roll Advert' THEN 1 END) AS adverts,
        COUNT(CASE WHEN e.page = 'Error' THEN 1 END) AS errors,
        COUNT(CASE WHEN e.page = 'Submit Upgrade' THEN 1 END) AS upgrades,
        COUNT(CASE WHEN e.page = 'Submit Downgrade' THEN 1 END) AS downgrades,
        MAX(CASE WHEN e.page = 'Cancellation Confirmation' THEN e.ts END) AS cancelled_at
    FROM events AS e
    WHERE e.user_id IS NOT NULL
    GROUP BY e.user_id
) AS seen ON u.user_id = seen.user_id
LEFT JOIN (
    SELECT
        song.user_id,
        SUM(song.plays) AS plays,
        COUNT(*) AS songs,
        COUNT(DISTINCT song.artist) AS artists
    FROM (
        SELECT
            p.user_id,
            COALESCE(NULLIF(p.artist, ''), '(not logged)') AS artist,
            COALESCE(NULLIF(p.song, ''), '(not logged)') AS song,
            COUNT(*) AS plays
        FROM songplays AS p
        WHERE p.user_id IS NOT NULL
        GROUP BY p.user_id, COALESCE(NULLIF(p.artist, ''), '(not logged)'), COALESCE(NULLIF(p.song, ''), '(not logged)')
    ) AS song
    GROUP BY song.user_id
) AS played ON u.user_id = played.user_id;
