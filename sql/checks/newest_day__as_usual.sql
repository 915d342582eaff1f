-- The newest day resembles the same weekday of the last eight weeks in its number of events and its shares of paid, matched, repeated and rejected ones.
-- severity: warn
-- counts: unusual figure
SELECT d.figure, d.date, d.value, d.usual, d.deviation, d.days
FROM newest_day AS d
WHERE d.is_unusual;
