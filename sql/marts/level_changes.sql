-- One row is one day, UTC, on which users changed their level.
-- may be empty
CREATE TABLE level_changes (
    date DATE NOT NULL PRIMARY KEY, -- day, UTC
    upgrades INTEGER NOT NULL, -- changes from free to paid
    downgrades INTEGER NOT NULL -- changes from paid to free
)
-- at most a row a day, read in this order
DISTSTYLE ALL
SORTKEY (date);

INSERT INTO level_changes (date, upgrades, downgrades)
SELECT
    CAST(change.valid_from AS DATE) AS date,
    COUNT(CASE WHEN change.level_before = 'free' AND change.level = 'paid' THEN 1 END) AS upgrades,
    COUNT(CASE WHEN change.level_before = 'paid' AND change.level = 'free' THEN 1 END) AS downgrades
FROM (
    SELECT
        l.level,
        l.valid_from,
        LAG(l.level) OVER (PARTITION BY l.user_id ORDER BY l.valid_from) AS level_before
    FROM user_levels AS l
) AS change
WHERE change.level_before IS NOT NULL
GROUP BY CAST(change.valid_from AS DATE);
