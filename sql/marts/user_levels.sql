-- One row is one stretch of time in which a user had one level: the history of users.level, a type 2 dimension.
-- A stretch begins with the first event that tells of it, whatever its page. Of events at one moment the last one counts.
CREATE TABLE user_levels (
    user_id BIGINT NOT NULL REFERENCES users (user_id), -- user
    level VARCHAR(16) NOT NULL, -- free or paid
    valid_from TIMESTAMP NOT NULL, -- when the stretch begins, UTC
    valid_to TIMESTAMP, -- when the next one begins, UTC, no longer part of this one; null while it lasts
    is_current BOOLEAN NOT NULL, -- whether it lasts
    PRIMARY KEY (user_id, valid_from)
)
-- a few rows a user, read user by user in the order of time
DISTSTYLE ALL
SORTKEY (user_id, valid_from);

INSERT INTO user_levels (user_id, level, valid_from, valid_to, is_current)
WITH events AS (
    SELECT
        e.userid,
        e.ts,
        TRIM(BOTH ' ' FROM e.level) AS level,
        ROW_NUMBER() OVER (
            PARTITION BY e.userid, e.ts ORDER BY e.sessionid DESC, e.iteminsession DESC
        ) AS recency
    FROM staging_events AS e
    WHERE e.userid IS NOT NULL AND TRIM(BOTH ' ' FROM e.level) <> ''
),

moments AS (
    SELECT
        e.userid,
        e.ts,
        e.level,
        LAG(e.level) OVER (PARTITION BY e.userid ORDER BY e.ts) AS level_before
    FROM events AS e
    WHERE e.recency = 1
),

stretches AS (
    SELECT
        m.userid,
        m.level,
        m.ts AS valid_from,
        LEAD(m.ts) OVER (PARTITION BY m.userid ORDER BY m.ts) AS valid_to
    FROM moments AS m
    WHERE m.level_before IS NULL OR m.level_before <> m.level
)

SELECT
    s.userid AS user_id,
    s.level,
    s.valid_from,
    s.valid_to,
    s.valid_to IS NULL AS is_current
FROM stretches AS s;
