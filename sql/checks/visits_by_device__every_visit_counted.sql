-- The visits of all devices add up to the rows of sessions.
-- counts: wrong sum
SELECT counted.visits, made.visits AS sessions
FROM (SELECT COALESCE(SUM(d.visits), 0) AS visits FROM visits_by_device AS d) AS counted
CROSS JOIN (SELECT COUNT(*) AS visits FROM sessions) AS made
WHERE counted.visits <> made.visits;
