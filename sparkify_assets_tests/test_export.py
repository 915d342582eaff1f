"""The export to Parquet: whole files that are current, and nothing else in the folder changes."""

import os
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Thread

import duckdb
import pytest

from sparkify_assets.errors import SparkifyError
from sparkify_assets.export import export
from sparkify_assets.warehouse.duckdb import DuckDBWarehouse
from sparkify_assets_tests.lineage import GROUPS
from sparkify_assets_tests.platform import Platform, failure_of
from sparkify_assets_tests.test_output_files import OBSTACLES, identity
from sparkify_assets_tests.test_output_files import disk as disk

TABLES = GROUPS["intermediate"] | GROUPS["star"] | GROUPS["marts"]


@pytest.fixture
def exported(published: Platform) -> Platform:
    """Published, and exported into a folder whose name is a pattern to DuckDB."""
    published.settings["export_path"] = published.folder / "export[1]'s"
    run(published, "parquet_files")
    return published


def run(platform: Platform, *assets: str) -> None:
    result = platform.run(*assets)
    assert result.success, failure_of(result)


def folder_of(platform: Platform) -> Path:
    folder: Path = platform.settings["export_path"]
    return folder


def files(platform: Platform) -> dict[str, tuple[int, ...]]:
    """What there is in the folder, and what tells a file from its successor."""
    return {path.name: identity(path) for path in folder_of(platform).iterdir()}


def verify_current(platform: Platform, tables: set[str]) -> None:
    assert files(platform).keys() == {".lock", *(f"{name}.parquet" for name in tables)}
    for name in tables:
        file = folder_of(platform) / f"{name}.parquet"
        Path("copy.parquet").write_bytes(file.read_bytes())
        found = duckdb.execute("FROM 'copy.parquet'").fetchall()
        assert sorted(found, key=repr) == sorted(platform.rows(f"FROM {name}"), key=repr)


def test_it_is_made_from_all_tables_if_it_is_asked_for(platform: Platform) -> None:
    def deps() -> dict[str, set[str]]:
        specs = platform.defs().resolve_all_asset_specs()
        return {s.key.path[0]: {d.asset_key.path[0] for d in s.deps} for s in specs}

    assert "parquet_files" not in deps()
    platform.settings["export_path"] = platform.folder / "export"
    assert deps()["parquet_files"] == TABLES
    assert "Materialize it first: dg launch --assets" in failure_of(platform.run("parquet_files"))


def test_only_files_of_changed_tables_are_written(exported: Platform) -> None:
    verify_current(exported, TABLES)
    before = files(exported)
    run(exported, "users", "parquet_files")
    assert files(exported) == before
    exported.edit("star/users.sql", "    latest.level\n", "    UPPER(latest.level) AS level\n")
    run(exported, "users", "parquet_files")
    verify_current(exported, TABLES)
    assert ("FREE",) in exported.rows("SELECT level FROM users")
    after = files(exported)
    assert {name for name in after if after[name] != before[name]} == {"users.parquet"}


def test_the_file_of_a_removed_table_is_removed_and_no_other(exported: Platform) -> None:
    folder = folder_of(exported)
    duckdb.sql("COPY (SELECT 1) TO 'theirs.parquet'")
    Path("theirs.parquet").rename(folder / "theirs.parquet")
    (folder / "empty.parquet").touch()
    (folder / "notes.txt").write_text("sparkify_assets")
    (folder / "folder.parquet").mkdir()
    before = files(exported)
    for path in exported.sql.glob("*/visits_by_device*"):
        path.unlink()
    run(exported, "parquet_files")
    assert before.pop("visits_by_device.parquet")
    assert files(exported) == before


