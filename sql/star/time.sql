-- One row is one moment at which at least one song started, UTC.
-- maintained by: start_time = events.ts
CREATE TABLE time (
    start_time TIMESTAMP NOT NULL PRIMARY KEY, -- moment, UTC, milliseconds, natural key
    hour INTEGER NOT NULL, -- 0 to 23
    day INTEGER NOT NULL, -- day of the month, 1 to 31
    week INTEGER NOT NULL, -- ISO week, 1 to 53
    month INTEGER NOT NULL, -- 1 to 12
    year INTEGER NOT NULL, -- calendar year
    weekday INTEGER NOT NULL -- 0 is Sunday, 6 is Saturday
)
-- as many rows as songplays, collocated with them and sorted alike, for a merge join
DISTKEY (start_time)
SORTKEY (start_time);

INSERT INTO time (start_time, hour, day, week, month, year, weekday)
SELECT
    play.ts AS start_time,
    CAST(EXTRACT(HOUR FROM play.ts) AS INTEGER) AS hour,
    CAST(EXTRACT(DAY FROM play.ts) AS INTEGER) AS day,
    CAST(EXTRACT(WEEK FROM play.ts) AS INTEGER) AS week,
    CAST(EXTRACT(MONTH FROM play.ts) AS INTEGER) AS month,
    CAST(EXTRACT(YEAR FROM play.ts) AS INTEGER) AS year,
    CAST(EXTRACT(DOW FROM play.ts) AS INTEGER) AS weekday
FROM (SELECT DISTINCT e.ts FROM events AS e WHERE e.page = 'NextSong') AS play;
