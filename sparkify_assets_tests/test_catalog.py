"""`sql/` as the contract: what the catalogue reads from it."""

import re
import shutil
from pathlib import Path

import pytest
import sqlfluff

from sparkify_assets.audit import audits_of
from sparkify_assets.catalog import Catalog
from sparkify_assets.definitions import SQL
from sparkify_assets.tables import Reference
from sparkify_assets_tests.lineage import LEDGERS, MADE_FROM
from sparkify_assets_tests.platform import Platform

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
    derived = MADE_FROM["intermediate"] | MADE_FROM["star"] | MADE_FROM["marts"]
    assert {table.name: set(table.upstream) for table in catalog.derived} == derived
    assert {table.name: {table.source} for table in catalog.staging} == MADE_FROM["staging"]
    assert {table.name for table in catalog.ledgers} == LEDGERS


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


def test_the_statement_is_the_files_own_text_on_its_own_lines(catalog: Catalog) -> None:
    for table in catalog.derived:
        statement = table.insert or table.suspects
        assert statement
        text = statement.lstrip("\n")
        assert text.startswith(f"INSERT INTO {table.name} (" if table.insert else "SELECT ")
        lines = table.path.read_text().splitlines()[len(statement) - len(text) :]
        assert "\n".join(lines).startswith(f"{text};")


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
