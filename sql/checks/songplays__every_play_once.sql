-- Every NextSong event is one row of songplays, and every row of songplays is one such event.
-- counts: miscounted play
SELECT both_sides.event_id, SUM(both_sides.events) AS events, SUM(both_sides.plays) AS plays
FROM (
    SELECT e.event_id, 1 AS events, 0 AS plays
    FROM events AS e
    WHERE e.page = 'NextSong'
    UNION ALL
    SELECT p.songplay_id AS event_id, 0 AS events, 1 AS plays
    FROM songplays AS p
) AS both_sides
GROUP BY both_sides.event_id
HAVING SUM(both_sides.events) <> SUM(both_sides.plays);
