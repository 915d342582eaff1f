-- How many sessions are there on each kind of device, how long are they, in minutes, and how much is played?
SELECT
    s.device_family,
    COUNT(*) AS sessions,
    AVG(CAST(s.length_seconds AS DOUBLE PRECISION)) / 60 AS mean_minutes,
    AVG(CAST(s.plays AS DOUBLE PRECISION)) AS mean_plays
FROM sessions AS s
WHERE s.device_family IS NOT NULL
GROUP BY s.device_family
ORDER BY COUNT(*) DESC, s.device_family;
