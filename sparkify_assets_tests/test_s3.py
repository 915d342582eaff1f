"""Loading from S3 gives what loading the same files from a folder gives.

Real boto3 over real sockets, to moto's S3 behind `s3_server.py`.
"""

import gzip
import hashlib
import io
import subprocess
import sys
import tempfile
import zipfile
from itertools import repeat
from pathlib import Path

import dagster as dg
import pytest

from sparkify_assets import loading
from sparkify_assets.errors import SparkifyError
from sparkify_assets.s3_access import CONNECTIONS
from sparkify_assets.settings import Settings
from sparkify_assets.sources import s3, sources_of
from sparkify_assets_tests.platform import Platform, failure_of
from sparkify_assets_tests.s3_loader import Loader, keys, lines, source
from sparkify_assets_tests.s3_server import (
    BUCKET,
    DENIED,
    Request,
    S3Server,
)
from sparkify_assets_tests.test_sources import NAMES


@pytest.fixture
def loader(bucket: S3Server, tmp_path: Path) -> Loader:
    return Loader(tmp_path)


# --- What is listed --------------------------------------------------------------------------


def test_listing_goes_on_over_pages(bucket: S3Server) -> None:
    expected = [f"log_data/{n:05}.json" for n in range(2_345)]
    for key in reversed(expected):
        bucket.put(key, "{}")
    assert keys() == expected
    assert len(bucket.requests) == 3


def test_a_folder_is_not_the_start_of_a_name(bucket: S3Server) -> None:
    names = ["log_data/a", "log_data/2018/11/b", "log_data/2018/111/c", "log_data/2018/11.json"]
    others = ["log_data_old/a", "log_data.bak", "log_data", "log_json_path.json", "x/log_data/a"]
    for key in [*names, *others]:
        bucket.put(key, "{}")
    assert keys() == sorted(names)
    assert keys(prefix="2018/11") == keys(prefix="/2018/11/") == ["log_data/2018/11/b"]
    assert keys("log_data/2018/11") == ["log_data/2018/11/b"]
    assert keys("") == sorted([*names, *others])


def test_hidden_objects_and_folder_markers_are_no_data(bucket: S3Server) -> None:
    for key in ("log_data/", "log_data/x/", "log_data/_SUCCESS", "log_data/.tmp/a", "log_data/a_"):
        bucket.put(key, "")
    assert keys() == ["log_data/a_"]
    bucket.put("_archive/log_data/a", "")  # hidden is what is hidden below the folder that is named
    assert keys("_archive/log_data") == ["_archive/log_data/a"]


@pytest.mark.parametrize(
    ("folder", "prefix", "said"),
    [
        ("log_dat", "", "s3://sparkify-data/log_dat holds no objects .*Set SPARKIFY_LOG_DATA"),
        (
            "log_data",
            "2019",
            "s3://sparkify-data/log_data/2019 holds no objects .*Check the prefix",
        ),
        ("log_data/a", "", "log_data/a holds no objects .*Set SPARKIFY_LOG_DATA"),
        ("log_data", "a", "log_data/a holds no objects .*Check the prefix"),
        ("log_data/*", "", r"log_data/\* holds no objects .*a \* is part of a name here"),
        ("log_data", "..", "prefix .. is not the name of a folder in s3://sparkify-data/log_data"),
    ],
)
def test_folder_without_objects(folder: str, prefix: str, said: str, bucket: S3Server) -> None:
    bucket.put("log_data/a", "")
    with pytest.raises(SparkifyError, match=said):
        source(folder).objects(prefix)


# --- What is loaded --------------------------------------------------------------------------


def test_compressed_objects_and_archives(bucket: S3Server, loader: Loader) -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as members:
        members.writestr("2018/a.json", lines(1, 2))
        members.writestr("__MACOSX/._a.json", "no data")
        members.writestr("b", lines(3))
    bucket.put("log_data/day", gzip.compress(lines(4).encode()))
    bucket.put("log_data/log-data.zip", archive.getvalue())
    assert loader.load().loaded == 4
    assert loader.events() == [1, 2, 3, 4]
    assert loader.query("SELECT uri, records FROM load_history ORDER BY uri") == [
        (f"s3://{BUCKET}/log_data/day", 1),
        (f"s3://{BUCKET}/log_data/log-data.zip!/2018/a.json", 2),
        (f"s3://{BUCKET}/log_data/log-data.zip!/b", 1),
    ]
    bucket.requests.clear()
    load = loader.load()
    assert load.new + load.changed == 0
    assert [request.method for request in bucket.requests] == ["GET"]  # the listing alone


def test_a_load_from_s3_equals_one_from_a_folder(bucket: S3Server, loader: Loader) -> None:
    root = loader.path.parent / "log_data"
    root.mkdir()
    names = [name for name in NAMES if name.isprintable()]  # moto knows no others
    for number, name in enumerate(names):
        content = lines(number, text=f"broken {name!r}\n") + " " * 20_000 * (number % 2)
        (root / name).write_text(content)
        bucket.put(f"log_data/{name}", content)
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


