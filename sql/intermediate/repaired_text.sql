-- One row is one damaged text of the staging tables and its repair: UTF-8 was encoded twice, HTML was left in, or
-- quotes became control characters. A text without a row is sound. The SELECT finds suspect texts.
-- repaired in Python
-- may be empty
-- maintained by: staging_events.object_id AND staging_songs.object_id
CREATE TABLE repaired_text (
    raw_text VARCHAR(2048) NOT NULL PRIMARY KEY, -- text as delivered, without outer blanks
    repaired_text VARCHAR(2048) NOT NULL -- repaired text
)
-- small, and joined by any text: a copy on every node
DISTSTYLE ALL
SORTKEY (raw_text);

-- Distinct texts first: testing the text of every row would be slow.
SELECT DISTINCT suspect.raw_text
FROM (
    SELECT TRIM(BOTH ' ' FROM found.raw_text) AS raw_text
    FROM (
        SELECT e.song AS raw_text FROM staging_events AS e
        UNION
        SELECT e.artist AS raw_text FROM staging_events AS e
        UNION
        SELECT e.location AS raw_text FROM staging_events AS e
        UNION
        SELECT e.firstname AS raw_text FROM staging_events AS e
        UNION
        SELECT e.lastname AS raw_text FROM staging_events AS e
        UNION
        SELECT s.title AS raw_text FROM staging_songs AS s
        UNION
        SELECT s.artist_name AS raw_text FROM staging_songs AS s
        UNION
        SELECT s.artist_location AS raw_text FROM staging_songs AS s
    ) AS found
) AS suspect
WHERE
    OCTET_LENGTH(suspect.raw_text) > LENGTH(suspect.raw_text) -- not pure ASCII
    OR suspect.raw_text LIKE '%&%;%'
    OR suspect.raw_text LIKE '%<%>%'
    OR suspect.raw_text <> TRANSLATE(
        suspect.raw_text, CHR(19) || CHR(20) || CHR(24) || CHR(25) || CHR(28) || CHR(29), '??????'
    );
