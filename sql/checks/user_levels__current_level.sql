-- Every user has one current period, and its level is the one in users.
-- counts: inconsistent user
SELECT u.user_id, u.level, COUNT(l.level) AS current_stretches, MIN(l.level) AS current_level
FROM users AS u
LEFT JOIN user_levels AS l ON u.user_id = l.user_id AND l.is_current
WHERE u.level <> ''
GROUP BY u.user_id, u.level
HAVING COUNT(l.level) <> 1 OR MIN(l.level) <> u.level;
