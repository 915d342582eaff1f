-- One row is one period in which a user had one level: the history of users.level, a type 2 dimension.
-- A period begins with the first event at its level, whatever the page. Of several events at the same moment the last one counts.
-- maintained by: user_id = events.user_id AND user_id = users.user_id
CREATE TABLE user_levels (
    user_id BIGINT NOT NULL REFERENCES users (user_id), -- user
    level VARCHAR(16) NOT NULL, -- free or paid
    valid_from TIMESTAMP NOT NULL, -- when the period begins, UTC
    valid_to TIMESTAMP, -- when the next period begins, UTC, exclusive; null for the current one
    is_current BOOLEAN NOT NULL, -- whether it is the current one
    PRIMARY KEY (user_id, valid_from)
)
-- a few rows per user, read by user in order of time
DISTSTYLE ALL
SORTKEY (user_id, valid_from);

INSERT INTO user_levels (user_id, level, valid_from, valid_to, is_current)
WITH told AS (
    SELECT
        e.user_id,
        e.ts,
        e.level,
        ROW_NUMBER() OVER (
            PARTITION BY e.user_id, e.ts ORDER BY e.session_id DESC, e.item_in_session DESC
        ) AS recency
    FROM events AS e
    WHERE e.user_id IS NOT NULL AND e.level <> ''
),

moments AS (
    SELECT
        t.user_id,
        t.ts,
        t.level,
        LAG(t.level) OVER (PARTITION BY t.user_id ORDER BY t.ts) AS level_before
    FROM told AS t
    WHERE t.recency = 1
),

stretches AS (
    SELECT
        m.user_id,
        m.level,
        m.ts AS valid_from,
        LEAD(m.ts) OVER (PARTITION BY m.user_id ORDER BY m.ts) AS valid_to
    FROM moments AS m
    WHERE m.level_before IS NULL OR m.level_before <> m.level
)

SELECT
    s.user_id,
    s.level,
    s.valid_from,
    s.valid_to,
    s.valid_to IS NULL AS is_current
FROM stretches AS s;
