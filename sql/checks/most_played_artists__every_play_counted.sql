-- The plays of all artists add up to the rows of songplays.
-- counts: wrong sum
SELECT counted.plays, facts.plays AS songplays
FROM (SELECT COALESCE(SUM(m.plays), 0) AS plays FROM most_played_artists AS m) AS counted
CROSS JOIN (SELECT COUNT(*) AS plays FROM songplays) AS facts
WHERE counted.plays <> facts.plays;
