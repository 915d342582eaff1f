-- Every NextSong event is one row of songplays, and every row of songplays is one such event.
-- counts: miscounted play
SELECT
    both_sides.session_id,
    both_sides.item_in_session,
    SUM(both_sides.events) AS events,
    SUM(both_sides.plays) AS plays
FROM (
    SELECT e.sessionid AS session_id, e.iteminsession AS item_in_session, 1 AS events, 0 AS plays
    FROM staging_events AS e
    WHERE e.page = 'NextSong'
    UNION ALL
    SELECT p.session_id, p.item_in_session, 0 AS events, 1 AS plays
    FROM songplays AS p
) AS both_sides
GROUP BY both_sides.session_id, both_sides.item_in_session
HAVING SUM(both_sides.events) <> SUM(both_sides.plays);
