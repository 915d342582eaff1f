"""The embedded warehouse alone: a file that one process writes at a time."""

import re
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from sparkify_assets.definitions import PACKAGE
from sparkify_assets.errors import SparkifyError
from sparkify_assets.warehouse.duckdb import DuckDBWarehouse
from sparkify_assets.warehouse.landing import landing_for
from sparkify_assets_tests.platform import Platform, failure_of


def test_a_warehouse_held_by_another_process_is_named(published: Platform) -> None:
    code = (
        f"import duckdb, time; c = duckdb.connect({str(published.warehouse)!r}); "
        "print(1, flush=True); time.sleep(999)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    try:
        assert holder.stdout and holder.stdout.readline()
        warehouse = DuckDBWarehouse(path=str(published.warehouse), lock_wait_seconds=0.5)
        started = time.monotonic()
        held = rf"has been open in process {holder.pid} .* for 0.5 s. Only one process"
        with pytest.raises(SparkifyError, match=held), warehouse.transaction():
            pass
        assert time.monotonic() - started >= 0.5
    finally:
        holder.kill()
        holder.wait()


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("missing/warehouse.duckdb", "No such file or directory"),
        ("folder", "Not a regular file"),
        ("text.txt", "begins with b'precious"),
        ("data.csv", "begins with b'a,b"),  # DuckDB opens it
        ("music.db", "begins with b'SQLite format 3"),
        ("empty.duckdb", "not a valid DuckDB database"),
        (".", "Not a regular file"),
        ("x" * 300, "File name too long"),
    ],
)
def test_a_wrong_warehouse_path_is_explained(
    made: Platform, tmp_path: Path, path: str, said: str
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "text.txt").write_text("precious " * 1_000)
    (tmp_path / "data.csv").write_text("a,b\n" + "1,2\n" * 1_000)
    (tmp_path / "empty.duckdb").touch()
    with closing(sqlite3.connect(tmp_path / "music.db")) as connection:
        connection.execute("CREATE TABLE songs (title TEXT)")
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir() if file.is_file()}
    made.settings["duckdb_path"] = tmp_path / path
    result = made.run("staging_songs")
    assert f"{tmp_path / path} cannot be opened, and was left as it is: " in failure_of(result)
    assert said in failure_of(result)
    assert "SPARKIFY_DUCKDB_PATH" in failure_of(result)
    assert before == {file.name: file.read_bytes() for file in tmp_path.iterdir() if file.is_file()}


def test_nothing_is_downloaded(tmp_path: Path) -> None:
    """An SQLite file would be reason enough to DuckDB, and so would many a function."""
    with DuckDBWarehouse(path=str(tmp_path / "w.duckdb")).transaction() as session:
        query = "SELECT name, value FROM duckdb_settings() WHERE name LIKE 'auto%known_extensions'"
        assert {tuple(row.values()) for row in session.rows(query)} == {
            ("autoinstall_known_extensions", "false"),
            ("autoload_known_extensions", "false"),
        }
        with pytest.raises(SparkifyError, match="exists in the spatial extension"):
            session.rows("SELECT ST_Point(1, 2)")


def test_no_connection_of_the_product_downloads() -> None:
    text = "\n".join(path.read_text() for path in PACKAGE.rglob("*.py"))
    [connection] = re.findall(r"duckdb\.connect\([^)]*\)", text)
    assert connection.endswith("config=CONFIG | config)")


def test_shells_and_tools_that_lag_behind_can_read_it(published: Platform) -> None:
    """The header of the file, as DuckDB 1.4 and later read it: its format is 67 or less."""
    header = published.warehouse.read_bytes()[:20]
    assert header[8:12] == b"DUCK"
    assert int.from_bytes(header[12:20], "little") <= 67


def test_rows_land_as_they_are_computed(tmp_path: Path) -> None:
    """Whatever the engine: reading with other settings takes half as long again."""
    warehouse = DuckDBWarehouse(path=str(tmp_path / "warehouse.duckdb"))
    asked = (
        "SELECT current_setting('preserve_insertion_order') AS a, "
        "current_setting('integer_division') AS b, current_setting('default_null_order') AS c, "
        "current_setting('TimeZone') AS d, current_setting('threads') AS e"
    )
    with warehouse.transaction() as session, landing_for([]) as landing:
        [expected] = session.rows(asked)
        assert landing.connection.execute(asked).fetchall() == [tuple(expected.values())]
        assert not expected["a"]


def test_a_transaction_leaves_nothing_behind_but_its_rows(tmp_path: Path) -> None:
    """DuckDB itself goes on: what failed, what was temporary and the lock do not."""
    path = tmp_path / "it's.duckdb"
    warehouse = DuckDBWarehouse(path=str(path))
    with warehouse.transaction() as session:
        session.execute("CREATE TEMP TABLE passing (n INTEGER)")
        session.execute("CREATE TABLE kept (n INTEGER)")
    with pytest.raises(SparkifyError, match="refused a statement"), warehouse.transaction() as lost:
        lost.execute("CREATE TABLE lost (n INTEGER)")
        lost.execute("SELECT nothing")
    with warehouse.transaction(read_only=True) as session:
        assert session.columns("passing") == session.columns("lost") == []
        found = session.rows("SELECT table_name FROM duckdb_tables()")  # temporary ones, too
        assert found == [{"table_name": "kept"}]
    code = f"import duckdb; print(duckdb.connect({str(path)!r}).sql('SHOW TABLES').fetchall())"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout == "[('kept',)]\n"


@pytest.mark.parametrize("moment", ["before_truncate", "before_header", "after_free_list_write"])
def test_a_fatal_error_ends_no_later_transaction(tmp_path: Path, moment: str) -> None:
    """DuckDB commits, fails while it moves the rows into the file, and is of no use any more."""
    warehouse = DuckDBWarehouse(path=str(tmp_path / "warehouse.duckdb"))
    with warehouse.transaction() as session:
        session.execute("CREATE TABLE kept AS SELECT range AS n FROM range(10000)")
    with warehouse.transaction() as session:
        session.execute(f"SET debug_checkpoint_abort = '{moment}'")
        session.execute("INSERT INTO kept SELECT range FROM range(10000)")
    assert (tmp_path / "warehouse.duckdb.wal").exists()
    with warehouse.transaction() as session:
        assert session.count("kept") == 20_000
    assert not (tmp_path / "warehouse.duckdb.wal").exists()
