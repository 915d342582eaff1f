"""Loading from S3 gives what loading the same files from a folder gives, whatever S3 answers.

Real boto3 over real sockets, to moto's S3 behind `s3_server.py`.
"""

import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from itertools import repeat
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pytest
from sparkify_assets.object_store import CONNECTIONS, ObjectStore

from sparkify_assets import loading, progress, scratch
from sparkify_assets.catalog import Catalog
from sparkify_assets.definitions import SQL
from sparkify_assets.errors import SparkifyError
from sparkify_assets.loading import Load, prepared_load
from sparkify_assets.settings import Settings
from sparkify_assets.sources import s3, sources_of
from sparkify_assets.sources.base import Source
from sparkify_assets.sources.s3 import S3Source
from sparkify_assets.warehouse.duckdb import DuckDBWarehouse
from sparkify_assets_tests.platform import Platform, failure_of
from sparkify_assets_tests.s3_server import (
    BUCKET,
    DENIED,
    INTERNAL_ERROR,
    LISTING,
    MISSING,
    RESET,
    RESET_MIDWAY,
    SHORT,
    SLOW_DOWN,
    Fault,
    Request,
    S3Server,
    environment,
)
from sparkify_assets_tests.test_loading import event
from sparkify_assets_tests.test_sources import NAMES

SECRET = "test-secret-key"


@pytest.fixture
def server(
    s3_server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[S3Server]:
    """An empty bucket, and a folder for temporary files of the test's own, empty again after it."""
    s3_server.reset()
    for name, value in environment(s3_server.url).items():
        monkeypatch.setenv(name, value)
    scratch_folders = tmp_path / "tmp"
    scratch_folders.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch_folders))
    yield s3_server
    assert list(scratch_folders.glob(f"{scratch.NAME}*")) == []


def lines(*numbers: int, text: str = "") -> str:
    return "".join(json.dumps(event(n)) + "\n" for n in numbers) + text


def source(folder: str = "log_data", attempts: int = 3, bucket: str = BUCKET) -> S3Source:
    store = ObjectStore(max_attempts=attempts)
    return S3Source("event_files", "SPARKIFY_LOG_DATA", bucket, folder, store)


def keys(folder: str = "log_data", prefix: str = "") -> list[str]:
    return [o.uri.removeprefix(f"s3://{BUCKET}/") for o in source(folder).objects(prefix)]


