-- One row is one visit of one user, from its first event to its last. The events of a session without a user form a visit, too.
-- maintained by: visit_id = events.visit_id
CREATE TABLE sessions (
    visit_id VARCHAR(48) NOT NULL PRIMARY KEY, -- session and user, as text: 139-8; natural key
    session_id BIGINT NOT NULL, -- session as logged; in some logs several users share one
    user_id BIGINT REFERENCES users (user_id), -- user; null if nobody logged in
    level VARCHAR(16), -- free or paid, at the end
    device_family VARCHAR(16), -- iPhone, iPad, Android, Windows, Mac, Linux or Other; null if nobody logged in
    started_at TIMESTAMP NOT NULL, -- first event, UTC
    ended_at TIMESTAMP NOT NULL, -- last event, UTC; a song still playing then is not counted
    length_seconds BIGINT NOT NULL, -- from the first event to the last, both cut to the second
    events INTEGER NOT NULL, -- events of any kind
    plays INTEGER NOT NULL -- songs played
)
-- grows with the events and is joined only with users, which is on every node; sorted by time
DISTSTYLE EVEN
SORTKEY (started_at);

INSERT INTO sessions (
    visit_id, session_id, user_id, level, device_family, started_at, ended_at, length_seconds, events, plays
)
WITH totals AS (
    SELECT
        e.visit_id,
        MAX(e.session_id) AS session_id, -- the same in all events of a visit
        MAX(e.user_id) AS user_id, -- the same in all events that have one
        MIN(e.ts) AS started_at,
        MAX(e.ts) AS ended_at,
        MAX(CASE WHEN e.user_id IS NOT NULL THEN e.ts END) AS seen_at,
        COUNT(*) AS events,
        COUNT(CASE WHEN e.page = 'NextSong' THEN 1 END) AS plays
    FROM events AS e
    GROUP BY e.visit_id
),

ends AS (
    SELECT
        e.visit_id,
        e.level,
        ROW_NUMBER() OVER (PARTITION BY e.visit_id ORDER BY e.item_in_session DESC, e.user_id) AS recency
    FROM events AS e
    INNER JOIN totals AS l ON e.visit_id = l.visit_id AND e.ts = l.ended_at
),

visitors AS (
    SELECT
        e.visit_id,
        e.user_agent,
        ROW_NUMBER() OVER (PARTITION BY e.visit_id ORDER BY e.item_in_session DESC) AS recency
    FROM events AS e
    INNER JOIN totals AS l ON e.visit_id = l.visit_id AND e.ts = l.seen_at
    WHERE e.user_id IS NOT NULL
)

SELECT
    t.visit_id,
    t.session_id,
    t.user_id,
    x.level,
    CASE
        WHEN v.user_agent IS NULL THEN NULL
        WHEN v.user_agent LIKE '%iPhone%' THEN 'iPhone'
        WHEN v.user_agent LIKE '%iPad%' THEN 'iPad'
        WHEN v.user_agent LIKE '%Android%' THEN 'Android'
        WHEN v.user_agent LIKE '%Windows%' THEN 'Windows'
        WHEN v.user_agent LIKE '%Macintosh%' THEN 'Mac'
        WHEN v.user_agent LIKE '%Linux%' THEN 'Linux'
        ELSE 'Other'
    END AS device_family,
    t.started_at,
    t.ended_at,
    CAST(EXTRACT(EPOCH FROM DATE_TRUNC('second', t.ended_at)) AS BIGINT)
    - CAST(EXTRACT(EPOCH FROM DATE_TRUNC('second', t.started_at)) AS BIGINT) AS length_seconds,
    t.events,
    t.plays
FROM totals AS t
INNER JOIN ends AS x ON t.visit_id = x.visit_id AND x.recency = 1
LEFT JOIN visitors AS v ON t.visit_id = v.visit_id AND v.recency = 1;
