"""Exactly once: what a source holds is in its staging table once, and the balances prove it.

Every test runs on DuckDB and on the Redshift stand-in, and looks through another connection.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime, tzinfo
from functools import cache, cached_property
from io import FileIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from zipfile import ZipFile

import duckdb
import pytest

from sparkify_assets import loading, reading
from sparkify_assets.catalog import Catalog
from sparkify_assets.definitions import SQL
from sparkify_assets.errors import SparkifyError
from sparkify_assets.findings import Load
from sparkify_assets.loading import StagingLoad, prepared_load
from sparkify_assets.maintenance import Upkeep
from sparkify_assets.settings import Settings
from sparkify_assets.sources.base import LocalFile, Source, opened
from sparkify_assets.sources.folder import FolderSource
from sparkify_assets.tables import Table
from sparkify_assets.warehouse import warehouse_of
from sparkify_assets.warehouse.base import Session, Warehouse
from sparkify_assets.warehouse.duckdb import DuckDBWarehouse
from sparkify_assets_tests.duckdb_file import attached
from sparkify_assets_tests.platform import RedshiftPlatform

HISTORY = "SELECT object_id, uri, version, records, rows_loaded, rows_rejected FROM load_history"


def load_source(
    warehouse: Warehouse, catalog: Catalog, table: Table, source: Source, **options: Any
) -> Load:
    with prepared_load(warehouse, catalog, table, source, **options) as load:
        return written(load, warehouse)


def written(load: StagingLoad, warehouse: Warehouse) -> Load:
    """Writes a load as the publishing of its table does."""

    def write(session: Session) -> Load:
        return load.write(session, Upkeep(session, load.catalog, load.table, rebuild=False))

    return warehouse.in_transaction(write, "load", recreate=True)


def copied(sql: Path) -> Path:
    """A folder with what loads need of `sql/`."""
    for layer in ("loading", "maintenance", "privacy", "staging"):
        shutil.copytree(SQL / layer, sql / layer)
    return sql


@cache
def shipped() -> Catalog:
    with TemporaryDirectory() as folder:
        return Catalog.load(copied(Path(folder)))


class Loader:
    """A folder of event files, a warehouse, and what loads need of `sql/`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "log_data"
        self.said: list[str] = []
        self.is_sample = False

    @cached_property
    def sql(self) -> Path:
        """A copy of `sql/` that the test may change, from when it is first asked for."""
        return copied(self.folder / "sql")

    @property
    def catalog(self) -> Catalog:
        return Catalog.load(self.sql) if "sql" in vars(self) else shipped()

    def write(self, name: str, *records: Any, text: str = "") -> Path:
        """Writes a file of records (numbers become events) and of text that is no record."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [json.dumps(event(r) if isinstance(r, int) else r) for r in records]
        before = path.stat().st_mtime_ns if path.exists() else 0
        path.write_text("\n".join(lines) + "\n" + text)
        if path.stat().st_mtime_ns == before:
            os.utime(path, ns=(before + 1, before + 1))
        return path

    def load(
        self,
        share: float = 1,
        *,
        prefix: str = "",
        full_reload: bool = False,
        run_id: str = "run",
    ) -> Load:
        """Loads the folder, and makes sure that the balances hold afterwards, whatever happens."""
        catalog = self.catalog
        variable = None if self.is_sample else "SPARKIFY_LOG_DATA"
        source = FolderSource("event_files", variable, self.root)
        try:
            return load_source(
                self.warehouse,
                catalog,
                catalog.tables["staging_events"],
                source,
                max_rejected_share=share,
                prefix=prefix,
                full_reload=full_reload,
                run_id=run_id,
                log=self.said.append,
            )
        finally:
            self.verify_balances()

    @property
    def warehouse(self) -> Warehouse:
        return DuckDBWarehouse(path=str(self.folder / "warehouse.duckdb"))

    def reader(self) -> AbstractContextManager[duckdb.DuckDBPyConnection]:
        """What others see of the warehouse, to be asked in DuckDB's SQL."""
        return attached(self.folder / "warehouse.duckdb", read_only=False)

    def change(self, statement: str) -> None:
        with self.reader() as connection:
            connection.execute(statement)

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        with self.reader() as connection:
            return connection.execute(sql).fetchall()

    def tables(self) -> list[str]:
        return [name for (name,) in self.query("SELECT table_name FROM duckdb_tables() ORDER BY 1")]

    def state(self) -> list[list[tuple[Any, ...]]]:
        """All that the warehouse holds."""
        with self.reader() as connection:
            names = connection.execute("SELECT table_name FROM duckdb_tables() ORDER BY 1")
            return [
                connection.execute(f'SELECT * FROM "{name}" ORDER BY ALL').fetchall()
                for (name,) in names.fetchall()
            ]

    def verify_balances(self) -> None:
        with self.reader() as connection:

            def rows(sql: str) -> list[tuple[Any, ...]]:
                return connection.execute(sql).fetchall()

            names = [name for (name,) in rows("SELECT table_name FROM duckdb_tables()")]
            if "load_history" not in names:
                assert names == []
                return
            expected = rows(
                "SELECT object_id, records - rows_rejected, rows_loaded, rows_rejected, "
                "records - rows_loaded FROM load_history ORDER BY object_id"
            )
            assert expected == rows(
                "SELECT object_id, loaded, loaded, rejected, rejected FROM load_history, "
                "LATERAL (SELECT COUNT(*) AS loaded FROM staging_events s "
                "WHERE s.object_id = load_history.object_id), "
                "LATERAL (SELECT COUNT(*) AS rejected FROM rejected_records r "
                "WHERE (r.object_id, r.uri) = (load_history.object_id, load_history.uri)) "
                "ORDER BY object_id"
            )
            totals = [(sum(row[2] for row in expected), sum(row[3] for row in expected))]
            assert totals == rows(
                "SELECT (SELECT COUNT(*) FROM staging_events), "
                "(SELECT COUNT(*) FROM rejected_records)"
            )

    def events(self) -> dict[str, list[int]]:
        """Numbers of the loaded events by name of the file in the history."""
        rows = self.query(
            "SELECT uri, list(sessionId ORDER BY sessionId) FILTER (sessionId IS NOT NULL) "
            "FROM load_history LEFT JOIN staging_events USING (object_id) GROUP BY uri"
        )
        return {Path(uri).name: found or [] for uri, found in rows}


