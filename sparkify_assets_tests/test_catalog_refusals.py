"""What `sql/` may not say, and the message with path and reason."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from sparkify_assets.catalog import Catalog
from sparkify_assets.errors import SparkifyError
from sparkify_assets_tests.platform import Platform, failure_of

BAD_FILES = {
    "does not parse": (
        "star/bad.sql",
        "-- One row.\nCREATE TABLE bad (a INTEGER;",
        r"star/bad\.sql: does not parse as Redshift SQL: line 2",
    ),
    "an open quote": ("star/bad.sql", "CREATE TABLE bad (a INTEGER) 'x", "does not parse"),
    "an empty file": ("star/bad.sql", "", "expected CREATE TABLE with its columns"),
    "no columns": ("star/bad.sql", "CREATE TABLE bad ();", "no columns|expected CREATE TABLE"),
    "a table without columns": (
        "star/bad.sql",
        "CREATE TABLE bad AS SELECT 1 AS a;",
        "expected CREATE TABLE with its columns",
    ),
    "another name": ("star/bad.sql", "CREATE TABLE good (a INTEGER);", "declares the table good"),
    "an unknown upstream": (
        "star/bad.sql",
        "CREATE TABLE bad (a INTEGER); INSERT INTO bad (a) SELECT x.a FROM nowhere AS x;",
        r"star/bad\.sql:1: unknown table nowhere; known: artists, bad, ",
    ),
    "a misspelled upstream": (
        "star/bad.sql",
        "-- One.\nCREATE TABLE bad (a INTEGER);\n\nINSERT INTO bad (a)\n"
        "SELECT u.user_id AS a FROM userss AS u;",
        r"star/bad\.sql:5: unknown table userss: maybe users",
    ),
    "a misspelled type": (
        "star/bad.sql",
        "CREATE TABLE bad (a INTEGRE NOT NULL);",
        "near 'INTEGRE'. Is a comma missing, or a word misspelled",
    ),
    "an unknown reference": (
        "star/bad.sql",
        "CREATE TABLE bad (a INTEGER REFERENCES nowhere (a));",
        "unknown table nowhere",
    ),
    "an unknown column referred to": (
        "star/bad.sql",
        "CREATE TABLE bad (a INTEGER REFERENCES users (nobody));",
        r"a refers to users\.nobody, which does not exist",
    ),
    "other columns": (
        "star/bad.sql",
        "CREATE TABLE bad (a INTEGER, b INTEGER); "
        "INSERT INTO bad (a, b) SELECT u.user_id AS b, u.user_id AS a FROM users AS u;",
        r"SELECT gives the columns \(b, a\), but CREATE TABLE declares \(a, b\)",
    ),
    "no column list": (
        "star/bad.sql",
        "CREATE TABLE bad (a INTEGER); INSERT INTO bad SELECT u.user_id AS a FROM users AS u;",
        r"INSERT INTO names the columns \(none\)",
    ),
    "repairs of no texts": (
        "star/bad.sql",
        "-- One.\n-- repaired in Python\nCREATE TABLE bad (a VARCHAR(9), b VARCHAR(9)); "
        "INSERT INTO bad (a, b) SELECT u.level AS a, u.level AS b FROM users AS u;",
        "a table repaired in Python has two columns, a text and its repair: expected a SELECT",
    ),
    "another target": (
        "star/bad.sql",
        "CREATE TABLE bad (a INTEGER); INSERT INTO users (a) SELECT u.user_id AS a FROM time AS u;",
        "the INSERT fills another table, not bad",
    ),
    "a third statement": (
        "star/bad.sql",
        "CREATE TABLE bad (a INTEGER); SELECT 1; SELECT 2;",
        "at most one INSERT INTO",
    ),
    "a schema": (
        "star/bad.sql",
        "CREATE TABLE bad (a INTEGER); "
        "INSERT INTO bad (a) SELECT u.user_id AS a FROM public.users AS u;",
        "without a schema",
    ),
    "a column twice": (
        "star/bad.sql",
        "CREATE TABLE bad (a INTEGER, A INTEGER);",
        "declares a twice",
    ),
    "a person without a name": (
        "star/bad.sql",
        "-- One.\n-- a person: a\nCREATE TABLE bad (a INTEGER);",
        "a person: expected columns, the id and then names, not",
    ),
    "a circle": (
        "star/bad.sql",
        "CREATE TABLE bad (a INTEGER); INSERT INTO bad (a) SELECT w.a FROM worse AS w;",
        "in a circle: .*bad.*worse",
    ),
    "a check of nothing": (
        "checks/bad__check.sql",
        "SELECT 1 AS a",
        "unknown table bad",
    ),
    "a check that is no query": (
        "checks/users__check.sql",
        "DELETE FROM users",
        "expected one SELECT that returns the violating rows",
    ),
    "a check that reads what comes later": (
        "checks/users__check.sql",
        "-- No.\nSELECT p.user_id FROM songplays AS p",
        "in a circle: .*songplays.*users",
    ),
    "a check of a name that is taken": (
        "checks/users__row_count.sql",
        "-- No.\nSELECT u.user_id FROM users AS u",
        r"users__row_count\.sql: .*users\.sql has a check of that name already",
    ),
    "no INSERT": ("star/bad.sql", "CREATE TABLE bad (a INTEGER);", "has no INSERT, and no line"),
    "a check without a name": ("checks/users.sql", "SELECT 1", "<table>__<check>.sql"),
    "a severity": (
        "checks/users__check.sql",
        "-- No.\n-- severity: low\nSELECT 1 AS a",
        "severity is 'low': expected warn or error",
    ),
    "maintained by no key": (
        "star/bad.sql",
        "-- One.\n-- maintained by: a = users.user_id\n"
        "CREATE TABLE bad (a INTEGER); INSERT INTO bad (a) SELECT u.user_id AS a FROM users AS u;",
        "maintained by: a is not a NOT NULL column of a type for keys",
    ),
    "maintained by what it does not read": (
        "star/bad.sql",
        "-- One.\n-- maintained by: a = time.hour\nCREATE TABLE bad (a INTEGER NOT NULL); "
        "INSERT INTO bad (a) SELECT u.user_id AS a FROM users AS u;",
        "maintained by: the query does not read time",
    ),
    "maintained by a column that there is not": (
        "star/bad.sql",
        "-- One.\n-- maintained by: a = users.usr_id\nCREATE TABLE bad (a INTEGER NOT NULL); "
        "INSERT INTO bad (a) SELECT u.user_id AS a FROM users AS u;",
        "users.usr_id: users has no usr_id",
    ),
    "maintained by two columns of one table": (
        "star/bad.sql",
        "-- One.\n-- maintained by: a = songplays.song AND a = songplays.artist\n"
        "CREATE TABLE bad (a VARCHAR(1024) NOT NULL); "
        "INSERT INTO bad (a) SELECT p.song AS a FROM songplays AS p;",
        "expected column = table.column, not a = songplays.artist",
    ),
    "maintained by way of what is not tied": (
        "star/bad.sql",
        "-- One.\n-- maintained by: users.user_id = songplays.user_id\n"
        "CREATE TABLE bad (a BIGINT NOT NULL); "
        "INSERT INTO bad (a) SELECT p.user_id AS a FROM songplays AS p INNER JOIN users AS u "
        "ON p.user_id = u.user_id;",
        "expected column = table.column for each table on a way",
    ),
    "maintained by a key that is no text and back": (
        "star/bad.sql",
        "-- One.\n-- maintained by: a = songs.duration\n"
        "CREATE TABLE bad (a DOUBLE PRECISION NOT NULL); "
        "INSERT INTO bad (a) SELECT s.duration AS a FROM songs AS s;",
        "a is not a NOT NULL column of a type for keys",
    ),
    "maintained by no equality": (
        "star/bad.sql",
        "-- One.\n-- maintained by: a < users.user_id\nCREATE TABLE bad (a INTEGER NOT NULL); "
        "INSERT INTO bad (a) SELECT u.user_id AS a FROM users AS u;",
        "expected column = table.column, not a < users.user_id",
    ),
    "maintained by no condition": (
        "star/bad.sql",
        "-- One.\n-- maintained by: a = = b\nCREATE TABLE bad (a INTEGER NOT NULL); "
        "INSERT INTO bad (a) SELECT u.user_id AS a FROM users AS u;",
        "'a = = b' does not parse as a condition",
    ),
    "the rows of a check": (
        "checks/users__check.sql",
        "-- No.\n-- on: some rows\nSELECT 1 AS a",
        "on is 'some rows': expected new rows or all rows",
    ),
    "rows to show": (
        "star/bad.sql",
        "-- One.\n-- show rows: many\nCREATE TABLE bad (a INTEGER);",
        "show rows: expected 10, or 10 of a, not many",
    ),
    "a type that JSON is not read into": (
        "staging/bad.sql",
        "-- One.\n-- loaded from: song_files\n"
        "CREATE TABLE bad (a DECIMAL(9, 2), object_id INTEGER);",
        r"type DECIMAL\(9, 2\) is not one that JSON is read into",
    ),
    "a staging table without the object's id": (
        "staging/bad.sql",
        "-- One.\n-- loaded from: song_files\nCREATE TABLE bad (a INTEGER);",
        "declares a column object_id",
    ),
    "a source that is none": (
        "staging/bad.sql",
        "-- One.\n-- loaded from: nowhere\nCREATE TABLE bad (a INTEGER);",
        "loaded from nowhere: expected one of song_files, event_files",
    ),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_bad_file_is_refused_with_its_path_and_reason(platform: Platform, case: str) -> None:
    file, text, said = BAD_FILES[case]
    worse = "CREATE TABLE worse (a INTEGER); INSERT INTO worse (a) SELECT b.a FROM bad AS b;"
    if case == "a circle":
        (platform.sql / "star" / "worse.sql").write_text(worse)
    (platform.sql / file).write_text(text)
    platform.write_songs([{}])
    platform.write_events([{}])
    with pytest.raises(SparkifyError, match=said):
        result = platform.run("bad")
        raise SparkifyError(failure_of(result))


REFUSED = {
    **{
        f"a INTEGER, B {kind}": f"column b: the engines do not share the type {kind}"
        for kind in (
            *("SUPER", "GEOMETRY", "GEOGRAPHY", "HLLSKETCH", "VARBYTE", "VARBYTE(9)", "UUID"),
            *("INTERVAL YEAR TO MONTH", "INTERVAL DAY TO SECOND", "TIMESTAMP(3)", "INTEGER[]"),
        )
    },
    **{
        f"a INTEGER{constraint}": f"{constraint.strip(', ')} has no effect: declare only keys"
        for constraint in (
            *(" UNIQUE", " DEFAULT 1", " CHECK (a > 1)", " IDENTITY(0, 1)"),
            *(", UNIQUE (a)", ", CONSTRAINT of_bad PRIMARY KEY (a)"),
        )
    },
}


def test_what_not_both_engines_have_or_nobody_proves_is_refused(platform: Platform) -> None:
    """It would be dropped in silence, or be believed by Redshift alone."""
    path = platform.sql / "star" / "bad.sql"
    for columns, said in REFUSED.items():
        path.write_text(f"CREATE TABLE bad ({columns});")
        with pytest.raises(SparkifyError, match=f"^{re.escape(f'{path}: {said}')}"):
            Catalog.load(platform.sql)


MISTAKES = {
    "p.user_idd AS a\nFROM songplays AS p": "bad.sql:3: Unknown column: user_idd: maybe user_id$",
    "user_idd AS a\nFROM songplays": "bad.sql:3: .*user_idd.*: maybe user_id$",
    "s.user_id AS a\nFROM songplays AS p": "bad.sql:3: s.user_id: there is no table s in",
    "x.user_id AS a\nFROM users AS u CROSS JOIN songplays AS p": (
        "3: x.user_id: there is no table x in this query"
    ),
    "P.plas AS a\nFROM plays_by_day AS P": "3: .*plas.*: maybe plays$",
    '"paid" AS a\nFROM users AS u': '3: "paid" would be a column: put text in single quotes',
    "CURRENT_DATE AS a\nFROM users AS u": "CURRENT_DATE: tables and checks must not depend on the",
    "user_id AS a\nFROM users AS u CROSS JOIN songplays AS p": "3: several tables have a column",
    "x.plas AS a\nFROM (SELECT COUNT(*) AS plays FROM users) AS x": "3: .*: maybe plays$",
    "u.user_id AS a\nFROM users AS u\nINNER JOIN time AS t ON t.start_time = u.user_id": (
        "bad.sql:5: compares a time with a number: t.start_time = u.user_id"
    ),
    "u.user_id AS a\nFROM users AS u\nWHERE u.level IN (1, 2)": "5: compares text with a number",
    "t.hour AS a\nFROM time AS t\nWHERE t.start_time BETWEEN 1 AND 2": "5: compares a time with",
    "u.level AS a\nFROM users AS u": "3: the column a is a number, but the query returns text",
}


@pytest.mark.parametrize("query", MISTAKES)
def test_names_and_types_of_a_query_are_checked(platform: Platform, query: str) -> None:
    path = platform.sql / "marts" / "bad.sql"
    path.write_text(f"CREATE TABLE bad (a INTEGER);\nINSERT INTO bad (a)\nSELECT {query};")
    with pytest.raises(SparkifyError, match=MISTAKES[query]):
        Catalog.load(platform.sql)


def test_a_query_of_a_check_is_checked(platform: Platform) -> None:
    path = platform.sql / "checks" / "users__check.sql"
    path.write_text("-- No.\nSELECT u.user_id\nFROM users AS u\nWHERE u.levl = 'x'")
    with pytest.raises(SparkifyError, match=r"users__check\.sql:4: .*levl.*: maybe level$"):
        Catalog.load(platform.sql)


def test_a_date_as_text_and_another_size_are_no_mistakes(platform: Platform) -> None:
    (platform.sql / "marts" / "good.sql").write_text(
        "CREATE TABLE good (a SMALLINT, b VARCHAR(4)); INSERT INTO good (a, b) "
        "SELECT COUNT(*) AS a, u.level AS b FROM users AS u INNER JOIN songplays AS p "
        "ON u.user_id = p.user_id WHERE p.start_time >= '2018-11-01' AND p.session_id > 1.5 "
        "AND CAST(p.start_time AS DATE) < p.start_time GROUP BY u.level;"
    )
    assert "good" in Catalog.load(platform.sql).tables


Added = Callable[[str, str], list[str]]


@pytest.fixture
def warnings_of(platform: Platform, caplog: pytest.LogCaptureFixture) -> Added:
    """Adds a file of `sql/`; what is warned of, each with its path, is returned without it."""

    def add(name: str, text: str) -> list[str]:
        path = platform.sql / name
        path.write_text(text)
        Catalog.load(platform.sql)
        said = [record.getMessage() for record in caplog.records]
        assert all(one.startswith(f"{path}:") for one in said)
        return [one.removeprefix(f"{path}:") for one in said]

    return add


def test_a_mart_that_explains_too_little_is_a_warning(warnings_of: Added) -> None:
    assert warnings_of(
        "marts/terse.sql",
        "CREATE TABLE terse (a VARCHAR(4), -- the level\nb INTEGER); INSERT INTO terse (a, b) "
        "SELECT u.level AS a, COUNT(*) AS b FROM users AS u GROUP BY u.level;",
    ) == [
        " lacks a description: one sentence in the comment above the statement",
        " terse lacks a comment on b, a PRIMARY KEY",
    ]


def test_a_misspelled_function_is_a_warning(warnings_of: Added) -> None:
    """No more: an engine has functions of its own, and its users too."""
    assert warnings_of(
        "checks/users__check.sql",
        "-- No.\nSELECT\n    CONUT(*) AS n\nFROM users AS u\nWHERE UPPR(my_own(u.level)) = 'X'",
    ) == [
        "3: unknown function CONUT: maybe COUNT",
        "5: unknown function UPPR: maybe UPPER",
    ]


@pytest.mark.parametrize("line", ["severty: warn", "Counts : rows of it", "maintaned by: x = u.y"])
def test_a_misspelled_directive_is_a_warning(line: str, warnings_of: Added) -> None:
    text = f"-- No.\n-- {line}\nSELECT u.user_id FROM users AS u"
    [said] = warnings_of("checks/users__check.sql", text)
    assert said.startswith(f" -- {line.partition(':')[0]} is no directive: maybe ")


def test_text_in_another_encoding_is_refused(platform: Platform) -> None:
    path = platform.sql / "marts" / "bad.sql"
    path.write_text("-- caf\u00e9", encoding="latin-1")
    with pytest.raises(SparkifyError, match=r"bad\.sql: is not UTF-8 text"):
        Catalog.load(platform.sql)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SparkifyError, match="holds no table"):
        Catalog.load(tmp_path)
