-- The events of all sessions add up to the rows of events.
-- counts: wrong sum
SELECT counted.visited, logged.events
FROM (SELECT COALESCE(SUM(s.events), 0) AS visited FROM sessions AS s) AS counted
CROSS JOIN (SELECT COUNT(*) AS events FROM events) AS logged
WHERE counted.visited <> logged.events;
