-- One row is one day (UTC) with at least one event: its events, its plays and its daily active users.
-- maintained by: date = CAST(events.ts AS DATE) AND date = CAST(songplays.start_time AS DATE)
CREATE TABLE plays_by_day (
    date DATE NOT NULL PRIMARY KEY, -- day, UTC
    plays INTEGER NOT NULL, -- plays of the day
    paid_plays INTEGER NOT NULL, -- plays of users whose level was paid
    free_plays INTEGER NOT NULL, -- plays of users whose level was free
    listeners INTEGER NOT NULL, -- users who played a song
    active_users INTEGER NOT NULL, -- users with an event of any kind
    matched_plays INTEGER NOT NULL, -- plays of songs in the catalogue
    events INTEGER NOT NULL, -- events of any kind
    repeated_events INTEGER NOT NULL -- further deliveries of these events
)
-- one row per day, read in this order
DISTSTYLE ALL
SORTKEY (date);

INSERT INTO plays_by_day (
    date, plays, paid_plays, free_plays, listeners, active_users, matched_plays, events, repeated_events
)
SELECT
    logged.date,
    COALESCE(played.plays, 0) AS plays,
    COALESCE(played.paid_plays, 0) AS paid_plays,
    COALESCE(played.free_plays, 0) AS free_plays,
    COALESCE(played.listeners, 0) AS listeners,
    logged.active_users,
    COALESCE(played.matched_plays, 0) AS matched_plays,
    logged.events,
    logged.repeated_events
FROM (
    SELECT
        CAST(e.ts AS DATE) AS date,
        COUNT(DISTINCT e.user_id) AS active_users,
        COUNT(*) AS events,
        SUM(e.deliveries - 1) AS repeated_events
    FROM events AS e
    GROUP BY CAST(e.ts AS DATE)
) AS logged
LEFT JOIN (
    SELECT
        CAST(p.start_time AS DATE) AS date,
        COUNT(*) AS plays,
        COUNT(CASE WHEN p.level = 'paid' THEN 1 END) AS paid_plays,
        COUNT(CASE WHEN p.level = 'free' THEN 1 END) AS free_plays,
        COUNT(DISTINCT p.user_id) AS listeners,
        COUNT(p.song_id) AS matched_plays
    FROM songplays AS p
    GROUP BY CAST(p.start_time AS DATE)
) AS played ON logged.date = played.date;
