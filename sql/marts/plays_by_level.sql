-- One row is one level, paid or free: the users who have it now, and the plays at that level.
CREATE TABLE plays_by_level (
    level VARCHAR(16) NOT NULL PRIMARY KEY, -- paid or free
    users INTEGER NOT NULL, -- users whose level it is now
    listeners INTEGER NOT NULL, -- users who played a song while they had it
    plays INTEGER NOT NULL -- plays by users while they had it
)
-- a few rows
DISTSTYLE ALL
SORTKEY (level);

INSERT INTO plays_by_level (level, users, listeners, plays)
SELECT
    counted.level,
    SUM(counted.users) AS users,
    SUM(counted.listeners) AS listeners,
    SUM(counted.plays) AS plays
FROM (
    SELECT
        COALESCE(NULLIF(u.level, ''), '(not logged)') AS level,
        COUNT(*) AS users,
        0 AS listeners,
        0 AS plays
    FROM users AS u
    GROUP BY COALESCE(NULLIF(u.level, ''), '(not logged)')
    UNION ALL
    SELECT
        COALESCE(NULLIF(p.level, ''), '(not logged)') AS level,
        0 AS users,
        COUNT(DISTINCT p.user_id) AS listeners,
        COUNT(*) AS plays
    FROM songplays AS p
    GROUP BY COALESCE(NULLIF(p.level, ''), '(not logged)')
) AS counted
GROUP BY counted.level;
