"""The embedded warehouse alone: a file that one process writes at a time."""

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sparkify_assets.errors import SparkifyError
from sparkify_assets.warehouse.duckdb import DuckDBWarehouse
from sparkify_assets_tests.platform import Platform, failure_of


def test_a_warehouse_held_by_another_process_is_named(published: Platform) -> None:
    code = (
        f"import duckdb, time; c = duckdb.connect({str(published.warehouse)!r}); "
        "print(1, flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    try:
        assert holder.stdout and holder.stdout.readline()
        warehouse = DuckDBWarehouse(path=str(published.warehouse), lock_wait_seconds=0.5)
        started = time.monotonic()
        held = rf"is held by process {holder.pid} .*This table was not changed"
        with pytest.raises(SparkifyError, match=held), warehouse.transaction():
            pass
        assert time.monotonic() - started >= 0.5
    finally:
        holder.kill()
        holder.wait()


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("missing/warehouse.duckdb", "the folder .*missing does not exist"),
        ("folder", "is a folder, not a DuckDB file"),
        ("text.txt", "is not a DuckDB file, and was left as it is"),
    ],
)
def test_a_wrong_warehouse_path_is_explained(
    made: Platform, tmp_path: Path, path: str, said: str
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "text.txt").write_text("precious " * 1_000)
    made.settings["duckdb_path"] = tmp_path / path
    result = made.run("staging_songs")
    assert re.search(said, failure_of(result))
    assert "SPARKIFY_DUCKDB_PATH" in failure_of(result)
    assert (tmp_path / "text.txt").read_text() == "precious " * 1_000


def test_shells_and_tools_that_lag_behind_can_read_it(published: Platform) -> None:
    """The header of the file, as DuckDB 1.4 and later read it: its format is 67 or less."""
    header = published.warehouse.read_bytes()[:20]
    assert header[8:12] == b"DUCK"
    assert int.from_bytes(header[12:20], "little") <= 67
