-- How often did each user play each song of the catalogue in November? As the old scripts asked it: of the plays whose
-- song the catalogue does not know, one row a user tells, without song and artist.
SELECT s.artist_id, s.song_id, s.user_id, count(*) FROM songplays s INNER JOIN time t ON s.start_time = t.start_time WHERE t.month = 11 GROUP BY artist_id, song_id, user_id;