def event(number: int) -> dict[str, Any]:
    return {
        "sessionId": number,
        "itemInSession": 0,
        "page": "NextSong",
        "ts": 1541105830796 + number,
        "userId": str(number),
        "length": 1.5,
    }


class RedshiftLoader(Loader):
    """The same, into a schema of the stand-in for Redshift."""

    def __init__(self, folder: Path, platform: RedshiftPlatform) -> None:
        super().__init__(folder)
        self.platform = platform
        self._seen: duckdb.DuckDBPyConnection | None = None

    @property
    def warehouse(self) -> Warehouse:
        self._seen = None  # whoever asks for it writes
        return warehouse_of(Settings(**self.platform.settings))

    def reader(self) -> duckdb.DuckDBPyConnection:
        self._seen = self._seen or self._copied()
        return self._seen.cursor()

    def _copied(self) -> duckdb.DuckDBPyConnection:
        connection = duckdb.connect()
        for name in self.platform.table_names():
            columns = self.platform.rows(
                "SELECT column_name, data_type FROM information_schema.columns "
                f"WHERE table_schema = '{self.platform.schema}' AND table_name = '{name}' "
                "ORDER BY ordinal_position"
            )
            declared = ", ".join(f'"{column}" {kind}' for column, kind in columns)
            connection.execute(f"CREATE TABLE {name} ({declared})")
            if rows := self.platform.rows(f"SELECT * FROM {name}"):
                values = ", ".join(f"unnest(CAST(? AS {kind}[]))" for _, kind in columns)
                connection.execute(
                    f"INSERT INTO {name} SELECT {values}", [*map(list, zip(*rows, strict=True))]
                )
        return connection

    def change(self, statement: str) -> None:
        self._seen = None
        self.platform.change(statement)


@pytest.fixture(params=["duckdb", "redshift", pytest.param("live", marks=pytest.mark.redshift)])
def loader(request: pytest.FixtureRequest, tmp_path: Path) -> Loader:
    """Every test here is one of both engines."""
    if request.param == "duckdb":
        return Loader(tmp_path)
    (tmp_path / "loader").mkdir()
    return RedshiftLoader(tmp_path / "loader", request.getfixturevalue(request.param))


