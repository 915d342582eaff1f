-- One row is one user who was logged in at least once, with the level of the latest event.
CREATE TABLE users (
    user_id BIGINT NOT NULL PRIMARY KEY, -- user, natural key
    first_name VARCHAR(1024), -- first name
    last_name VARCHAR(1024), -- last name
    gender VARCHAR(16), -- F or M
    level VARCHAR(16) -- free or paid, at the latest event of the user
)
-- a small dimension, joined by user: a copy on every node, in the order of its key
DISTSTYLE ALL
SORTKEY (user_id);

INSERT INTO users (user_id, first_name, last_name, gender, level)
SELECT
    latest.userid AS user_id,
    COALESCE(first_name.repaired_text, TRIM(BOTH ' ' FROM latest.firstname)) AS first_name,
    COALESCE(last_name.repaired_text, TRIM(BOTH ' ' FROM latest.lastname)) AS last_name,
    TRIM(BOTH ' ' FROM latest.gender) AS gender,
    TRIM(BOTH ' ' FROM latest.level) AS level
FROM (
    SELECT
        e.userid,
        e.firstname,
        e.lastname,
        e.gender,
        e.level,
        ROW_NUMBER() OVER (
            PARTITION BY e.userid ORDER BY e.ts DESC, e.sessionid DESC, e.iteminsession DESC
        ) AS recency
    FROM staging_events AS e
    WHERE e.userid IS NOT NULL
) AS latest
LEFT JOIN repaired_text AS first_name ON TRIM(BOTH ' ' FROM latest.firstname) = first_name.raw_text
LEFT JOIN repaired_text AS last_name ON TRIM(BOTH ' ' FROM latest.lastname) = last_name.raw_text
WHERE latest.recency = 1;
