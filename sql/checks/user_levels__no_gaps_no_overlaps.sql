-- Each period ends when the user's next one begins, at another level; only the last one is current.
SELECT s.user_id, s.level, s.valid_from, s.valid_to, s.is_current, s.next_level, s.next_from
FROM (
    SELECT
        l.user_id,
        l.level,
        l.valid_from,
        l.valid_to,
        l.is_current,
        LEAD(l.level) OVER (PARTITION BY l.user_id ORDER BY l.valid_from) AS next_level,
        LEAD(l.valid_from) OVER (PARTITION BY l.user_id ORDER BY l.valid_from) AS next_from
    FROM user_levels AS l
) AS s
WHERE
    (s.next_from IS NULL AND (s.valid_to IS NOT NULL OR NOT s.is_current))
    OR (
        s.next_from IS NOT NULL
        AND (s.valid_to IS NULL OR s.valid_to <> s.next_from OR s.is_current OR s.level = s.next_level)
    );
