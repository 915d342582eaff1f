-- Which ten users play most, how many different songs, and on how many days?
SELECT
    u.user_id,
    u.first_name,
    u.last_name,
    u.level,
    COUNT(*) AS plays,
    COUNT(DISTINCT p.song || ' by ' || p.artist) AS songs,
    COUNT(DISTINCT CAST(p.start_time AS DATE)) AS days
FROM songplays AS p
INNER JOIN users AS u ON p.user_id = u.user_id
GROUP BY u.user_id, u.first_name, u.last_name, u.level
ORDER BY COUNT(*) DESC, u.user_id
LIMIT 10;
