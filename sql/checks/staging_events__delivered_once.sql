-- No record is delivered twice with the same contents, in the same file, in a copy, or in a later load. Its event counts once.
-- severity: warn
-- counts: repeated row
-- on: new rows
SELECT first_object.uri AS first_file, object.uri AS file, again.copies
FROM (
    SELECT record.first_object_id, record.object_id, COUNT(*) AS copies
    FROM (
        SELECT
            s.object_id,
            MIN(s.object_id) OVER (
                PARTITION BY
                    s.sessionid, s.iteminsession, s.ts, s.userid, s.page, s.song, s.artist, s.length, s.level, s.auth,
                    s.firstname, s.lastname, s.gender, s.location, s.registration, s.useragent, s.method, s.status
            ) AS first_object_id,
            ROW_NUMBER() OVER (
                PARTITION BY
                    s.sessionid, s.iteminsession, s.ts, s.userid, s.page, s.song, s.artist, s.length, s.level, s.auth,
                    s.firstname, s.lastname, s.gender, s.location, s.registration, s.useragent, s.method, s.status
                ORDER BY s.object_id
            ) AS delivery
        FROM staging_events AS s
        INNER JOIN ( -- compare whole rows only where the key repeats
            SELECT e.sessionid, e.iteminsession, e.ts
            FROM staging_events AS e
            GROUP BY e.sessionid, e.iteminsession, e.ts
            HAVING COUNT(*) > 1
        ) AS alike ON s.sessionid = alike.sessionid AND s.iteminsession = alike.iteminsession AND s.ts = alike.ts
    ) AS record
    WHERE record.delivery > 1
    GROUP BY record.first_object_id, record.object_id
) AS again
LEFT JOIN load_history AS object ON again.object_id = object.object_id
LEFT JOIN load_history AS first_object ON again.first_object_id = first_object.object_id
ORDER BY again.copies DESC, first_object.uri, object.uri;