class Loader:
    """A warehouse that event files are loaded into from S3."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "warehouse.duckdb"
        self.said: list[str] = []

    def load(self, origin: Source | None = None, prefix: str = "") -> Load:
        catalog = Catalog.load(SQL)
        warehouse = DuckDBWarehouse(path=str(self.path))
        with prepared_load(
            warehouse,
            catalog,
            catalog.tables["staging_events"],
            origin or source(),
            max_rejected_share=1,
            prefix=prefix,
            run_id="run",
            log=self.said.append,
        ) as load:
            return warehouse.in_transaction(load.write, "load")

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        with duckdb.connect(str(self.path)) as connection:
            return connection.execute(sql).fetchall()

    def events(self) -> list[int]:
        return [n for (n,) in self.query("SELECT sessionId FROM staging_events ORDER BY 1")]

    def is_empty(self) -> bool:
        return not self.path.exists() or self.query("SELECT * FROM duckdb_tables()") == []


@pytest.fixture
def loader(server: S3Server, tmp_path: Path) -> Loader:
    return Loader(tmp_path)


# --- What is listed --------------------------------------------------------------------------


def test_listing_goes_on_over_pages(server: S3Server) -> None:
    expected = [f"log_data/{n:05}.json" for n in range(2_345)]
    for key in reversed(expected):
        server.put(key, "{}")
    assert keys() == expected
    assert len(server.requests) == 3


def test_a_folder_is_not_the_start_of_a_name(server: S3Server) -> None:
    names = ["log_data/a", "log_data/2018/11/b", "log_data/2018/111/c", "log_data/2018/11.json"]
    others = ["log_data_old/a", "log_data.bak", "log_data", "log_json_path.json", "x/log_data/a"]
    for key in [*names, *others]:
        server.put(key, "{}")
    assert keys() == sorted(names)
    assert keys(prefix="2018/11") == keys(prefix="/2018/11/") == ["log_data/2018/11/b"]
    assert keys("log_data/2018/11") == ["log_data/2018/11/b"]
    assert keys("") == sorted([*names, *others])


def test_hidden_objects_and_folder_markers_are_no_data(server: S3Server) -> None:
    for key in ("log_data/", "log_data/x/", "log_data/_SUCCESS", "log_data/.tmp/a", "log_data/a_"):
        server.put(key, "")
    assert keys() == ["log_data/a_"]
    server.put("_archive/log_data/a", "")  # hidden is what is hidden below the folder that is named
    assert keys("_archive/log_data") == ["_archive/log_data/a"]


@pytest.mark.parametrize(
    ("folder", "prefix", "said"),
    [
        ("log_dat", "", "s3://sparkify-data/log_dat holds no object.*Set SPARKIFY_LOG_DATA"),
        ("log_data", "2019", "s3://sparkify-data/log_data/2019 holds no object.*Check the prefix"),
        ("log_data/a", "", "log_data/a is an object, not the folder.*Set SPARKIFY_LOG_DATA"),
        ("log_data", "a", "log_data/a is an object, not the folder.*Check the prefix"),
        ("log_data/*", "", r"log_data/\* holds no object.*a \* is part of a name here"),
        ("log_data", "..", "prefix .. is not the name of a folder in s3://sparkify-data/log_data"),
    ],
)
def test_folder_without_objects(folder: str, prefix: str, said: str, server: S3Server) -> None:
    server.put("log_data/a", "")
    with pytest.raises(SparkifyError, match=said):
        source(folder).objects(prefix)


# --- What is loaded --------------------------------------------------------------------------


def test_a_load_from_s3_equals_one_from_a_folder(server: S3Server, loader: Loader) -> None:
    root = loader.path.parent / "log_data"
    root.mkdir()
    names = [name for name in NAMES if name.isprintable()]  # moto knows no others
    for number, name in enumerate(names):
        content = lines(number, text=f"broken {name!r}\n") + " " * 20_000 * (number % 2)
        (root / name).write_text(content)
        server.put(f"log_data/{name}", content)
    loader.load()
    local = Loader(root.parent / "tmp")
    local.load(sources_of(Settings(song_data="x", log_data=str(root)))["event_files"])
    data = "SELECT * EXCLUDE (object_id) FROM staging_events ORDER BY ALL"
    history = (
        "SELECT parse_filename(uri), bytes, records, rows_loaded, rows_rejected FROM load_history"
    )
    rejected = "SELECT parse_filename(uri), line_number, reason, raw_text FROM rejected_records"
    for query in (data, f"{history} ORDER BY ALL", f"{rejected} ORDER BY ALL"):
        assert loader.query(query) == local.query(query)
        assert len(loader.query(query)) == len(names)
    local.path.unlink()
    assert loader.query(
        "SELECT uri, version, source_root FROM load_history ORDER BY uri"
    ) == sorted(
        (
            f"s3://{BUCKET}/log_data/{name}",
            hashlib.md5((root / name).read_bytes()).hexdigest(),
            f"s3://{BUCKET}/log_data",
        )
        for name in names
    )


def test_only_what_is_new_or_changed_is_read(server: S3Server, loader: Loader) -> None:
    for name in "abc":
        server.put(f"log_data/{name}.json", lines(ord(name)))
    first = loader.load()
    server.requests.clear()
    second = loader.load()
    assert (second.unchanged, second.version, server.reads) == (3, first.version, [])
    server.put("log_data/b.json", lines(1, 2))
    server.put("log_data/d.json", lines(3))
    server.delete("log_data/a.json")
    third = loader.load()
    assert (third.new, third.changed, third.unchanged, third.vanished) == (1, 1, 1, 1)
    assert sorted(request.key for request in server.reads) == ["log_data/b.json", "log_data/d.json"]
    assert loader.events() == [1, 2, 3, ord("a"), ord("c")]


def test_a_prefix_loads_a_part(server: S3Server, loader: Loader) -> None:
    for key in ("2018/11/a", "2018/11/b", "2018/12/c"):
        server.put(f"log_data/{key}", lines(len(key), ord(key[-1])))
    load = loader.load(prefix="2018/11")
    assert (load.new, load.vanished) == (2, 0)
    assert {request.key for request in server.reads} == {"log_data/2018/11/a", "log_data/2018/11/b"}


def test_large_objects_come_in_parts(
    server: S3Server, loader: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "PART_BYTES", 1_000)
    monkeypatch.setattr(s3, "BLOCK_BYTES", 300)
    content = lines(*range(100))
    server.put("log_data/large.json", content)
    server.put("log_data/exact.json", lines(1000).ljust(1_000))
    server.put("log_data/empty.json", "")
    assert loader.load().loaded == 101
    assert loader.events() == [*range(100), 1000]
    ranges = {r.headers.get("RANGE") for r in server.reads if "large" in r.key}
    size = len(content)
    assert ranges == {f"bytes={n}-{min(n + 999, size - 1)}" for n in range(0, size, 1_000)}
    assert all("RANGE" not in r.headers for r in server.reads if "large" not in r.key)


def test_many_are_read_at_once_but_not_more(server: S3Server, loader: Loader) -> None:
    for number in range(200):
        server.put(f"log_data/{number}.json", lines(number))
    server.latency = 0.05
    loader.load()
    assert loader.events() == list(range(200))
    assert 10 <= server.most_at_once <= CONNECTIONS


def test_a_batch_bounds_what_is_on_disk(
    server: S3Server, loader: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "BATCH_OBJECTS", 3)
    monkeypatch.setattr(progress, "PROGRESS_SECONDS", 0.0)
    sizes = []

    def look(request: Request) -> None:
        sizes.append(len(list(Path(tempfile.gettempdir()).glob("*/[0-9]*"))))

    for number in range(10):
        server.put(f"log_data/{number}.json", lines(number))
    server.before = look
    loader.load()
    assert loader.events() == list(range(10))
    assert 0 < max(sizes) <= 3
    fetched = [line for line in loader.said if "fetched" in line]
    assert fetched[-1].startswith("staging_events: fetched 10 of 10 objects, 0.0 of 0.0 MB, ")
    assert fetched[-1].endswith("about 0 s left")
    assert len(fetched) == 10


def test_the_warehouse_is_open_to_others_while_objects_are_fetched(
    server: S3Server, loader: Loader
) -> None:
    opened = []

    def open_it(request: Request) -> None:
        if request.method == "GET" and request.key.endswith("1.json"):
            command = f"import duckdb; duckdb.connect({str(loader.path)!r})"
            opened.append(subprocess.run([sys.executable, "-c", command], check=False).returncode)

    server.put("log_data/0.json", lines(0))
    loader.load()
    server.put("log_data/1.json", lines(1))
    server.before = open_it
    loader.load()
    assert opened == [0]
    assert loader.events() == [0, 1]


# --- What goes wrong -------------------------------------------------------------------------


@pytest.mark.faults
@pytest.mark.parametrize(
    ("fault", "size"),
    [
        (INTERNAL_ERROR, 1),
        (SLOW_DOWN, 1),
        (RESET, 1),
        (SHORT, 1),
        (SHORT, 3_000),
        (RESET_MIDWAY, 3_000),
    ],
    ids=repr,
)
def test_what_passes_is_tried_again(
    fault: Fault, size: int, server: S3Server, loader: Loader
) -> None:
    for number in range(5):
        server.put(f"log_data/{number}.json", lines(*range(number * size, (number + 1) * size)))
    server.fail([fault], key="1.json")
    server.fail([fault, fault], key="3.json")
    load = loader.load(source(attempts=3))
    assert (load.new, load.loaded, load.rejected) == (5, 5 * size, 0)
    assert loader.events() == list(range(5 * size))
    assert len(server.reads) == 8


@pytest.mark.faults
@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (INTERNAL_ERROR, "S3 says: .*InternalError.*reached max retries: 1"),
        (SLOW_DOWN, "S3 says: .*SlowDown"),
        (RESET, "S3 cannot be read: Connection was closed"),
        (SHORT, "S3 cannot be read: "),
        (RESET_MIDWAY, "S3 cannot be read: "),
        (DENIED, "access is denied. This needs s3:ListBucket"),
        (Fault(403, "ExpiredToken"), "the credentials have expired: log in again"),
        (Fault(403, "InvalidObjectState"), "is archived"),
        (Fault(301, "PermanentRedirect"), "the bucket is in another region"),
        (MISSING, "changed while it was being loaded. Nothing was loaded"),
    ],
)
def test_what_stays_is_said_and_nothing_is_loaded(
    fault: Fault, said: str, server: S3Server, loader: Loader
) -> None:
    for number in range(40):
        server.put(f"log_data/{number}.json", lines(number))
    server.fail(repeat(fault), key="/7.json")
    with pytest.raises(
        SparkifyError, match=rf"(?s)^s3://{BUCKET}/log_data/7.json: .*{said}"
    ) as error:
        loader.load(source(attempts=2))
    assert SECRET not in str(error.value)
    assert error.value.__suppress_context__
    assert loader.is_empty()
    server.reset()
    server.put("log_data/a.json", lines(1))
    assert loader.load().loaded == 1


@pytest.mark.parametrize("fault", [SLOW_DOWN, INTERNAL_ERROR, RESET])
def test_a_listing_is_tried_again(fault: Fault, server: S3Server) -> None:
    for number in range(1_500):
        server.put(f"log_data/{number}.json", "{}")
    server.fail([fault, fault], key=LISTING)
    assert len(source(attempts=3).objects()) == 1_500
    assert len(server.requests) == 4


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (DENIED, "access is denied. This needs s3:ListBucket .*SPARKIFY_S3_ANONYMOUS=true"),
        (Fault(400, "ExpiredToken"), "the credentials have expired: log in again"),
        (SLOW_DOWN, "S3 says: .*SlowDown"),
    ],
)
def test_a_listing_that_stays_refused_is_said(
    fault: Fault, said: str, server: S3Server, loader: Loader
) -> None:
    server.put("log_data/a.json", lines(1))
    server.fail(repeat(fault), key=LISTING)
    with pytest.raises(SparkifyError, match=rf"^s3://{BUCKET}/log_data/: {said}"):
        loader.load(source(attempts=2))
    assert loader.is_empty()


@pytest.mark.faults
@pytest.mark.parametrize("part", [64_000_000, 1_000])
@pytest.mark.parametrize("change", ["replaced", "truncated", "deleted"])
def test_object_that_changes_after_the_listing(
    change: str, part: int, server: S3Server, loader: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "PART_BYTES", part)
    key = "log_data/b.json"
    server.put("log_data/a.json", lines(*range(10)))
    loader.load()
    before = loader.query("FROM load_history"), loader.events()
    content = lines(*range(10, 50))
    server.put(key, content)
    reads = []

    def at_the_last_read(request: Request) -> None:
        if request.key == key:
            reads.append(request)
            if len(reads) == -(-len(content) // part):
                if change == "deleted":
                    server.delete(key)
                else:
                    server.put(key, lines(*range(60, 100)) if change == "replaced" else "")

    server.before = at_the_last_read
    with pytest.raises(SparkifyError, match=r"b\.json: changed while it was being loaded"):
        loader.load()
    assert (loader.query("FROM load_history"), loader.events()) == before
    server.before = lambda request: None
    loader.load()
    added = {"replaced": list(range(60, 100))}.get(change, [])
    assert loader.events() == [*range(10), *added]


def test_a_bucket_that_is_not_there(server: S3Server) -> None:
    with pytest.raises(SparkifyError, match=r"^s3://no-such/x/: there is no such bucket"):
        source("x", bucket="no-such").objects()
    with pytest.raises(
        SparkifyError, match=r'(?s)^s3://No_Such!/x/: .*Invalid bucket name "No_Such!"'
    ):
        source("x", bucket="No_Such!").objects()


def test_nobody_at_the_address(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    with pytest.raises(SparkifyError, match=r"S3 cannot be reached: .*127.0.0.1:9/.*AWS_ENDPOINT"):
        source(attempts=1).objects()
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://etl:{SECRET}@127.0.0.1:9")
    with pytest.raises(SparkifyError, match=r"http://\*\*\*@127") as error:
        source(attempts=1).objects()
    assert SECRET not in str(error.value)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "127.0.0.1:9")
    with pytest.raises(SparkifyError, match="wrong AWS configuration: Invalid endpoint"):
        source().objects()


def test_credentials_are_found_or_asked_for(
    server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.put("log_data/a.json", lines(1))
    assert keys()
    assert "AKIATESTTESTTEST" in server.requests[-1].headers["AUTHORIZATION"]
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(
        SparkifyError, match=r"Partial credentials.* missing: AWS_SECRET"
    ) as partial:
        keys()
    assert "AKIATESTTESTTEST" not in str(partial.value)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    with pytest.raises(SparkifyError, match=r"Unable to locate credentials.*SPARKIFY_S3_ANONYMOUS"):
        keys()
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(SparkifyError, match=r"wrong AWS configuration: .*profile \(nobody\)"):
        keys()


def test_anonymous_access(
    server: S3Server, loader: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    server.put("log_data/a.json", lines(1), public=True)
    settings = Settings(song_data="x", log_data=f"s3://{BUCKET}/log_data/", s3_anonymous=True)
    assert loader.load(sources_of(settings)["event_files"]).loaded == 1
    assert len(server.requests) == 2
    assert all("AUTHORIZATION" not in request.headers for request in server.requests)


# --- Temporary folders -----------------------------------------------------------------------


def test_what_a_killed_process_left_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold = "import sys, time; from sparkify_assets.scratch import scratch_folder\n"
    hold += "with scratch_folder() as f: (f / 'x').touch(); print(f, flush=True); time.sleep(60)"
    environ = {**os.environ, "TMPDIR": str(tmp_path)}
    holders = [
        subprocess.Popen(
            [sys.executable, "-c", hold], env=environ, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    folders = [Path(h.stdout.readline().strip()) for h in holders if h.stdout]
    killed, alive = holders
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    (tmp_path / f"{scratch.NAME}file").touch()
    others = [tmp_path / "sparkify-assets", tmp_path / f"{scratch.NAME}results"]
    for folder in others:  # a clone, say, and what somebody named like ours
        folder.mkdir()
        (folder / "kept").touch()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with scratch.scratch_folder():
        assert all((folder / "x").exists() for folder in folders)  # too young to be sure
    monkeypatch.setattr(scratch, "YOUNG_SECONDS", 0)
    with scratch.scratch_folder() as mine:
        assert [folder.exists() for folder in folders] == [False, True]
        assert all((folder / "kept").exists() for folder in others)
        with scratch.scratch_folder() as another:
            assert mine.exists()
            assert another != mine
    alive.kill()
    alive.wait()
    for holder in holders:
        if holder.stdout:
            holder.stdout.close()


# --- Through Dagster -------------------------------------------------------------------------


def test_the_platform_on_s3(server: S3Server, made: Platform) -> None:
    """Everything refreshes from S3; a day later the staging asset reads one object."""
    for folder in (made.song_data, made.log_data):
        for path in folder.iterdir():
            server.put(f"raw/{folder.name}/{path.name}", path.read_bytes())
    assert made.run().success
    expected = made.rows("SELECT * EXCLUDE (songplay_id) FROM songplays ORDER BY ALL")
    made.warehouse.unlink()
    made.settings |= {
        "song_data": f"s3://{BUCKET}/raw/song_data",
        "log_data": f"s3://{BUCKET}/raw/log_data",
    }
    assert made.run().success
    assert made.rows("SELECT * EXCLUDE (songplay_id) FROM songplays ORDER BY ALL") == expected
    assert len(expected) == 4
    server.put("raw/log_data/later.json", lines(77))
    result = made.run()
    assert result.success
    [loaded] = result.asset_materializations_for_node("staging_events")
    assert loaded.metadata["objects_read"].value == 1
    [spec] = [
        s for s in made.defs().resolve_all_asset_specs() if s.key == dg.AssetKey("song_files")
    ]
    assert spec.metadata["dagster/uri"] == f"s3://{BUCKET}/raw/song_data"
    assert spec.kinds == {"json", "s3"}
    server.fail(repeat(DENIED), key="later2")
    server.put("raw/log_data/later2.json", lines(78))
    said = failure_of(made.run())
    assert said.startswith(f"s3://{BUCKET}/raw/log_data/later2.json: access is denied.")
