"""`sql/` as the contract: what the catalogue reads from it, and what it refuses."""

import re
import shutil
from pathlib import Path

import duckdb
import pytest
import sqlfluff

from sparkify_assets.audit import audits_of
from sparkify_assets.catalog import Catalog, Reference
from sparkify_assets.definitions import SQL
from sparkify_assets.errors import SparkifyError
from sparkify_assets_tests.platform import Platform, failure_of

FILES = sorted(SQL.glob("*/*.sql"))


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return Catalog.load(SQL)


@pytest.fixture
def sql(tmp_path: Path) -> Path:
    """A copy of `sql/` that a test may damage."""
    return Path(shutil.copytree(SQL, tmp_path / "sql"))


def test_lineage(catalog: Catalog) -> None:
    """Tables in FROM and JOIN, and tables referred to."""
    assert {table.name: set(table.upstream) for table in catalog.derived} == {
        "repaired_text": {"staging_events", "staging_songs"},
        "events": {"staging_events", "repaired_text", "load_history"},
        "users": {"events"},
        "time": {"events"},
        "artists": {"staging_songs", "repaired_text"},
        "songs": {"staging_songs", "artists", "repaired_text"},
        "songplays": {
            *("events", "staging_songs", "repaired_text"),
            *("users", "songs", "artists", "time"),
        },
        "catalogue_coverage": {"songplays", "events", "staging_songs"},
        "level_changes": {"user_levels", "user_activity"},
        "load_summary": {"load_history", "events", "staging_songs"},
        "most_played_artists": {"songplays"},
        "most_played_songs": {"songplays", "songs"},
        "plays_by_day": {"songplays", "events"},
        "plays_by_hour": {"songplays", "time"},
        "plays_by_level": {"songplays", "users"},
        "plays_by_location": {"songplays"},
        "sessions": {"events", "users"},
        "user_activity": {"events", "songplays", "users"},
        "user_levels": {"events", "users"},
    }
    assert {t.name: t.source for t in catalog.staging} == {
        "staging_events": "event_files",
        "staging_songs": "song_files",
    }
    assert {t.name for t in catalog.ledgers} == {"load_history", "rejected_records"}


def test_columns_of_the_star(catalog: Catalog) -> None:
    columns = {
        t.name: " ".join(c.name for c in t.columns) for t in catalog.derived if t.layer == "star"
    }
    assert columns == {
        "songplays": "songplay_id start_time user_id level song_id artist_id session_id "
        "item_in_session location user_agent song artist",
        "users": "user_id first_name last_name gender level",
        "songs": "song_id title artist_id year duration",
        "artists": "artist_id name location latitude longitude",
        "time": "start_time hour day week month year weekday",
    }


def test_a_column_keeps_its_spelling_type_constraints_and_comment(catalog: Catalog) -> None:
    key = {c.key: c for c in catalog.tables["staging_events"].columns}
    assert key["userId"].name == "userid"
    assert key["itemInSession"].type == "INTEGER"
    assert not key["itemInSession"].nullable
    plays = {c.name: c for c in catalog.tables["songplays"].columns}
    assert plays["user_id"].references == Reference("users", "user_id")
    assert plays["user_id"].description == "who played it"
    last = plays["artist"]  # before the bracket
    assert last.description == "artist as logged, repaired"
    assert not plays["songplay_id"].nullable
    assert catalog.tables["most_played_songs"].primary_key == ("song", "artist")
    assert catalog.tables["most_played_songs"].sort_key == ("rank", "song", "artist")


def test_every_table_and_column_is_described(catalog: Catalog) -> None:
    for table in catalog.tables.values():
        assert table.description.endswith("."), table.name
        for column in table.columns:
            assert column.description, f"{table.name}.{column.name}"
        for audit in audits_of(table):
            assert audit.description.endswith("."), audit.name


def test_what_a_column_of_a_name_is(catalog: Catalog) -> None:
    """Columns of one name in the star have one type: no surprise in a join."""
    types: dict[str, set[str]] = {}
    for table in catalog.derived:
        for column in table.columns:
            types.setdefault(column.name, set()).add(column.type)
    assert {name: kinds for name, kinds in types.items() if len(kinds) > 1} == {}


def test_a_cte_may_be_named_like_the_table_it_reads(sql: Path) -> None:
    (sql / "marts" / "paid.sql").write_text(
        "CREATE TABLE paid (n INTEGER); INSERT INTO paid (n) WITH songplays AS "
        "(SELECT * FROM songplays WHERE level = 'paid') SELECT COUNT(*) AS n FROM songplays "
        "WHERE EXISTS (SELECT 1 FROM users AS u WHERE u.user_id = songplays.user_id);"
    )
    assert Catalog.load(sql).tables["paid"].upstream == ("songplays", "users")


def test_directives_are_no_part_of_the_description(catalog: Catalog) -> None:
    tables = catalog.tables
    assert tables["most_played_songs"].shown_rows == 10
    assert tables["users"].shown_rows is None
    assert tables["rejected_records"].may_be_empty
    assert not any("show rows" in t.description for t in tables.values())
    checks = {c.name: c for c in tables["songplays"].checks}
    assert checks["every_play_once"].blocking
    assert not checks["known_user"].blocking
    assert checks["known_user"].description.startswith("Every play has a user")


