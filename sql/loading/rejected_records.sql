-- One row is one record of the source that could not become a row of its staging table.
-- may be empty
CREATE TABLE rejected_records (
    object_id INTEGER NOT NULL REFERENCES load_history (object_id), -- object that contains the record
    uri VARCHAR(2048) NOT NULL, -- URI of that object
    line_number BIGINT NOT NULL, -- line on which the record starts, from 1
    column_name VARCHAR(128), -- column whose value does not fit; null if the record as a whole cannot be read
    reason VARCHAR(1024) NOT NULL, -- what is wrong
    raw_text VARCHAR(65535) -- the record as found, cut at 65,000 bytes; bytes that are not text as \xNN
)
-- never joined; looked up and deleted by object
DISTSTYLE EVEN
SORTKEY (object_id);
