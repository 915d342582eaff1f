-- The users who first played in some week add up to the users who played at all.
-- counts: wrong sum
SELECT counted.users, facts.users AS listeners
FROM (
    SELECT COALESCE(SUM(r.users), 0) AS users
    FROM retention_by_week AS r
    WHERE r.active_week = r.first_week
) AS counted
CROSS JOIN (SELECT COUNT(DISTINCT p.user_id) AS users FROM songplays AS p) AS facts
WHERE counted.users <> facts.users;