def test_the_statement_is_the_files_own_text(catalog: Catalog) -> None:
    for table in catalog.derived:
        statement = table.insert or table.suspects
        assert statement
        assert statement.startswith(f"INSERT INTO {table.name} (" if table.insert else "SELECT ")
        assert f"{statement};" in table.path.read_text()


@pytest.mark.parametrize("data", ["sample", "real"])
def test_no_distribution_key_puts_much_on_one_slice(
    data: str, catalog: Catalog, request: pytest.FixtureRequest
) -> None:
    """Rows of one value, or of none, lie on one slice of a cluster, however many slices it has."""
    platform: Platform = request.getfixturevalue(data)
    keys = {name: re.search(r"DISTKEY\((\w+)\)", t.create) for name, t in catalog.tables.items()}
    shares = {
        name: platform.rows(
            f"SELECT MAX(n) / SUM(n) FROM (SELECT COUNT(*) AS n FROM {name} GROUP BY {key[1]})"
        )[0][0]
        for name, key in keys.items()
        if key
    }
    assert set(shares) == {"events", "songplays", "time"}
    assert max(shares.values()) < 0.01, shares


def test_a_distribution_is_explained_beside_it(catalog: Catalog) -> None:
    for table in catalog.tables.values():
        assert re.search(r"^-- \w.*\nDIST(STYLE|KEY)", table.path.read_text(), re.M), table.name


def test_the_version_follows_the_file_and_its_checks(sql: Path) -> None:
    def versions() -> dict[str, str]:
        return {t.name: t.version for t in Catalog.load(sql).tables.values()}

    before = versions()
    for file in ("star/users.sql", "checks/songplays__known_user.sql"):
        (sql / file).write_text("-- More.\n" + (sql / file).read_text() + "\n-- the end\n")
    assert versions() == before | {
        "users": versions()["users"],
        "songplays": versions()["songplays"],
    }
    assert versions()["users"] != before["users"]
    assert versions()["songplays"] != before["songplays"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_file_parses_as_redshift_sql_in_a_second_parser(path: Path) -> None:
    parsed = sqlfluff.parse(path.read_text(), dialect="redshift")
    assert "unparsable" not in str(parsed)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_blanks_alone_are_trimmed(path: Path) -> None:
    """TRIM without characters takes away more on DuckDB: U+00A0 is half of a damaged letter."""
    assert not re.search(r"\bTRIM\s*\((?!BOTH ' ' FROM)", path.read_text(), re.IGNORECASE)


def test_every_audit_parses_as_redshift_sql(catalog: Catalog) -> None:
    """The longest of each kind; those of a file in `checks/` are parsed as files."""
    audits = [a for t in catalog.tables.values() for a in audits_of(t)]
    longest = {a.name: a.query for a in sorted(audits, key=lambda a: len(a.query))}
    written = {c.name for t in catalog.tables.values() for c in t.checks}
    assert {"row_count", "null_keys", "unique_key", "foreign_keys"} < longest.keys() - written
    for name in longest.keys() - written:
        parsed = sqlfluff.parse(f"SELECT * FROM (\n{longest[name]}\n) AS v\n", dialect="redshift")
        assert "unparsable" not in str(parsed), name


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
        r"star/bad\.sql: unknown table nowhere; known: artists, bad, ",
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
        "the INSERT fills another table than bad",
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
        r"users__row_count\.sql: .*users\.sql asks for a check of that name already",
    ),
    "no INSERT": ("star/bad.sql", "CREATE TABLE bad (a INTEGER);", "has no INSERT, and no line"),
    "a check without a name": ("checks/users.sql", "SELECT 1", "<table>__<check>.sql"),
    "a severity": (
        "checks/users__check.sql",
        "-- No.\n-- severity: low\nSELECT 1 AS a",
        "severity is 'low': expected warn or error",
    ),
    "rows to show": (
        "star/bad.sql",
        "-- One.\n-- show rows: many\nCREATE TABLE bad (a INTEGER);",
        "show rows is 'many': expected a number",
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
        "loaded from nowhere, which is none of song_files, event_files",
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
        f"a INTEGER, B {kind}": f"column b: not both engines have the type {kind}"
        for kind in (
            *("SUPER", "GEOMETRY", "GEOGRAPHY", "HLLSKETCH", "VARBYTE", "VARBYTE(9)", "UUID"),
            *("INTERVAL YEAR TO MONTH", "INTERVAL DAY TO SECOND", "TIMESTAMP(3)", "INTEGER[]"),
        )
    },
    **{
        f"a INTEGER{constraint}": f"nothing heeds {constraint.strip(', ')}: declare keys and NOT"
        for constraint in (
            *(" UNIQUE", " DEFAULT 1", " CHECK (a > 1)", " IDENTITY(0, 1)"),
            *(", UNIQUE (a)", ", CONSTRAINT of_bad PRIMARY KEY (a)"),
        )
    },
}


