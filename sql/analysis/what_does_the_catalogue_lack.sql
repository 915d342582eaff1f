-- Which ten songs that are not in the catalogue are played most, and what is each one's share of all plays?
SELECT
    m.rank,
    m.song,
    m.artist,
    m.plays,
    100.0 * CAST(m.plays AS DOUBLE PRECISION) / c.plays AS percent_of_plays
FROM most_played_songs AS m
CROSS JOIN catalogue_coverage AS c
WHERE NOT m.in_catalogue
ORDER BY m.rank, m.song, m.artist
LIMIT 10;
