-- One row is one figure of the newest complete day, compared with the same weekday of the last eight weeks.
-- plots: value
CREATE TABLE newest_day (
    figure VARCHAR(32) NOT NULL PRIMARY KEY, -- the number of events, or a share: paid, matched, repeated or rejected
    date DATE NOT NULL, -- day, UTC; for the rejected share the day of the loads
    value DOUBLE PRECISION NOT NULL, -- the figure on this day
    usual DOUBLE PRECISION, -- median of the figure on the earlier days; null if there are none
    deviation DOUBLE PRECISION, -- median absolute deviation from the median
    days INTEGER NOT NULL, -- number of earlier days
    is_unusual BOOLEAN NOT NULL -- whether it is more than five standard deviations from usual; never with fewer than four earlier days
)
-- one row per figure
DISTSTYLE ALL
SORTKEY (figure);

INSERT INTO newest_day (figure, date, value, usual, deviation, days, is_unusual)
WITH loads AS (
    SELECT
        CAST(h.loaded_at AS DATE) AS date,
        SUM(h.records) AS records,
        SUM(h.rows_rejected) AS rows_rejected
    FROM load_history AS h
    WHERE h.table_name = 'staging_events'
    GROUP BY CAST(h.loaded_at AS DATE)
),

days AS (
    SELECT d.*
    FROM plays_by_day AS d
    WHERE d.date < (SELECT MAX(l.date) FROM loads AS l)
),

figures AS (
    SELECT 'events' AS figure, d.date, CAST(d.events AS DOUBLE PRECISION) AS value
    FROM days AS d
    UNION ALL
    SELECT 'paid_share' AS figure, d.date, CAST(d.paid_plays AS DOUBLE PRECISION) / d.plays AS value
    FROM days AS d
    WHERE d.plays > 0
    UNION ALL
    SELECT 'matched_share' AS figure, d.date, CAST(d.matched_plays AS DOUBLE PRECISION) / d.plays AS value
    FROM days AS d
    WHERE d.plays > 0
    UNION ALL
    SELECT 'repeated_share' AS figure, d.date, CAST(d.repeated_events AS DOUBLE PRECISION) / (d.events + d.repeated_events) AS value
    FROM days AS d
    UNION ALL
    SELECT 'rejected_share' AS figure, l.date, CAST(l.rows_rejected AS DOUBLE PRECISION) / l.records AS value
    FROM loads AS l
    WHERE l.records > 0
),

newest AS (
    SELECT f.figure, MAX(f.date) AS date
    FROM figures AS f
    GROUP BY f.figure
),

earlier AS (
    SELECT f.figure, f.value
    FROM figures AS f
    INNER JOIN newest AS n
        ON
            f.figure = n.figure
            AND f.date < n.date
            AND f.date >= n.date - 56
            AND EXTRACT(DOW FROM f.date) = EXTRACT(DOW FROM n.date)
),

usual AS (
    SELECT
        e.figure,
        COUNT(*) AS days,
        PERCENTILE_CONT(0.5) WITHIN GROUP (ORDER BY e.value) AS value
    FROM earlier AS e
    GROUP BY e.figure
),

deviations AS (
    SELECT e.figure, PERCENTILE_CONT(0.5) WITHIN GROUP (ORDER BY ABS(e.value - u.value)) AS value
    FROM earlier AS e
    INNER JOIN usual AS u ON e.figure = u.figure
    GROUP BY e.figure
)

SELECT
    f.figure,
    f.date,
    f.value,
    u.value AS usual,
    s.value AS deviation,
    COALESCE(u.days, 0) AS days,
    -- 1.4826 median deviations are one standard deviation; below a fifth of the events, or 0.02 of a share, is usual
    COALESCE(
        u.days >= 4
        AND ABS(f.value - u.value) > 5 * 1.4826 * s.value
        AND ABS(f.value - u.value) > CASE WHEN f.figure = 'events' THEN u.value / 5 ELSE 0.02 END,
        FALSE
    ) AS is_unusual
FROM figures AS f
INNER JOIN newest AS n ON f.figure = n.figure AND f.date = n.date
LEFT JOIN usual AS u ON f.figure = u.figure
LEFT JOIN deviations AS s ON f.figure = s.figure;
