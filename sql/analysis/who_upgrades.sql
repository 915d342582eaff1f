-- Who went from free to paid, when first, and after how many plays?
SELECT u.user_id, u.first_name, u.last_name, change.upgraded_at, COUNT(p.songplay_id) AS plays_before
FROM (
    SELECT c.user_id, MIN(c.valid_from) AS upgraded_at
    FROM (
        SELECT
            l.user_id,
            l.level,
            l.valid_from,
            LAG(l.level) OVER (PARTITION BY l.user_id ORDER BY l.valid_from) AS level_before
        FROM user_levels AS l
    ) AS c
    WHERE c.level = 'paid' AND c.level_before = 'free'
    GROUP BY c.user_id
) AS change
INNER JOIN users AS u ON change.user_id = u.user_id
LEFT JOIN songplays AS p ON change.user_id = p.user_id AND p.start_time < change.upgraded_at
GROUP BY u.user_id, u.first_name, u.last_name, change.upgraded_at
ORDER BY change.upgraded_at, u.user_id;