def test_only_what_is_new_or_changed_is_read(bucket: S3Server, loader: Loader) -> None:
    for name in "abc":
        bucket.put(f"log_data/{name}.json", lines(ord(name)))
    first = loader.load()
    bucket.requests.clear()
    second = loader.load()
    assert (second.unchanged, second.version, bucket.reads) == (3, first.version, [])
    bucket.put("log_data/b.json", lines(1, 2))
    bucket.put("log_data/d.json", lines(3))
    bucket.delete("log_data/a.json")
    third = loader.load()
    assert (third.new, third.changed, third.unchanged, third.vanished) == (1, 1, 1, 1)
    assert sorted(request.key for request in bucket.reads) == ["log_data/b.json", "log_data/d.json"]
    assert loader.events() == [1, 2, 3, ord("a"), ord("c")]


def test_a_prefix_loads_a_part(bucket: S3Server, loader: Loader) -> None:
    for key in ("2018/11/a", "2018/11/b", "2018/12/c"):
        bucket.put(f"log_data/{key}", lines(len(key), ord(key[-1])))
    load = loader.load(prefix="2018/11")
    assert (load.new, load.vanished) == (2, 0)
    assert {request.key for request in bucket.reads} == {"log_data/2018/11/a", "log_data/2018/11/b"}


def test_large_objects_come_in_parts(
    bucket: S3Server, loader: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "PART_BYTES", 1_000)
    monkeypatch.setattr(s3, "BLOCK_BYTES", 300)
    content = lines(*range(100))
    bucket.put("log_data/large.json", content)
    bucket.put("log_data/exact.json", lines(1000).ljust(1_000))
    bucket.put("log_data/empty.json", "")
    assert loader.load().loaded == 101
    assert loader.events() == [*range(100), 1000]
    ranges = {r.headers.get("RANGE") for r in bucket.reads if "large" in r.key}
    size = len(content)
    assert ranges == {f"bytes={n}-{min(n + 999, size - 1)}" for n in range(0, size, 1_000)}
    assert all("RANGE" not in r.headers for r in bucket.reads if "large" not in r.key)


def test_many_are_read_at_once_but_not_more(bucket: S3Server, loader: Loader) -> None:
    for number in range(200):
        bucket.put(f"log_data/{number}.json", lines(number))
    bucket.latency = 0.05
    loader.load()
    assert loader.events() == list(range(200))
    assert 10 <= bucket.most_at_once <= CONNECTIONS


def test_a_batch_bounds_what_is_on_disk(
    bucket: S3Server, loader: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "BATCH_BYTES", 3 * loading.DISK_BLOCK)
    monkeypatch.setattr(loading, "PROGRESS_SECONDS", 0.0)
    sizes = []

    def look(request: Request) -> None:
        sizes.append(len(list(Path(tempfile.gettempdir()).glob("*/[0-9]*"))))

    for number in range(10):
        bucket.put(f"log_data/{number}.json", lines(number))
    bucket.before = look
    loader.load()
    assert loader.events() == list(range(10))
    assert 0 < max(sizes) <= 3
    size = sum(len(lines(number)) for number in range(10)) / 1e6
    assert loader.said[-1] == f"staging_events: read {size:.1f} of {size:.1f} MB"
    assert len(loader.said) == 4  # one for each batch


def test_the_warehouse_is_open_to_others_while_objects_are_fetched(
    bucket: S3Server, loader: Loader
) -> None:
    opened = []

    def open_it(request: Request) -> None:
        if request.method == "GET" and request.key.endswith("1.json"):
            command = f"import duckdb; duckdb.connect({str(loader.path)!r})"
            opened.append(subprocess.run([sys.executable, "-c", command], check=False).returncode)

    bucket.put("log_data/0.json", lines(0))
    loader.load()
    bucket.put("log_data/1.json", lines(1))
    bucket.before = open_it
    loader.load()
    assert opened == [0]
    assert loader.events() == [0, 1]


# --- What goes wrong -------------------------------------------------------------------------


def test_the_platform_on_s3(bucket: S3Server, published: Platform) -> None:
    """The star refreshes from S3; a day later the staging asset reads one object."""
    made = published
    for folder in (made.settings["song_data"], made.settings["log_data"]):
        for path in Path(folder).iterdir():
            bucket.put(f"raw/{Path(folder).name}/{path.name}", path.read_bytes())
    expected = made.rows("SELECT * FROM songplays ORDER BY ALL")
    made.warehouse.unlink()
    made.settings |= {
        "song_data": f"s3://{BUCKET}/raw/song_data",
        "log_data": f"s3://{BUCKET}/raw/log_data",
    }
    assert made.make("songplays").success
    assert made.rows("SELECT * FROM songplays ORDER BY ALL") == expected
    assert len(expected) == 4
    bucket.put("raw/log_data/later.json", lines(77))
    result = made.run("staging_events")
    assert result.success
    [loaded] = result.asset_materializations_for_node("staging_events")
    assert loaded.metadata["objects_read"].value == 1
    [spec] = [
        s for s in made.defs().resolve_all_asset_specs() if s.key == dg.AssetKey("song_files")
    ]
    assert spec.metadata["dagster/uri"] == f"s3://{BUCKET}/raw/song_data"
    assert spec.kinds == {"json", "s3"}
    bucket.fail(repeat(DENIED), key="later2")
    bucket.put("raw/log_data/later2.json", lines(78))
    said = failure_of(made.run("staging_events"))
    assert said.startswith(f"s3://{BUCKET}/raw/log_data/later2.json: S3 cannot be used")
