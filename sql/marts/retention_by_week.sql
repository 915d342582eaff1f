-- One row is one cohort in one week: of the users who first played in first_week, how many played in active_week.
-- may be empty
CREATE TABLE retention_by_week (
    first_week DATE NOT NULL, -- Monday of the week, UTC, in which the users first played a song
    active_week DATE NOT NULL, -- Monday of a week, UTC, with at least one play: first_week or later
    users INTEGER NOT NULL, -- users who first played in first_week
    active_users INTEGER NOT NULL, -- users among them who played in active_week
    PRIMARY KEY (first_week, active_week)
)
-- small: one row per pair of weeks, read in this order
DISTSTYLE ALL
SORTKEY (first_week, active_week);

INSERT INTO retention_by_week (first_week, active_week, users, active_users)
WITH played AS (
    SELECT DISTINCT
        p.user_id,
        CAST(DATE_TRUNC('week', p.start_time) AS DATE) AS week
    FROM songplays AS p
    WHERE p.user_id IS NOT NULL
),

beginnings AS (
    SELECT
        p.user_id,
        MIN(p.week) AS first_week
    FROM played AS p
    GROUP BY p.user_id
),

active AS (
    SELECT
        b.first_week,
        p.week,
        COUNT(*) AS users
    FROM played AS p
    INNER JOIN beginnings AS b ON p.user_id = b.user_id
    GROUP BY b.first_week, p.week
),

weeks AS (
    SELECT DISTINCT p.week
    FROM played AS p
)

SELECT
    cohort.first_week,
    w.week AS active_week,
    cohort.users,
    COALESCE(a.users, 0) AS active_users
FROM active AS cohort
INNER JOIN weeks AS w ON cohort.first_week <= w.week
LEFT JOIN active AS a ON cohort.first_week = a.first_week AND w.week = a.week
WHERE cohort.week = cohort.first_week;
