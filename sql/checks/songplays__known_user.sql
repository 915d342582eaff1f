-- Every play has a user; a play without one is kept and counted.
-- severity: warn
SELECT p.songplay_id, p.start_time, p.song, p.artist
FROM songplays AS p
WHERE p.user_id IS NULL;
