-- Who cancels? Compares users who cancelled with those who stayed, by level: how many, how active and how content were they?
SELECT
    a.level,
    a.cancelled_at IS NOT NULL AS cancelled,
    COUNT(*) AS users,
    CAST(SUM(a.days_active) AS DOUBLE PRECISION) / COUNT(*) AS mean_days_active,
    CAST(SUM(a.plays) AS DOUBLE PRECISION) / SUM(a.days_active) AS plays_a_day,
    100.0 * CAST(SUM(a.thumbs_up) AS DOUBLE PRECISION) / NULLIF(SUM(a.plays), 0) AS thumbs_up_of_100_plays,
    100.0 * CAST(SUM(a.thumbs_down) AS DOUBLE PRECISION) / NULLIF(SUM(a.plays), 0) AS thumbs_down_of_100_plays,
    100.0 * CAST(SUM(a.adverts) AS DOUBLE PRECISION) / NULLIF(SUM(a.plays), 0) AS adverts_for_100_plays
FROM user_activity AS a
GROUP BY a.level, a.cancelled_at IS NOT NULL
ORDER BY a.level, a.cancelled_at IS NOT NULL;