def test_what_not_both_engines_have_or_nobody_proves_is_refused(sql: Path) -> None:
    """It would be dropped in silence, or be believed by Redshift alone."""
    path = sql / "star" / "bad.sql"
    for columns, said in REFUSED.items():
        path.write_text(f"CREATE TABLE bad ({columns});")
        with pytest.raises(SparkifyError, match=f"^{re.escape(f'{path}: {said}')}"):
            Catalog.load(sql)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SparkifyError, match="holds no table"):
        Catalog.load(tmp_path)


NEW_TABLE = """\
-- One row is one user's number of plays: «déjà vu; twice».
CREATE TABLE plays_by_user (
    user_id BIGINT NOT NULL PRIMARY KEY REFERENCES users (user_id), -- who; ever
    plays INTEGER NOT NULL -- how many
)
DISTSTYLE ALL;

INSERT INTO plays_by_user (user_id, plays)
WITH known AS (SELECT p.user_id FROM songplays AS p WHERE p.user_id IS NOT NULL)
SELECT k.user_id, COUNT(*) AS plays
FROM known AS k
GROUP BY k.user_id;
"""


def test_a_table_added_in_sql_alone_is_an_asset_with_its_checks(made: Platform) -> None:
    (made.sql / "marts" / "plays_by_user.sql").write_text(NEW_TABLE, encoding="utf-8")
    (made.sql / "checks" / "plays_by_user__nobody_over_100.sql").write_text(
        "-- Nobody plays more than 100 songs.\n"
        "SELECT m.user_id, m.plays FROM plays_by_user AS m WHERE m.plays > 100\n"
    )
    result = made.make("plays_by_user")
    assert result.success, failure_of(result)
    assert made.rows("SELECT * FROM plays_by_user ORDER BY 1") == [(7, 3), (8, 1)]
    evaluated = {
        e.check_name
        for e in result.get_asset_check_evaluations()
        if e.asset_key.to_user_string() == "plays_by_user" and e.passed
    }
    assert evaluated == {
        "row_count",
        "null_keys",
        "unique_key",
        "foreign_keys",
        "nobody_over_100",
    }
    spec = {s.key.to_user_string(): s for s in made.defs().resolve_all_asset_specs()}[
        "plays_by_user"
    ]
    assert spec.description == "One row is one user's number of plays: «déjà vu; twice»."
    assert {d.asset_key.to_user_string() for d in spec.deps} == {"songplays", "users"}
    assert spec.group_name == "marts"
    columns = spec.metadata["dagster/column_schema"].columns
    assert [(c.name, c.type, c.description) for c in columns] == [
        ("user_id", "BIGINT", "who; ever"),
        ("plays", "INTEGER", "how many"),
    ]


def test_a_column_added_in_sql_alone_is_read_from_the_json(made: Platform) -> None:
    made.edit(
        "staging/staging_events.sql",
        "    userId BIGINT,",
        "    deviceId SMALLINT, -- x\n    userId BIGINT,",
    )
    made.write_events([{"deviceId": 3, "sessionId": 9}], name="new.json")
    assert made.run("staging_events").success
    assert made.rows("SELECT deviceid FROM staging_events WHERE sessionid = 9") == [(3,)]
    assert made.rows("SELECT count(*) FROM staging_events WHERE deviceid IS NULL") == [(5,)]


def test_a_mart_of_the_ledgers_follows_the_staging_tables(made: Platform) -> None:
    (made.sql / "marts" / "loads.sql").write_text(
        "-- One row is one table.\nCREATE TABLE loads (table_name VARCHAR(128), files INTEGER);\n"
        "INSERT INTO loads (table_name, files) SELECT h.table_name, COUNT(*) AS files "
        "FROM load_history AS h GROUP BY h.table_name;"
    )
    result = made.make("loads")
    assert result.success, failure_of(result)
    assert made.rows("SELECT * FROM loads ORDER BY 1") == [
        ("staging_events", 1),
        ("staging_songs", 3),
    ]
    specs = {s.key.to_user_string(): s for s in made.defs().resolve_all_asset_specs()}
    assert {d.asset_key.to_user_string() for d in specs["loads"].deps} == {
        "staging_events",
        "staging_songs",
    }


def test_text_in_a_name_is_never_sql(made: Platform) -> None:
    """Identifiers are quoted: a column may have a name that SQL reserves."""
    (made.sql / "marts" / "odd.sql").write_text(
        '-- One row.\nCREATE TABLE odd ("order" INTEGER NOT NULL PRIMARY KEY, "a b" INTEGER);\n'
        'INSERT INTO odd ("order", "a b") SELECT COUNT(*) AS "order", 1 AS "a b" FROM users AS u;'
    )
    result = made.make("odd")
    assert result.success, failure_of(result)
    with duckdb.connect(str(made.warehouse), read_only=True) as connection:
        assert connection.execute('SELECT "order", "a b" FROM odd').fetchall() == [(2, 1)]
