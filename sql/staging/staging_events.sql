-- One row is one record of the activity log, as delivered: an event delivered twice has two rows. The .sql file spells each column like its JSON key.
-- loaded from: event_files
-- maintained by: ts
-- a person: userId, firstName, lastName
CREATE TABLE staging_events (
    artist VARCHAR(1024), -- artist of the song played, as logged; null on every page but NextSong
    auth VARCHAR(64), -- Logged In, Logged Out, Guest or Cancelled
    firstName VARCHAR(1024), -- first name of the user; null when logged out
    gender VARCHAR(16), -- F or M; null when logged out
    itemInSession INTEGER NOT NULL, -- number of the event in its session, from 0
    lastName VARCHAR(1024), -- last name of the user; null when logged out
    length DOUBLE PRECISION, -- duration of the song played, seconds
    level VARCHAR(16), -- free or paid, when the event happened
    location VARCHAR(2048), -- where the user is; null when logged out
    method VARCHAR(16), -- HTTP method: PUT or GET
    page VARCHAR(64) NOT NULL, -- page of the app; NextSong is a play
    registration DOUBLE PRECISION, -- when the user registered, epoch milliseconds
    sessionId BIGINT NOT NULL, -- session; in some logs several users share one
    song VARCHAR(1024), -- title of the song played, as logged
    status INTEGER, -- HTTP status: 200, 307 or 404
    ts TIMESTAMP NOT NULL, -- when the event happened, UTC, milliseconds; epoch milliseconds in the JSON
    userAgent VARCHAR(2048), -- browser of the user; null when logged out
    userId BIGINT, -- user; null when logged out (empty text in the JSON)
    object_id INTEGER NOT NULL REFERENCES load_history (object_id) -- object that the row was read from
)
-- read whole, grouped by user, session and day: no key serves all; each day is stored together
DISTSTYLE EVEN
SORTKEY (ts);