@pytest.mark.parametrize("is_link", [False, True])
def test_a_file_of_somebody_else_stops_it_before_any_file_changes(
    exported: Platform, is_link: bool
) -> None:
    path = folder_of(exported) / "visits_by_device.parquet"
    if is_link:
        path.rename("elsewhere.parquet")
        path.symlink_to(Path("elsewhere.parquet").absolute())
    else:
        path.write_text("theirs")
    (folder_of(exported) / "artists.parquet").unlink()
    before = files(exported)
    said = failure_of(exported.run("parquet_files"))
    assert f"{path} cannot be written: it was not written by Sparkify. Move it away. " in said
    assert said.endswith("SPARKIFY_EXPORT_PATH sets their folder.")
    assert files(exported) == before
    path.unlink()
    run(exported, "parquet_files")
    verify_current(exported, TABLES)


def test_what_a_killed_run_left_is_removed(exported: Platform) -> None:
    left = folder_of(exported) / ".being_written"
    left.mkdir()
    (left / "users.parquet").write_text("half")
    (folder_of(exported) / "users.parquet").unlink()
    run(exported, "parquet_files")
    verify_current(exported, TABLES)


def test_a_reader_finds_the_old_file_or_the_new_one(platform: Platform) -> None:
    warehouse, table = DuckDBWarehouse(path="w.duckdb"), platform.catalog.tables["users"]
    path, is_over = Path("export/users.parquet"), Event()
    written, seen = set[bytes](), set[bytes]()

    def watch() -> None:
        while not is_over.is_set():
            seen.add(path.read_bytes())

    watcher = Thread(target=watch, daemon=True)
    for number in range(1_000):
        if number >= 12 and len(seen) > 2:  # with a busy machine, the watcher is late
            break
        with warehouse.transaction() as session:
            session.ensure(table)
            session.execute("INSERT INTO users SELECT range, '', '', '', '' FROM range(30000)")
            done = export(session, {"users": f"mark {number}."}, path.parent)
            assert done == (["users"], [])
        written.add(path.read_bytes())
        if not watcher.is_alive():
            watcher.start()
            first = path.open("rb")
    is_over.set()
    watcher.join()
    with first:  # who has an old file open reads it to its end
        assert first.read() in written
    assert len(seen) > 2
    assert seen <= written


def fails(warehouse: DuckDBWarehouse, folder: Path) -> str:
    """What an export of the users says that fails."""
    with pytest.raises(SparkifyError) as raised, warehouse.transaction() as session:
        export(session, {"users": ""}, folder)
    assert "SPARKIFY_EXPORT_PATH sets their folder" in str(raised.value)
    return str(raised.value)


@pytest.fixture
def users(platform: Platform) -> DuckDBWarehouse:
    """A warehouse with more users than a small disk takes."""
    warehouse = DuckDBWarehouse(path="w.duckdb")
    with warehouse.transaction() as session:
        session.create(platform.catalog.tables["users"])
        session.execute(
            "INSERT INTO users SELECT range, md5(range::TEXT), '', '', '' FROM range(9999)"
        )
    return warehouse


@pytest.mark.parametrize("obstacle", OBSTACLES)
def test_it_takes_the_place_of_no_other_thing(
    obstacle: Callable[[Path], None], users: DuckDBWarehouse
) -> None:
    path = Path("export/users.parquet")
    path.parent.mkdir()
    obstacle(path)
    before = identity(path)
    assert f"{path} cannot be written: " in fails(users, path.parent)
    assert identity(path) == before
    assert "w.duckdb cannot be written: File exists. " in fails(users, Path("w.duckdb"))


def test_a_full_disk(disk: Path, users: DuckDBWarehouse) -> None:
    said = fails(users, disk)
    assert "users.parquet cannot be written: DuckDB stopped. Existing files were left" in said
    assert "No space left on device" in said
    assert {path.name for path in disk.iterdir()} == {"report.html", ".lock"}


def test_a_closed_folder(users: DuckDBWarehouse) -> None:
    with TemporaryDirectory() as place:  # in a place that everybody can reach, unlike `tmp_path`
        Path(place).chmod(0o555)
        before = os.geteuid()
        with users.transaction() as session:
            if before == 0:
                os.seteuid(65534)
            try:
                for folder in (Path(place), Path(place) / "new"):
                    with pytest.raises(SparkifyError, match=f"{folder}.* cannot be .*: Permission"):
                        export(session, {"users": ""}, folder)
            finally:
                os.seteuid(before)
