-- How often did each user play each song of the catalogue in November? As in the old scripts, one row per user, without
-- song and artist, counts the plays of songs that are not in the catalogue.
SELECT s.artist_id, s.song_id, s.user_id, count(*) FROM songplays s INNER JOIN time t ON s.start_time = t.start_time WHERE t.month = 11 GROUP BY artist_id, song_id, user_id;
