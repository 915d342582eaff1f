-- At which hours of the day (UTC) do people play most?
SELECT h.hour, SUM(h.plays) AS plays
FROM plays_by_hour AS h
GROUP BY h.hour
ORDER BY SUM(h.plays) DESC, h.hour;
