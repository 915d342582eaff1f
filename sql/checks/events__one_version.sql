-- No event has conflicting versions: rows with the same session, item, time and user but different contents. The first by contents counts.
-- severity: warn
-- counts: contradicting event
SELECT twin.event_id, twin.differs_in, first_object.uri AS first_file, last_object.uri AS last_file
FROM (
    SELECT
        v.event_id,
        MIN(v.object_id) AS first_object_id,
        MAX(v.object_id) AS last_object_id,
        CASE WHEN MIN(v.page) <> MAX(v.page) THEN 'page ' || MIN(v.page) || ' or ' || MAX(v.page) || '; ' ELSE '' END
        || CASE WHEN MIN(v.song) <> MAX(v.song) THEN 'song ' || MIN(v.song) || ' or ' || MAX(v.song) || '; ' ELSE '' END
        || CASE WHEN MIN(v.artist) <> MAX(v.artist) THEN 'artist ' || MIN(v.artist) || ' or ' || MAX(v.artist) || '; ' ELSE '' END
        || CASE WHEN COUNT(DISTINCT COALESCE(v.length, -1)) > 1 THEN 'length; ' ELSE '' END
        || CASE WHEN MIN(v.level) <> MAX(v.level) THEN 'level ' || MIN(v.level) || ' or ' || MAX(v.level) || '; ' ELSE '' END
        || CASE WHEN MIN(v.auth) <> MAX(v.auth) THEN 'auth ' || MIN(v.auth) || ' or ' || MAX(v.auth) || '; ' ELSE '' END
        || CASE WHEN MIN(v.firstname) <> MAX(v.firstname) THEN 'firstname ' || MIN(v.firstname) || ' or ' || MAX(v.firstname) || '; ' ELSE '' END
        || CASE WHEN MIN(v.lastname) <> MAX(v.lastname) THEN 'lastname ' || MIN(v.lastname) || ' or ' || MAX(v.lastname) || '; ' ELSE '' END
        || CASE WHEN MIN(v.gender) <> MAX(v.gender) THEN 'gender ' || MIN(v.gender) || ' or ' || MAX(v.gender) || '; ' ELSE '' END
        || CASE WHEN MIN(v.location) <> MAX(v.location) THEN 'location ' || MIN(v.location) || ' or ' || MAX(v.location) || '; ' ELSE '' END
        || CASE WHEN COUNT(DISTINCT COALESCE(v.registration, -1)) > 1 THEN 'registration; ' ELSE '' END
        || CASE WHEN MIN(v.useragent) <> MAX(v.useragent) THEN 'useragent ' || MIN(v.useragent) || ' or ' || MAX(v.useragent) || '; ' ELSE '' END
        || CASE WHEN MIN(v.method) <> MAX(v.method) THEN 'method ' || MIN(v.method) || ' or ' || MAX(v.method) || '; ' ELSE '' END
        || CASE WHEN COUNT(DISTINCT COALESCE(v.status, -1)) > 1 THEN 'status; ' ELSE '' END AS differs_in
    FROM (
        SELECT
            e.event_id,
            s.object_id,
            s.page,
            s.length,
            s.registration,
            s.status,
            COALESCE(s.song, 'null') AS song,
            COALESCE(s.artist, 'null') AS artist,
            COALESCE(s.level, 'null') AS level,
            COALESCE(s.auth, 'null') AS auth,
            COALESCE(s.firstname, 'null') AS firstname,
            COALESCE(s.lastname, 'null') AS lastname,
            COALESCE(s.gender, 'null') AS gender,
            COALESCE(s.location, 'null') AS location,
            COALESCE(s.useragent, 'null') AS useragent,
            COALESCE(s.method, 'null') AS method
        FROM events AS e
        INNER JOIN staging_events AS s
            ON
                e.session_id = s.sessionid AND e.item_in_session = s.iteminsession AND e.ts = s.ts
                AND (e.user_id = s.userid OR (e.user_id IS NULL AND s.userid IS NULL))
        WHERE e.versions > 1
    ) AS v
    GROUP BY v.event_id
) AS twin
LEFT JOIN load_history AS first_object ON twin.first_object_id = first_object.object_id
LEFT JOIN load_history AS last_object ON twin.last_object_id = last_object.object_id;
