-- One row is one event of the activity log, without duplicates, with its user, its visit and repaired text.
-- Star and marts read this table; staging_events keeps every delivery, including repeated and conflicting ones.
-- maintained by: session_id = staging_events.sessionid
CREATE TABLE events (
    event_id VARCHAR(96) NOT NULL PRIMARY KEY, -- session, item, epoch milliseconds and user, as text: 139-1-1541106106796-8; without a user 139-1-1541106106796
    session_id BIGINT NOT NULL, -- session as logged; in some logs several users share one
    item_in_session INTEGER NOT NULL, -- number of the event in its session, from 0
    ts TIMESTAMP NOT NULL, -- when the event happened, UTC, milliseconds
    user_id BIGINT, -- user; null when logged out
    visit_id VARCHAR(48) NOT NULL, -- visit of the event: session and user as text, 139-8; the session alone if it has no user
    page VARCHAR(64) NOT NULL, -- page of the app; NextSong is a play
    auth VARCHAR(64), -- Logged In, Logged Out, Guest or Cancelled
    level VARCHAR(16), -- free or paid, when the event happened
    first_name VARCHAR(1024), -- first name of the user, repaired
    last_name VARCHAR(1024), -- last name of the user, repaired
    gender VARCHAR(16), -- F or M
    location VARCHAR(2048), -- where the user is, repaired
    registered_at TIMESTAMP, -- when the user registered, UTC, cut to the second
    user_agent VARCHAR(2048), -- browser of the user
    method VARCHAR(16), -- HTTP method: PUT or GET
    status INTEGER, -- HTTP status: 200, 307 or 404
    song VARCHAR(1024), -- title of the song played, repaired
    artist VARCHAR(1024), -- artist of the song played, repaired
    length DOUBLE PRECISION, -- duration of the song played, seconds
    song_before_repair VARCHAR(1024), -- title as logged, where repair changed it
    artist_before_repair VARCHAR(1024), -- artist as logged, where repair changed it
    deliveries INTEGER NOT NULL, -- rows of staging_events for this event
    versions INTEGER NOT NULL -- different contents of these rows; 1 unless they conflict
)
-- nearly unique, and collocated with time and songplays; sorted by time for queries on days
DISTKEY (ts)
SORTKEY (ts);

INSERT INTO events (
    event_id, session_id, item_in_session, ts, user_id, visit_id, page, auth, level, first_name, last_name, gender,
    location, registered_at, user_agent, method, status, song, artist, length, song_before_repair,
    artist_before_repair, deliveries, versions
)
-- The natural key of an event is session, item, time and user: users share session ids, and random ids collide.
-- Several rows with the same key are several deliveries of one event.
WITH repeated AS (
    SELECT e.sessionid, e.iteminsession, e.ts, e.userid, COUNT(*) AS deliveries
    FROM staging_events AS e
    GROUP BY e.sessionid, e.iteminsession, e.ts, e.userid
    HAVING COUNT(*) > 1
),

-- If rows with the same key differ, the first by their contents counts, known values before null, so that the order
-- of loading does not matter. A new column belongs in this list and in events__one_version.
numbered AS (
    SELECT
        e.*,
        r.deliveries,
        DENSE_RANK() OVER (
            PARTITION BY e.sessionid, e.iteminsession, e.ts, e.userid
            ORDER BY
                e.page, e.song, e.artist, e.length, e.level, e.auth, e.firstname, e.lastname, e.gender,
                e.location, e.registration, e.useragent, e.method, e.status
        ) AS version
    FROM staging_events AS e
    INNER JOIN repeated AS r
        ON
            e.sessionid = r.sessionid AND e.iteminsession = r.iteminsession AND e.ts = r.ts
            AND (e.userid = r.userid OR (e.userid IS NULL AND r.userid IS NULL))
),