@pytest.fixture
def loaded(loader: Loader) -> Loader:
    """A loader that has loaded two files: one with a rejected record, one without."""
    loader.write("a.json", 1, 2, text="nothing")
    loader.write("b.json", 3)
    loader.load()
    return loader


def counts(load: Load) -> tuple[int, int, int, int]:
    return load.new, load.changed, load.unchanged, load.vanished


def test_first_load_writes_rows_rejections_and_history(loader: Loader) -> None:
    a = loader.write("2018/a.json", 1, 2, {"page": "Home"}, text='{"sessionId": 4\n')
    b = loader.write("2018/b.json", 3)
    loader.write("2018/empty.json")
    load = loader.load(run_id="first")
    assert counts(load) == (3, 0, 0, 0)
    assert (load.new + load.changed, load.records, load.loaded, load.rejected) == (3, 5, 3, 2)
    assert load.bytes == a.stat().st_size + b.stat().st_size + 1
    assert loader.events() == {"a.json": [1, 2], "b.json": [3], "empty.json": []}
    assert loader.query(
        "SELECT table_name, source_root, uri, bytes, records, rows_loaded, rows_rejected, run_id "
        "FROM load_history WHERE rows_rejected > 0"
    ) == [
        (
            "staging_events",
            f"file://{loader.root}",
            f"file://{a}",
            a.stat().st_size,
            4,
            2,
            2,
            "first",
        )
    ]
    assert loader.query(
        "SELECT uri, line_number, column_name, raw_text FROM rejected_records ORDER BY line_number"
    ) == [
        (f"file://{a}", 3, "iteminsession", '{"page": "Home"}'),
        (f"file://{a}", 4, None, '{"sessionId": 4'),
    ]
    assert loader.query("SELECT ts, userId, length FROM staging_events WHERE sessionId = 3") == [
        (duckdb.execute("SELECT make_timestamp_ms(1541105830799)").fetchall()[0][0], 3, 1.5)
    ]
    assert loader.said == []


def test_second_load_reads_nothing(loaded: Loader, monkeypatch: pytest.MonkeyPatch) -> None:
    def not_called(*_: object) -> None:
        raise AssertionError("an object was read")

    before = loaded.state()
    monkeypatch.setattr(reading, "opened", not_called)
    load = loaded.load(share=0)
    assert counts(load) == (0, 0, 2, 0)
    assert (load.new + load.changed, load.records, load.bytes) == (0, 0, 0)
    assert loaded.state() == before


def test_version_says_what_the_table_holds(loaded: Loader) -> None:
    same = loaded.load().version
    assert loaded.load().version == same
    loaded.write("b.json", 4)
    changed = loaded.load().version
    loaded.write("c.json", 5)
    assert len({same, changed, loaded.load().version}) == 3


def test_new_object(loaded: Loader) -> None:
    before = loaded.query(HISTORY)
    loaded.write("0.json", 4)
    load = loaded.load()
    assert counts(load) == (1, 0, 2, 0)
    assert loaded.events() == {"0.json": [4], "a.json": [1, 2], "b.json": [3]}
    assert set(before) < set(loaded.query(HISTORY))


@pytest.mark.parametrize("name", ["a.json", "b.json"])
def test_changed_object_replaces_its_own_rows(name: str, loaded: Loader) -> None:
    ids = dict(loaded.query("SELECT parse_filename(uri), object_id FROM load_history"))
    loaded.write(name, 8, 9, text="one\ntwo\n")
    assert counts(loaded.load()) == (0, 1, 1, 0)
    assert loaded.events() == {"a.json": [1, 2], "b.json": [3], name: [8, 9]}
    now = dict(loaded.query("SELECT parse_filename(uri), object_id FROM load_history"))
    assert now.pop(name) not in ids.values()
    ids.pop(name)
    assert now == ids
    rejected = loaded.query("SELECT raw_text FROM rejected_records ORDER BY ALL")
    expected = ["one", "two"] if name == "a.json" else ["nothing", "one", "two"]
    assert [raw for (raw,) in rejected] == expected


def test_vanished_object_keeps_its_rows(loaded: Loader) -> None:
    before = loaded.state()
    (loaded.root / "a.json").unlink()
    assert counts(loaded.load()) == (0, 0, 1, 1)
    assert loaded.state() == before
    loaded.write("a.json", 7)
    assert counts(loaded.load()) == (0, 1, 1, 0)
    assert loaded.events() == {"a.json": [7], "b.json": [3]}


