-- One row is one text of the staging tables that is damaged, and the text as it was meant: UTF-8 was encoded twice,
-- HTML was kept, or quotes became control characters. A text without a row is sound. The SELECT finds the suspects.
-- repaired in Python
-- may be empty
-- maintained by: staging_events.object_id AND staging_songs.object_id
CREATE TABLE repaired_text (
    raw_text VARCHAR(2048) NOT NULL PRIMARY KEY, -- text as found, without outer blanks
    repaired_text VARCHAR(2048) NOT NULL -- the text as it was meant
)
-- small, and joined by whatever text: a copy on every node
DISTSTYLE ALL
SORTKEY (raw_text);

-- Each text once, and then looked at: that is quick, while to look at the text of every row is not.
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
    OCTET_LENGTH(suspect.raw_text) > LENGTH(suspect.raw_text) -- not all of it is ASCII
    OR suspect.raw_text LIKE '%&%;%'
    OR suspect.raw_text LIKE '%<%>%'
    OR suspect.raw_text <> TRANSLATE(
        suspect.raw_text, CHR(19) || CHR(20) || CHR(24) || CHR(25) || CHR(28) || CHR(29), '??????'
    );
