-- Every user's current stretch has the level that users tells.
SELECT u.user_id, u.level, l.level AS current_level
FROM users AS u
LEFT JOIN user_levels AS l ON u.user_id = l.user_id AND l.is_current
WHERE u.level <> '' AND (l.level IS NULL OR u.level <> l.level);
