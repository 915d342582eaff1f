-- One row is one hour of one weekday (UTC) with at least one play: a cell of the week's heat map.
CREATE TABLE plays_by_hour (
    weekday INTEGER NOT NULL, -- 0 is Sunday, 6 is Saturday
    hour INTEGER NOT NULL, -- 0 to 23
    plays INTEGER NOT NULL, -- plays on all these weekdays
    listeners INTEGER NOT NULL, -- how many users played them
    days INTEGER NOT NULL, -- days of this weekday with at least one play: a month has four or five
    PRIMARY KEY (weekday, hour)
)
-- 168 rows at most, read in this order
DISTSTYLE ALL
SORTKEY (weekday, hour);

INSERT INTO plays_by_hour (weekday, hour, plays, listeners, days)
SELECT
    played.weekday,
    played.hour,
    COUNT(*) AS plays,
    COUNT(DISTINCT played.user_id) AS listeners,
    w.days
FROM (
    SELECT
        p.user_id,
        CAST(EXTRACT(DOW FROM p.start_time) AS INTEGER) AS weekday,
        CAST(EXTRACT(HOUR FROM p.start_time) AS INTEGER) AS hour
    FROM songplays AS p
) AS played
INNER JOIN (
    SELECT
        CAST(EXTRACT(DOW FROM d.start_time) AS INTEGER) AS weekday,
        COUNT(DISTINCT CAST(d.start_time AS DATE)) AS days
    FROM songplays AS d
    GROUP BY CAST(EXTRACT(DOW FROM d.start_time) AS INTEGER)
) AS w ON played.weekday = w.weekday
GROUP BY played.weekday, played.hour, w.days;