chosen AS (
    SELECT
        n.*,
        MAX(n.version) OVER (PARTITION BY n.sessionid, n.iteminsession, n.ts, n.userid) AS versions,
        ROW_NUMBER() OVER (
            PARTITION BY n.sessionid, n.iteminsession, n.ts, n.userid ORDER BY n.version
        ) AS preference
    FROM numbered AS n
),

once AS (
    SELECT e.*, 1 AS deliveries, 1 AS version, 1 AS versions, 1 AS preference
    FROM staging_events AS e
    LEFT JOIN repeated AS r
        ON
            e.sessionid = r.sessionid AND e.iteminsession = r.iteminsession AND e.ts = r.ts
            AND (e.userid = r.userid OR (e.userid IS NULL AND r.userid IS NULL))
    WHERE r.sessionid IS NULL
    UNION ALL
    SELECT c.* FROM chosen AS c WHERE c.preference = 1
),

-- An event without a user belongs to the visit of the session's only user. If users share the session, a run of such
-- events goes by item numbers: it belongs to the visit with the item before its first, at most two hours earlier (the
-- latest if several), else likewise to the visit with the item after its last, but never to a visit that has one of
-- its item numbers. If no visit qualifies, or those of two users at once, it belongs to nobody.
visitors AS (
    SELECT e.sessionid, MIN(e.userid) AS first_user, MAX(e.userid) AS last_user
    FROM staging_events AS e
    GROUP BY e.sessionid
),

loose AS (
    SELECT DISTINCT e.sessionid, CAST(e.iteminsession AS BIGINT) AS iteminsession, e.ts
    FROM staging_events AS e
    INNER JOIN visitors AS v ON e.sessionid = v.sessionid
    WHERE e.userid IS NULL AND v.first_user < v.last_user
),

steps AS (
    SELECT
        l.sessionid,
        l.iteminsession,
        l.ts,
        CASE
            WHEN
                l.iteminsession = 1 + LAG(l.iteminsession) OVER (
                    PARTITION BY l.sessionid ORDER BY l.ts, l.iteminsession
                )
                AND l.ts - INTERVAL '2 hours' <= LAG(l.ts) OVER (
                    PARTITION BY l.sessionid ORDER BY l.ts, l.iteminsession
                )
                THEN 0
            ELSE 1
        END AS begins_run
    FROM loose AS l
),

runs AS (
    SELECT
        s.sessionid,
        s.iteminsession,
        s.ts,
        SUM(s.begins_run) OVER (
            PARTITION BY s.sessionid ORDER BY s.ts, s.iteminsession ROWS UNBOUNDED PRECEDING
        ) AS run
    FROM steps AS s
),

edges AS (
    SELECT
        r.sessionid,
        r.iteminsession,
        r.ts,
        side.step,
        CASE
            WHEN side.step = -1 THEN MIN(r.iteminsession) OVER (PARTITION BY r.sessionid, r.run)
            ELSE MAX(r.iteminsession) OVER (PARTITION BY r.sessionid, r.run)
        END AS edge,
        CASE
            WHEN side.step = -1 THEN MIN(r.ts) OVER (PARTITION BY r.sessionid, r.run)
            ELSE MAX(r.ts) OVER (PARTITION BY r.sessionid, r.run)
        END AS edge_ts
    FROM runs AS r
    CROSS JOIN (SELECT -1 AS step UNION ALL SELECT 1 AS step) AS side
),

neighbours AS (
    SELECT
        g.sessionid,
        g.iteminsession,
        g.ts,
        e.userid,
        RANK() OVER (
            PARTITION BY g.sessionid, g.iteminsession, g.ts
            ORDER BY g.step, CASE WHEN g.step = -1 THEN e.ts END DESC, e.ts
        ) AS distance
    FROM edges AS g
    INNER JOIN staging_events AS e ON g.sessionid = e.sessionid AND g.edge + g.step = e.iteminsession
    LEFT JOIN staging_events AS same
        ON g.sessionid = same.sessionid AND g.edge = same.iteminsession AND e.userid = same.userid
    WHERE
        e.userid IS NOT NULL
        AND same.sessionid IS NULL
        AND (
            (g.step = -1 AND e.ts <= g.edge_ts AND e.ts >= g.edge_ts - INTERVAL '2 hours')
            OR (g.step = 1 AND e.ts >= g.edge_ts AND e.ts <= g.edge_ts + INTERVAL '2 hours')
        )
),

