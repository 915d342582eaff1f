-- The plays of all songs add up to the rows of songplays.
-- counts: wrong sum
SELECT ranked.plays, facts.plays AS songplays
FROM (SELECT COALESCE(SUM(m.plays), 0) AS plays FROM most_played_songs AS m) AS ranked
CROSS JOIN (SELECT COUNT(*) AS plays FROM songplays) AS facts
WHERE ranked.plays <> facts.plays;
