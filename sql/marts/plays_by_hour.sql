-- One row is one hour of one weekday, UTC, in which something was played: a cell of the week's heat map.
CREATE TABLE plays_by_hour (
    weekday INTEGER NOT NULL, -- 0 is Sunday, 6 is Saturday
    hour INTEGER NOT NULL, -- 0 to 23
    plays INTEGER NOT NULL, -- plays on all these weekdays
    listeners INTEGER NOT NULL, -- how many users played them
    days INTEGER NOT NULL, -- days of this weekday on which anything was played: a month has four or five
    PRIMARY KEY (weekday, hour)
)
-- 168 rows at most, read in this order
DISTSTYLE ALL
SORTKEY (weekday, hour);

INSERT INTO plays_by_hour (weekday, hour, plays, listeners, days)
SELECT
    t.weekday,
    t.hour,
    COUNT(*) AS plays,
    COUNT(DISTINCT p.user_id) AS listeners,
    w.days
FROM songplays AS p
INNER JOIN time AS t ON p.start_time = t.start_time
INNER JOIN (
    SELECT d.weekday, COUNT(DISTINCT CAST(d.start_time AS DATE)) AS days
    FROM time AS d
    GROUP BY d.weekday
) AS w ON t.weekday = w.weekday
GROUP BY t.weekday, t.hour, w.days;
