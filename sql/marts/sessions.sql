-- One row is one session: what one user did in one visit, from its first event to its last.
CREATE TABLE sessions (
    session_id BIGINT NOT NULL PRIMARY KEY, -- session, natural key
    user_id BIGINT REFERENCES users (user_id), -- who it was; null where nobody logged in
    level VARCHAR(16), -- free or paid, at the end
    device_family VARCHAR(16), -- iPhone, iPad, Android, Windows, Mac, Linux or Other; null where nobody logged in
    started_at TIMESTAMP NOT NULL, -- first event, UTC
    ended_at TIMESTAMP NOT NULL, -- last event, UTC: a song that plays on is not counted
    length_seconds BIGINT NOT NULL, -- from the first event to the last, both cut to the second
    events INTEGER NOT NULL, -- events of any kind
    plays INTEGER NOT NULL -- songs played
)
-- grows with the events, and is joined with users alone, which are everywhere; in order of time
DISTSTYLE EVEN
SORTKEY (started_at);

INSERT INTO sessions (
    session_id, user_id, level, device_family, started_at, ended_at, length_seconds, events, plays
)
WITH totals AS (
    SELECT
        e.sessionid,
        MIN(e.ts) AS started_at,
        MAX(e.ts) AS ended_at,
        COUNT(*) AS events,
        COUNT(CASE WHEN e.page = 'NextSong' THEN 1 END) AS plays
    FROM staging_events AS e
    GROUP BY e.sessionid
),

ends AS (
    SELECT
        e.sessionid,
        TRIM(BOTH ' ' FROM e.level) AS level,
        ROW_NUMBER() OVER (PARTITION BY e.sessionid ORDER BY e.iteminsession DESC) AS recency
    FROM staging_events AS e
),

visitors AS (
    SELECT
        e.sessionid,
        e.userid,
        e.useragent,
        ROW_NUMBER() OVER (PARTITION BY e.sessionid ORDER BY e.iteminsession DESC) AS recency
    FROM staging_events AS e
    WHERE e.userid IS NOT NULL
)

SELECT
    t.sessionid AS session_id,
    v.userid AS user_id,
    x.level,
    CASE
        WHEN v.useragent IS NULL THEN NULL
        WHEN v.useragent LIKE '%iPhone%' THEN 'iPhone'
        WHEN v.useragent LIKE '%iPad%' THEN 'iPad'
        WHEN v.useragent LIKE '%Android%' THEN 'Android'
        WHEN v.useragent LIKE '%Windows%' THEN 'Windows'
        WHEN v.useragent LIKE '%Macintosh%' THEN 'Mac'
        WHEN v.useragent LIKE '%Linux%' THEN 'Linux'
        ELSE 'Other'
    END AS device_family,
    t.started_at,
    t.ended_at,
    CAST(EXTRACT(EPOCH FROM DATE_TRUNC('second', t.ended_at)) AS BIGINT)
    - CAST(EXTRACT(EPOCH FROM DATE_TRUNC('second', t.started_at)) AS BIGINT) AS length_seconds,
    t.events,
    t.plays
FROM totals AS t
INNER JOIN ends AS x ON t.sessionid = x.sessionid AND x.recency = 1
LEFT JOIN visitors AS v ON t.sessionid = v.sessionid AND v.recency = 1;