def test_other_root_is_refused(loaded: Loader, tmp_path: Path) -> None:
    before = loaded.state()
    first, loaded.root = loaded.root, tmp_path / "log_data_new"
    loaded.write("c.json", 5)
    with pytest.raises(SparkifyError) as error:
        loaded.load()
    assert f"from {first}, but SPARKIFY_LOG_DATA now means {loaded.root}. " in str(error.value)
    assert str(error.value).endswith(": dg launch --job reload")
    assert loaded.state() == before
    assert counts(loaded.load(full_reload=True)) == (1, 0, 0, 0)
    assert loaded.events() == {"c.json": [5]}


def test_full_reload_forgets_what_vanished(loaded: Loader) -> None:
    (loaded.root / "a.json").unlink()
    loaded.write("c.json", 4)
    before = {object_id for object_id, *_ in loaded.query(HISTORY)}
    assert counts(loaded.load(full_reload=True)) == (2, 0, 0, 0)
    assert loaded.events() == {"b.json": [3], "c.json": [4]}
    assert before.isdisjoint(object_id for object_id, *_ in loaded.query(HISTORY))
    assert "rebuilding" in loaded.said[0]


@pytest.mark.parametrize("share", [0, 0.3])
def test_more_rejected_than_allowed(share: float, loaded: Loader) -> None:
    before = loaded.state()
    loaded.write("b.json", 8)
    path = loaded.write("c.json", *range(4, 24), text="bad\n" * 12)
    with pytest.raises(SparkifyError) as error:
        loaded.load(share=share)
    message = str(error.value)
    assert "12 of 33 records of event_files cannot be read" in message
    assert f"the share of {share:g} that SPARKIFY_MAX_REJECTED_SHARE allows" in message
    assert message.count(f"{path}, line ") == 3
    assert f"{path}, line 21: not a JSON object; " in message
    assert loaded.state() == before


def test_as_many_rejected_as_allowed(loader: Loader) -> None:
    loader.write("a.json", 1, 2, 3, text="nothing")
    load = loader.load(share=0.25)
    assert (load.loaded, load.rejected) == (3, 1)
    assert load.rejected_samples == [f"{loader.root}/a.json, line 4: not a JSON object"]


def test_a_few_bad_records_do_not_stop_a_day(loaded: Loader) -> None:
    """Ten of fifty pass, eleven do not; and with a share of 0, none."""
    loaded.write("day.json", *range(100, 140), text="bad\n" * 10)
    with pytest.raises(SparkifyError, match="10 of 50 records"):
        loaded.load(share=0)
    assert loaded.load(share=0.01).rejected == 10
    loaded.write("next.json", *range(200, 239), text="bad\n" * 11)
    with pytest.raises(SparkifyError, match=r"11 of 50 .* more than 10 and more than the"):
        loaded.load(share=0.01)
    assert len(loaded.events()) == 3


