-- One row is one user who was logged in at least once, with the level of the latest event.
-- maintained by: user_id = events.user_id
CREATE TABLE users (
    user_id BIGINT NOT NULL PRIMARY KEY, -- user, natural key
    first_name VARCHAR(1024), -- first name
    last_name VARCHAR(1024), -- last name
    gender VARCHAR(16), -- F or M
    level VARCHAR(16) -- free or paid, at the latest event of the user
)
-- a small dimension, joined by user: a copy on every node, sorted by key
DISTSTYLE ALL
SORTKEY (user_id);

INSERT INTO users (user_id, first_name, last_name, gender, level)
-- The time of the latest event first: numbering all events would be slow.
WITH ends AS (
    SELECT e.user_id, MAX(e.ts) AS ts
    FROM events AS e
    WHERE e.user_id IS NOT NULL
    GROUP BY e.user_id
)

SELECT
    latest.user_id,
    latest.first_name,
    latest.last_name,
    latest.gender,
    latest.level
FROM (
    SELECT
        e.user_id,
        e.first_name,
        e.last_name,
        e.gender,
        e.level,
        ROW_NUMBER() OVER (PARTITION BY e.user_id ORDER BY e.session_id DESC, e.item_in_session DESC) AS recency
    FROM events AS e
    INNER JOIN ends AS x ON e.user_id = x.user_id AND e.ts = x.ts
) AS latest
WHERE latest.recency = 1;
