-- A session is one user's; where it is not, it counts as the last one's.
-- severity: warn
-- counts: shared session
SELECT e.sessionid AS session_id, COUNT(DISTINCT e.userid) AS users
FROM staging_events AS e
GROUP BY e.sessionid
HAVING COUNT(DISTINCT e.userid) > 1;
