-- One row is one kind of device, ranked by its visits.
CREATE TABLE visits_by_device (
    rank INTEGER NOT NULL, -- 1 has the most visits; devices with equally many share a rank
    device_family VARCHAR(16) NOT NULL PRIMARY KEY, -- as in sessions; (not logged) for sessions without one
    visits INTEGER NOT NULL, -- visits, each a row of sessions
    users INTEGER NOT NULL, -- users who made them
    plays INTEGER NOT NULL, -- songs played in them
    length_seconds BIGINT NOT NULL -- total length of the visits
)
-- a few rows
DISTSTYLE ALL
SORTKEY (rank, device_family);

INSERT INTO visits_by_device (rank, device_family, visits, users, plays, length_seconds)
SELECT
    RANK() OVER (ORDER BY counted.visits DESC) AS rank,
    counted.device_family,
    counted.visits,
    counted.users,
    counted.plays,
    counted.length_seconds
FROM (
    SELECT
        COALESCE(s.device_family, '(not logged)') AS device_family,
        COUNT(*) AS visits,
        COUNT(DISTINCT s.user_id) AS users,
        SUM(s.plays) AS plays,
        SUM(s.length_seconds) AS length_seconds
    FROM sessions AS s
    GROUP BY COALESCE(s.device_family, '(not logged)')
) AS counted;
