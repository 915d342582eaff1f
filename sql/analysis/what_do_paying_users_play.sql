-- Which ten songs are played most by users while they pay?
SELECT p.song, p.artist, COUNT(*) AS plays, COUNT(DISTINCT p.user_id) AS listeners
FROM songplays AS p
WHERE p.level = 'paid'
GROUP BY p.song, p.artist
ORDER BY COUNT(*) DESC, p.song, p.artist
LIMIT 10;
