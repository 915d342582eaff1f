-- The events of all sessions add up to the rows of staging_events.
-- counts: wrong sum
SELECT counted.events, facts.events AS staging_events
FROM (SELECT COALESCE(SUM(s.events), 0) AS events FROM sessions AS s) AS counted
CROSS JOIN (SELECT COUNT(*) AS events FROM staging_events) AS facts
WHERE counted.events <> facts.events;
