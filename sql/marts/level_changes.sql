-- One row is one day, UTC, on which users changed their level, or cancelled.
-- may be empty
CREATE TABLE level_changes (
    date DATE NOT NULL PRIMARY KEY, -- day, UTC
    upgrades INTEGER NOT NULL, -- changes from free to paid
    downgrades INTEGER NOT NULL, -- changes from paid to free
    cancellations INTEGER NOT NULL -- users who cancelled on this day for the last time
)
-- at most one row per day, read in this order
DISTSTYLE ALL
SORTKEY (date);

INSERT INTO level_changes (date, upgrades, downgrades, cancellations)
SELECT
    change.date,
    SUM(change.upgrades) AS upgrades,
    SUM(change.downgrades) AS downgrades,
    SUM(change.cancellations) AS cancellations
FROM (
    SELECT
        CAST(l.valid_from AS DATE) AS date,
        CASE WHEN l.level_before = 'free' AND l.level = 'paid' THEN 1 ELSE 0 END AS upgrades,
        CASE WHEN l.level_before = 'paid' AND l.level = 'free' THEN 1 ELSE 0 END AS downgrades,
        0 AS cancellations
    FROM (
        SELECT
            s.level,
            s.valid_from,
            LAG(s.level) OVER (PARTITION BY s.user_id ORDER BY s.valid_from) AS level_before
        FROM user_levels AS s
    ) AS l
    WHERE l.level_before IS NOT NULL
    UNION ALL
    SELECT CAST(a.cancelled_at AS DATE) AS date, 0 AS upgrades, 0 AS downgrades, 1 AS cancellations
    FROM user_activity AS a
    WHERE a.cancelled_at IS NOT NULL
) AS change
GROUP BY change.date;
