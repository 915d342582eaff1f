-- The newest day is about as the same weekday of the eight weeks before: in its events and in the shares of paid, matched, repeated and rejected ones.
-- severity: warn
-- counts: unusual figure
SELECT d.figure, d.date, d.value, d.usual, d.deviation, d.days
FROM newest_day AS d
WHERE d.is_unusual;