@pytest.mark.parametrize("text", [json.dumps({"x": "y" * 77})[:-1], "no record at all"])
def test_a_text_weighs_what_it_may_hold(loader: Loader, text: str) -> None:
    """What would be 15,000 events, in one line that cannot be parted, is not one record."""
    mean = len(json.dumps(event(100_000)))
    loader.write("good.json", *range(100_000, 102_000))
    loader.write("lost.json", text=text * (mean * 15_000 // len(text)))
    with pytest.raises(
        SparkifyError, match=r"about 1[45],\d\d\d of 1[67],\d\d\d .*lost.json, line 2"
    ):
        loader.load(share=0.01)


@pytest.mark.parametrize(
    ("loader", "glue"),
    [("redshift", ""), *(("duckdb", glue) for glue in ("  ", ",", "\r"))],  # all read by DuckDB
    indirect=["loader"],
)
def test_events_without_newlines_are_all_loaded(loader: Loader, glue: str) -> None:
    """As Firehose writes them: many MB on one line. One that is damaged costs only itself."""
    events = [json.dumps(event(number)) for number in range(40_000)]
    events[17_000] = events[17_000][:-20]
    path = loader.write("firehose.json", text=glue.join(events))
    assert path.stat().st_size > 4_300_000
    load = loader.load(share=0.01)
    assert (load.records, load.loaded, load.rejected) == (40_000, 39_999, 1)
    assert loader.events()["firehose.json"] == [n for n in range(40_000) if n != 17_000]


def test_a_file_of_which_nothing_is_read_is_named(loaded: Loader) -> None:
    path = loaded.write("page.json", text="<!DOCTYPE html>\n<html>\n" + "<p>no\n" * 99)
    loaded.write("some.json", 7, text="bad\n")
    load = loaded.load(share=0.9)
    assert (load.rejected, load.unread_files) == (2, [str(path)])


def test_failed_first_load_leaves_no_table(loader: Loader) -> None:
    loader.write("a.json", text="nothing")
    with pytest.raises(SparkifyError, match="1 of 1 records"):
        loader.load(share=0.5)
    assert loader.tables() == []


def add_column(loader: Loader) -> None:
    path = loader.sql / "staging/staging_events.sql"
    text = path.read_text()
    assert "    auth VARCHAR(64)" in text
    path.write_text(
        text.replace("    auth VARCHAR(64)", "    extra INTEGER,\n    auth VARCHAR(64)")
    )


def test_table_of_another_shape_is_rebuilt(loaded: Loader) -> None:
    loaded.write("c.json", event(4) | {"extra": 9})
    loaded.load()
    assert loaded.said == []
    add_column(loaded)
    assert counts(loaded.load()) == (3, 0, 0, 0)
    assert loaded.query("SELECT sessionId, extra FROM staging_events ORDER BY 1") == [
        (1, None),
        (2, None),
        (3, None),
        (4, 9),
    ]
    assert "rebuilding" in loaded.said[0]


def test_rebuild_that_would_lose_rows_is_refused(loaded: Loader) -> None:
    (loaded.root / "a.json").unlink()
    before = loaded.state()
    add_column(loaded)
    with pytest.raises(SparkifyError) as error:
        loaded.load()
    assert "extra integer" in str(error.value).lower()
    assert f"1 loaded objects are gone (file://{loaded.root}/a.json" in str(error.value)
    assert loaded.state() == before
    loaded.load(full_reload=True)
    assert loaded.events() == {"b.json": [3]}


@pytest.mark.parametrize("full_reload", [False, True])
def test_dropped_table_is_made_again(full_reload: bool, loaded: Loader) -> None:
    before = loaded.events()
    loaded.change("DROP TABLE staging_events")
    assert counts(loaded.load(full_reload=full_reload)) == (2, 0, 0, 0)
    assert loaded.events() == before


def test_dropped_table_whose_files_vanished_is_refused(loaded: Loader) -> None:
    copy = loaded.query("SELECT * FROM staging_events ORDER BY sessionId")
    loaded.change("ALTER TABLE staging_events RENAME TO kept")
    (loaded.root / "a.json").unlink()
    with (
        pytest.raises(SparkifyError, match=r"it does not exist.*a\.json"),
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(Loader, "verify_balances", lambda _: None)
        loaded.load()
    assert loaded.query("SELECT * FROM kept ORDER BY sessionId") == copy


def test_table_that_no_history_knows_is_not_added_to(loaded: Loader) -> None:
    loaded.change("DROP TABLE load_history CASCADE")  # other tables refer to it
    loaded.change("DROP TABLE rejected_records")
    assert counts(loaded.load()) == (2, 0, 0, 0)
    assert loaded.events() == {"a.json": [1, 2], "b.json": [3]}


def test_ledger_of_another_version_is_refused(loaded: Loader) -> None:
    loaded.change("ALTER TABLE load_history ADD COLUMN extra INTEGER")
    with pytest.raises(SparkifyError, match="load_history was created by another version"):
        loaded.load()


def test_type_that_json_is_not_read_into(loader: Loader) -> None:
    loader.write("a.json", 1)
    path = loader.sql / "staging/staging_events.sql"
    path.write_text(path.read_text().replace("auth VARCHAR(64)", "auth DECIMAL(3, 1)"))
    with pytest.raises(SparkifyError, match=r"column auth: type DECIMAL\(3, 1\) is not one"):
        loader.load()
    assert loader.tables() == []


def append(path: Path) -> None:
    with path.open("a") as file:
        file.write(json.dumps(event(99)) + "\n")


def replace(path: Path) -> None:
    copy = path.with_name(".copy")
    copy.write_bytes(path.read_bytes())
    copy.replace(path)


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize("loader", ["duckdb"], indirect=True)  # the reader finds it
@pytest.mark.parametrize("change", [append, replace, truncate, Path.unlink])
@pytest.mark.parametrize("hook", ["before it is read", "while it is read", "after it is read"])
@pytest.mark.parametrize("way", [-1, 1 << 60], ids=["fast", "careful"])
def test_object_that_changes_during_the_load(
    change: Callable[[Path], None],
    hook: str,
    way: int,
    loaded: Loader,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = loaded.state()
    path = loaded.write("c.json", *range(10, 50))
    changed: list[Path] = []

    def change_once(item: LocalFile) -> None:
        if item.path == path and not changed:
            changed.append(path)
            change(path)

    @contextmanager
    def opened_and_changed(item: LocalFile) -> Iterator[FileIO]:
        if hook == "before it is read":
            change_once(item)
        with opened(item) as stream:
            if hook == "while it is read":
                change_once(item)
            yield stream
            change_once(item)

    monkeypatch.setattr(reading, "TINY_BYTES", way)
    monkeypatch.setattr(reading, "opened", opened_and_changed)
    with pytest.raises(SparkifyError, match=r"c\.json (changed while|cannot be read)"):
        loaded.load()
    assert changed
    monkeypatch.undo()
    assert loaded.state() == before


def test_crash_in_a_later_batch_leaves_everything_as_it_was(
    loaded: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = loaded.state()
    read: list[LocalFile] = []

    def open_two(item: LocalFile) -> AbstractContextManager[FileIO]:
        read.append(item)
        if len(read) == 2:
            raise KeyboardInterrupt
        return opened(item)

    loaded.write("b.json", 4)
    loaded.write("c.json", 5)
    monkeypatch.setattr(loading, "BATCH_BYTES", 1)
    monkeypatch.setattr(reading, "opened", open_two)
    with pytest.raises(KeyboardInterrupt):
        loaded.load()
    assert loaded.state() == before


@pytest.mark.parametrize("limit", [1, 10_000, 100_000])
def test_batches_make_no_difference(
    limit: int, loader: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(7):
        loader.write(f"{number}.json", number, text="nothing" * 50_000 * (number % 2))
    loader.write("empty.json")
    monkeypatch.setattr(loading, "BATCH_BYTES", limit)
    monkeypatch.setattr(loading, "PROGRESS_SECONDS", 0.0)
    load = loader.load()
    assert (load.new, load.loaded, load.rejected) == (8, 7, 3)
    assert loader.events() == {f"{n}.json": [n] for n in range(7)} | {"empty.json": []}
    assert len(loader.said) > 1
    assert loader.said[0] != loader.said[-1]
    assert loader.said[-1] == "staging_events: read 1.1 of 1.1 MB"


def archive(loader: Loader, *numbers: int) -> None:
    """Writes sample data as the package ships it."""
    loader.root.mkdir(exist_ok=True)
    with ZipFile(loader.root / "log_data.zip", "w") as made:
        for number in numbers:
            made.writestr(f"2018/{number}.json", json.dumps(event(number)))


def elsewhere(loader: Loader) -> tuple[int, int, int, int]:
    """The package is installed in another folder, and the old one is still there."""
    loader.root = shutil.copytree(loader.root, loader.folder / "elsewhere")
    return 2, 0, 0, 0


def again(loader: Loader) -> tuple[int, int, int, int]:
    """The package is installed again: its files have other times."""
    os.utime(loader.root / "log_data.zip", (1, 1))
    return 0, 2, 0, 0


def upgraded(loader: Loader) -> tuple[int, int, int, int]:
    """A version of the package with other sample data."""
    archive(loader, 2, 3, 4)
    os.utime(loader.root / "log_data.zip", (1, 1))
    return 2, 1, 0, 0


def from_written_files(loader: Loader) -> tuple[int, int, int, int]:
    """What was loaded was made by a version that wrote its sample data into a folder."""
    loader.change(
        "UPDATE load_history SET source_root = 'sample:file:///home/you/data/sample/log_data', "
        "uri = REPLACE(uri, 'log_data.zip!/', '')"
    )
    return 2, 0, 0, 0


@pytest.mark.parametrize("change", [elsewhere, again, upgraded, from_written_files])
def test_sample_data_of_another_installation_replaces_the_old(
    loader: Loader, change: Callable[[Loader], tuple[int, int, int, int]]
) -> None:
    loader.is_sample = True
    archive(loader, 1, 2)
    loader.load()
    expected = change(loader)
    assert counts(loader.load()) == expected
    numbers = [2, 3, 4] if change is upgraded else [1, 2]
    assert loader.events() == {f"{number}.json": [number] for number in numbers}
    assert counts(loader.load()) == (0, 0, len(numbers), 0)
    roots = loader.query("SELECT DISTINCT source_root FROM load_history")
    assert roots == [("sample:event_files",)]


def test_sample_table_of_another_shape_is_rebuilt(loader: Loader) -> None:
    loader.is_sample = True
    loader.write("a.json", 1)
    loader.load()
    add_column(loader)
    loader.write("b.json", event(2) | {"extra": 5})
    assert counts(loader.load()) == (2, 0, 0, 0)
    assert loader.query("SELECT extra FROM staging_events ORDER BY sessionId") == [(None,), (5,)]


def test_real_source_replaces_the_sample_but_not_the_other_way(
    loader: Loader, tmp_path: Path
) -> None:
    loader.is_sample = True
    loader.write("a.json", 1)
    loader.load()
    sample, loader.root, loader.is_sample = loader.root, tmp_path / "real", False
    loader.write("c.json", 5)
    assert counts(loader.load()) == (1, 0, 0, 0)
    assert loader.events() == {"c.json": [5]}
    loader.root, loader.is_sample = sample, True
    with pytest.raises(SparkifyError, match="SPARKIFY_LOG_DATA the sample is loaded"):
        loader.load()
    assert loader.events() == {"c.json": [5]}


# --- Moments -----------------------------------------------------------------------------------


@pytest.mark.parametrize("later", [1_000_000, -86_400 * 10**9], ids=["a millisecond", "a day back"])
def test_a_file_of_the_same_size_and_another_time_is_another_one(
    loaded: Loader, later: int
) -> None:
    path = loaded.root / "b.json"
    before = path.stat()
    path.write_text(path.read_text().replace('"userId": "3"', '"userId": "4"'))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + later))
    assert path.stat().st_size == before.st_size
    assert counts(loaded.load()) == (0, 1, 1, 0)
    assert loaded.query("SELECT userId FROM staging_events WHERE sessionId = 3") == [(4,)]


def test_a_time_in_the_future_is_as_good_as_any(loaded: Loader) -> None:
    os.utime(loaded.write("c.json", 4), (4e9, 4e9))
    assert counts(loaded.load()) == (1, 0, 2, 0)
    assert counts(loaded.load()) == (0, 0, 3, 0)


def test_a_clock_that_goes_back_loads_nothing_twice(
    loaded: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Past(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return datetime(2001, 1, 1, tzinfo=tz)

    loaded.write("c.json", 4)
    with monkeypatch.context() as patch:
        patch.setattr(loading, "datetime", Past)
        assert counts(loaded.load()) == (1, 0, 2, 0)
    loaded.write("d.json", 5)
    assert counts(loaded.load()) == (1, 0, 3, 0)
    assert loaded.events() == {"a.json": [1, 2], "b.json": [3], "c.json": [4], "d.json": [5]}


@pytest.mark.parametrize("loader", ["duckdb"], indirect=True)
def test_a_warehouse_from_an_older_backup_catches_up(loaded: Loader) -> None:
    warehouse = loaded.folder / "warehouse.duckdb"
    backup = warehouse.read_bytes()
    loaded.write("a.json", 7)
    loaded.write("c.json", 4)
    loaded.load()
    warehouse.write_bytes(backup)
    assert counts(loaded.load()) == (1, 1, 1, 0)
    assert loaded.events() == {"a.json": [7], "b.json": [3], "c.json": [4]}


def test_what_another_run_loads_meanwhile_is_not_loaded_again(loaded: Loader) -> None:
    """Both have read the same new files; one of them finds others new, too."""
    loaded.write("a.json", 8)
    loaded.write("c.json", 4)
    catalog = loaded.catalog
    table, warehouse = catalog.tables["staging_events"], loaded.warehouse
    source = FolderSource("event_files", "SPARKIFY_LOG_DATA", loaded.root)
    options = {"max_rejected_share": 0.0, "run_id": "slow", "log": loaded.said.append}
    with prepared_load(warehouse, catalog, table, source, **options) as slow:
        loaded.load()
        loaded.change("DELETE FROM staging_events WHERE sessionId = 3")
        loaded.change("DELETE FROM load_history WHERE uri LIKE '%b.json'")
        loaded.write("d.json", 5)
        load = written(slow, warehouse)
    assert counts(load) == (1, 0, 2, 0)  # b.json, which nobody had to read before
    loaded.verify_balances()
    loaded.load()
    assert loaded.events() == {"a.json": [8], "b.json": [3], "c.json": [4], "d.json": [5]}


@pytest.fixture
def parted(loader: Loader) -> Loader:
    """A loader that has loaded November, and found December besides."""
    loader.write("2018/11/a.json", 1)
    loader.write("2018/11/b.json", 2)
    loader.load(prefix="2018/11")
    loader.write("2018/12/c.json", 3)
    loader.write("2018/1/d.json", 4)
    return loader


def test_prefix_loads_a_part(parted: Loader) -> None:
    assert parted.events() == {"a.json": [1], "b.json": [2]}
    assert counts(parted.load(prefix="2018/12")) == (1, 0, 0, 0)
    assert counts(parted.load(prefix="/2018/12/")) == (0, 0, 1, 0)
    assert counts(parted.load()) == (1, 0, 3, 0)
    assert parted.events() == {"a.json": [1], "b.json": [2], "c.json": [3], "d.json": [4]}
    assert counts(parted.load(prefix="/")) == (0, 0, 4, 0)


def test_prefix_judges_only_what_is_in_it(parted: Loader) -> None:
    parted.load()
    parted.write("2018/11/a.json", 5)
    (parted.root / "2018/11/b.json").unlink()
    parted.write("2018/12/c.json", 6)
    parted.write("2018/12/e.json", 7)
    (parted.root / "2018/1/d.json").unlink()
    parted.write("2018/1/f.json", 8)
    assert counts(parted.load(prefix="2018/1")) == (1, 0, 0, 1)
    assert counts(parted.load(prefix="2018/11")) == (0, 1, 0, 1)
    assert parted.events()["c.json"] == [3]
    assert counts(parted.load(prefix="2018")) == (1, 1, 2, 2)


def test_prefix_with_full_reload_is_refused(parted: Loader) -> None:
    before = parted.state()
    with pytest.raises(SparkifyError, match=r"full_reload forgets .* prefix loads only a part"):
        parted.load(prefix="2018/12", full_reload=True)
    assert parted.state() == before


def test_prefix_of_another_root_is_refused(parted: Loader, tmp_path: Path) -> None:
    shutil.copytree(parted.root, tmp_path / "log_data_new")
    parted.root = tmp_path / "log_data_new"
    before = parted.state()
    with pytest.raises(SparkifyError, match="SPARKIFY_LOG_DATA now means"):
        parted.load(prefix="2018/12")
    assert parted.state() == before


def test_prefix_does_not_rebuild_what_is_outside_of_it(parted: Loader) -> None:
    add_column(parted)
    before = parted.state()
    with pytest.raises(SparkifyError, match="run without a prefix"):
        parted.load(prefix="2018/12")
    assert parted.state() == before
    assert counts(parted.load()) == (4, 0, 0, 0)


def test_two_tables_share_the_ledgers(loaded: Loader) -> None:
    songs = loaded.folder / "song_data"
    songs.mkdir()
    record = {"artist_id": "A", "artist_name": 112, "song_id": "S", "title": 4.6, "year": 0}
    (songs / "a.json").write_text(json.dumps(record))
    catalog = loaded.catalog
    for _ in range(2):
        load_source(
            loaded.warehouse,
            catalog,
            catalog.tables["staging_songs"],
            FolderSource("song_files", "SPARKIFY_SONG_DATA", songs),
            max_rejected_share=0,
            full_reload=True,
            run_id="songs",
            log=loaded.said.append,
        )
    assert loaded.query("SELECT artist_name, title, year FROM staging_songs") == [("112", "4.6", 0)]
    assert loaded.query(
        "SELECT table_name, COUNT(*), SUM(rows_loaded) FROM load_history GROUP BY ALL ORDER BY 1"
    ) == [("staging_events", 2, 3), ("staging_songs", 1, 1)]
    assert loaded.query("SELECT COUNT(DISTINCT object_id) FROM load_history") == [(3,)]
    assert loaded.query("SELECT raw_text FROM rejected_records") == [("nothing",)]