continued AS (
    SELECT n.sessionid, n.iteminsession, n.ts, MIN(n.userid) AS userid
    FROM neighbours AS n
    WHERE n.distance = 1
    GROUP BY n.sessionid, n.iteminsession, n.ts
    HAVING MIN(n.userid) = MAX(n.userid)
)

SELECT
    CAST(o.sessionid AS VARCHAR(20)) || '-' || CAST(o.iteminsession AS VARCHAR(20)) || '-'
    || CAST(
        CAST(EXTRACT(EPOCH FROM DATE_TRUNC('second', o.ts)) AS BIGINT) * 1000
        + MOD(CAST(EXTRACT(MILLISECONDS FROM o.ts) AS INTEGER), 1000) -- some engines include the seconds in MILLISECONDS
        AS VARCHAR(20)
    )
    || COALESCE('-' || CAST(o.userid AS VARCHAR(20)), '') AS event_id,
    o.sessionid AS session_id,
    o.iteminsession AS item_in_session,
    o.ts,
    o.userid AS user_id,
    CAST(o.sessionid AS VARCHAR(20)) || COALESCE(
        '-' || CAST(
            COALESCE(o.userid, CASE WHEN v.first_user = v.last_user THEN v.first_user ELSE c.userid END)
            AS VARCHAR(20)
        ),
        ''
    ) AS visit_id,
    TRIM(BOTH ' ' FROM o.page) AS page,
    TRIM(BOTH ' ' FROM o.auth) AS auth,
    TRIM(BOTH ' ' FROM o.level) AS level,
    COALESCE(first_name.repaired_text, TRIM(BOTH ' ' FROM o.firstname)) AS first_name,
    COALESCE(last_name.repaired_text, TRIM(BOTH ' ' FROM o.lastname)) AS last_name,
    TRIM(BOTH ' ' FROM o.gender) AS gender,
    COALESCE(location.repaired_text, TRIM(BOTH ' ' FROM o.location)) AS location,
    CASE
        WHEN o.registration BETWEEN 0 AND 253402300799999 -- up to the year 9999
            THEN TIMESTAMP '1970-01-01 00:00:00' + CAST(FLOOR(o.registration / 1000) AS BIGINT) * INTERVAL '1 second'
    END AS registered_at,
    TRIM(BOTH ' ' FROM o.useragent) AS user_agent,
    TRIM(BOTH ' ' FROM o.method) AS method,
    o.status,
    COALESCE(song.repaired_text, TRIM(BOTH ' ' FROM o.song)) AS song,
    COALESCE(artist.repaired_text, TRIM(BOTH ' ' FROM o.artist)) AS artist,
    o.length,
    song.raw_text AS song_before_repair,
    artist.raw_text AS artist_before_repair,
    o.deliveries,
    o.versions
FROM once AS o
INNER JOIN visitors AS v ON o.sessionid = v.sessionid
LEFT JOIN continued AS c
    ON o.sessionid = c.sessionid AND o.iteminsession = c.iteminsession AND o.ts = c.ts AND o.userid IS NULL
LEFT JOIN repaired_text AS song ON TRIM(BOTH ' ' FROM o.song) = song.raw_text
LEFT JOIN repaired_text AS artist ON TRIM(BOTH ' ' FROM o.artist) = artist.raw_text
LEFT JOIN repaired_text AS location ON TRIM(BOTH ' ' FROM o.location) = location.raw_text
LEFT JOIN repaired_text AS first_name ON TRIM(BOTH ' ' FROM o.firstname) = first_name.raw_text
LEFT JOIN repaired_text AS last_name ON TRIM(BOTH ' ' FROM o.lastname) = last_name.raw_text;
