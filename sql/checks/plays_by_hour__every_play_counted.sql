-- The plays of all hours add up to the rows of songplays.
-- counts: wrong sum
SELECT counted.plays, facts.plays AS songplays
FROM (SELECT COALESCE(SUM(m.plays), 0) AS plays FROM plays_by_hour AS m) AS counted
CROSS JOIN (SELECT COUNT(*) AS plays FROM songplays) AS facts
WHERE counted.plays <> facts.plays;
