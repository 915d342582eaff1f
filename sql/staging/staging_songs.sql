-- One row is one song record of the catalogue, as delivered. The .sql file spells each column like its JSON key.
-- loaded from: song_files
CREATE TABLE staging_songs (
    num_songs INTEGER, -- songs in the record, always 1
    artist_id VARCHAR(64) NOT NULL, -- artist of the song
    artist_latitude DOUBLE PRECISION, -- degrees north; null together with the longitude
    artist_longitude DOUBLE PRECISION, -- degrees east
    artist_location VARCHAR(2048), -- where the artist is from, free text, often empty, sometimes HTML
    artist_name VARCHAR(1024) NOT NULL, -- name of the artist on this song; one artist_id may have several
    song_id VARCHAR(64) NOT NULL, -- song
    title VARCHAR(1024) NOT NULL, -- title of the song
    duration DOUBLE PRECISION, -- seconds
    year INTEGER, -- year of release; 0 is unknown
    object_id INTEGER NOT NULL REFERENCES load_history (object_id) -- object that the row was read from
)
-- always read whole, grouped by song and by artist: no key serves both
DISTSTYLE EVEN;
