-- No event is delivered again with the same contents: in its file, in a copied or renamed one, in a later load. It counts once.
-- severity: warn
-- counts: repeated row
SELECT
    first_object.uri AS first_file,
    object.uri AS file,
    COUNT(*) OVER (PARTITION BY again.first_object_id, again.object_id) AS repeated_rows,
    again.event_id
FROM (
    SELECT
        e.event_id,
        e.versions,
        s.object_id,
        MIN(s.object_id) OVER (PARTITION BY e.event_id) AS first_object_id,
        ROW_NUMBER() OVER (PARTITION BY e.event_id ORDER BY s.object_id) AS delivery
    FROM events AS e
    INNER JOIN staging_events AS s
        ON
            e.session_id = s.sessionid AND e.item_in_session = s.iteminsession AND e.ts = s.ts
            AND (e.user_id = s.userid OR (e.user_id IS NULL AND s.userid IS NULL))
    WHERE e.deliveries > e.versions
) AS again
LEFT JOIN load_history AS object ON again.object_id = object.object_id
LEFT JOIN load_history AS first_object ON again.first_object_id = first_object.object_id
WHERE again.delivery > again.versions; -- as many as there are; of an event in several versions the last ones
