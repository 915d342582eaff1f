"""Events load alike in whatever form and container they come, and what is broken is told.

What is expected is computed from the made events in plain Python.
"""

import bz2
import errno
import gzip
import io
import json
import random
import re
import zipfile
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from backports import zstd
from hypothesis import given, settings
from hypothesis import strategies as st

from sparkify_assets import containers, reading
from sparkify_assets.errors import SparkifyError
from sparkify_assets.findings import Load
from sparkify_assets.sources.base import LocalFile
from sparkify_assets_tests.platform import REAL_FILES
from sparkify_assets_tests.test_loading import Loader, RedshiftLoader, counts, event

Event = dict[str, Any]


def zipped(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


FORMS: dict[str, Callable[[list[Event]], bytes]] = {
    "a line each": lambda events: b"".join(json.dumps(e).encode() + b"\n" for e in events),
    "blank lines": lambda events: b"\n\n".join(json.dumps(e).encode() for e in events),
    "array on one line": lambda events: json.dumps(events).encode(),
    "array, pretty-printed": lambda events: json.dumps(events, indent=2).encode(),
    "array, a line each": lambda events: (
        b"[" + b",\n".join(json.dumps(e).encode() for e in events) + b"]\n"
    ),
    "pretty-printed": lambda events: b"".join(json.dumps(e, indent=4).encode() for e in events),
    "glued": lambda events: b"".join(json.dumps(e).encode() for e in events),
    "glued by threes": lambda events: b"".join(
        json.dumps(e).encode() + (b"\n" if n % 3 else b" ") for n, e in enumerate(events)
    ),
}
CONTAINERS: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gzip": gzip.compress,
    "gzip of two members": lambda b: (
        gzip.compress(b[: len(b) // 3]) + gzip.compress(b[len(b) // 3 :])
    ),
    "zstd": zstd.compress,
    "zstd of two frames": lambda b: zstd.compress(b[:99]) + zstd.compress(b[99:]),
    "bzip2": bz2.compress,
    "zip": lambda b: zipped({"a.json": b}),
}


@pytest.fixture
def loader(tmp_path: Path) -> Loader:
    return Loader(tmp_path)


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of some KB come in many parts, each in all the ways in which large ones do."""
    monkeypatch.setattr(reading, "PART_BYTES", 4_000)
    monkeypatch.setattr(containers, "BLOCK_BYTES", 1_000)
    monkeypatch.setattr(reading, "TINY_BYTES", -1)


def put(loader: Loader, name: str, content: bytes) -> Path:
    path = loader.root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def line(number: int) -> bytes:
    return json.dumps(event(number)).encode()


def sessions(loader: Loader) -> list[int]:
    found = loader.query("SELECT sessionId FROM staging_events ORDER BY sessionId")
    return [number for (number,) in found]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_in_every_container(form: str, loader: Loader, small_parts: None) -> None:
    events: list[Event] = []
    for name, pack in CONTAINERS.items():
        found = [event(number) for number in range(len(events), len(events) + 150)]
        put(loader, name, pack(FORMS[form](found)))
        events += found
    load = loader.load(share=0)
    assert (load.records, load.loaded, load.rejected) == (len(events), len(events), 0)
    start = datetime(1970, 1, 1)
    assert loader.query("SELECT sessionId, ts, userId FROM staging_events ORDER BY 1") == [
        (e["sessionId"], start + timedelta(milliseconds=e["ts"]), int(e["userId"])) for e in events
    ]


def test_both_engines_read_the_same(
    tmp_path: Path, request: pytest.FixtureRequest, small_parts: None
) -> None:
    (tmp_path / "duckdb").mkdir()
    (tmp_path / "loader").mkdir()
    loaders = [
        Loader(tmp_path / "duckdb"),
        RedshiftLoader(tmp_path / "loader", request.getfixturevalue("redshift")),
    ]
    for loader in loaders:
        for number, (name, pack) in enumerate(CONTAINERS.items()):
            events = [event(1_000 * number + n) for n in range(30)]
            events[3]["ts"] = "2018-11-01T21:57:10.796123+01:00"
            put(loader, name, pack(FORMS["array, a line each"](events)))
        assert loader.load(share=0).loaded == 30 * len(CONTAINERS)
    duckdb, redshift = (
        loader.query("SELECT sessionId, ts, userId FROM staging_events ORDER BY 1")
        for loader in loaders
    )
    assert duckdb == redshift
    assert duckdb[3][1] == datetime(2018, 11, 1, 20, 57, 10, 796000)


made = st.lists(
    st.tuples(
        st.sampled_from(sorted(FORMS)),
        st.sampled_from(sorted(CONTAINERS)),
        st.integers(1, 40),
        st.lists(st.integers(0, 39), max_size=3),
    ),
    min_size=1,
    max_size=6,
)


@settings(max_examples=settings().max_examples // 8)
@given(files=made)
def test_any_mix_is_balanced(
    files: list[tuple[str, str, int, list[int]]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Of each file some events do not fit; every other one is loaded."""
    loader = Loader(tmp_path_factory.mktemp("mix"))
    good, bad = [], 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "PART_BYTES", 1_500)
        patch.setattr(containers, "BLOCK_BYTES", 700)
        patch.setattr(reading, "TINY_BYTES", 200)
        for number, (form, container, size, misfits) in enumerate(files):
            events = [event(100 * number + n) for n in range(size)]
            for n in misfits:
                if n < size:
                    events[n]["ts"] = "soon"
            good += [e["sessionId"] for e in events if e["ts"] != "soon"]
            bad += sum(e["ts"] == "soon" for e in events)
            put(loader, f"{number}.json", CONTAINERS[container](FORMS[form](events)))
        load = loader.load(share=1)
    assert (load.records, load.loaded, load.rejected) == (len(good) + bad, len(good), bad)
    assert sessions(loader) == good


@pytest.mark.parametrize("container", sorted(CONTAINERS))
def test_the_real_files_in_every_container(
    container: str, loader: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not REAL_FILES.is_dir():
        pytest.skip("the real files are not part of the project")
    monkeypatch.setattr(reading, "PART_BYTES", 300_000)
    expected = []
    for path in sorted((REAL_FILES / "log_data").rglob("*.json")):
        content = path.read_bytes()
        put(loader, path.name, CONTAINERS[container](content))
        expected += [json.loads(line) for line in content.splitlines() if line.strip()]
    assert loader.load(share=0).loaded == len(expected) == 8_056
    rows = loader.query("SELECT sessionId, itemInSession, song FROM staging_events ORDER BY ALL")
    assert sorted((s, i, t or "") for s, i, t in rows) == sorted(
        (e["sessionId"], e["itemInSession"], e["song"] or "") for e in expected
    )


# --- Archives ----------------------------------------------------------------------------------


def archive(*numbers: int) -> bytes:
    return zipped({f"2018/{n}.json": line(n) for n in numbers})


def test_members_of_an_archive_are_files_of_their_own(loader: Loader) -> None:
    path = put(loader, "log-data.zip", archive(1, 2))
    assert counts(loader.load()) == (2, 0, 0, 0)
    assert loader.query("SELECT uri, rows_loaded FROM load_history ORDER BY 1") == [
        (f"file://{path}!/2018/{n}.json", 1) for n in (1, 2)
    ]
    assert counts(loader.load()) == (0, 0, 2, 0)


def test_a_changed_archive_replaces_the_rows_of_its_members(loader: Loader) -> None:
    path = put(loader, "log-data.zip", archive(1, 2))
    loader.write("other.json", 7)
    loader.load()
    path.write_bytes(zipped({"2018/2.json": line(22), "2018/3.json": line(3)}))
    assert counts(loader.load()) == (1, 1, 1, 1)
    assert sessions(loader) == [1, 3, 7, 22]  # a member that leaves keeps its row, like a file
    assert counts(loader.load()) == (0, 0, 3, 1)
    path.write_bytes(archive(1))
    assert counts(loader.load()) == (0, 1, 1, 2)
    path.unlink()
    assert counts(loader.load()) == (0, 0, 1, 3)
    assert sessions(loader) == [1, 3, 7, 22]


def test_an_archive_that_becomes_a_plain_file_keeps_the_rows_of_its_members(loader: Loader) -> None:
    path = put(loader, "log.json", archive(1, 2))
    loader.load()
    path.write_bytes(line(3))
    assert counts(loader.load()) == (1, 0, 0, 2)
    assert sessions(loader) == [1, 2, 3]
    path.write_bytes(archive(2, 4))
    assert counts(loader.load()) == (1, 1, 0, 2)
    assert sessions(loader) == [1, 2, 3, 4]


def test_hidden_members_are_no_data_and_names_lead_nowhere(loader: Loader) -> None:
    one = line(1)
    names = ["../../up.json", "/etc/passwd", "./here.json", "a!/b.json"]
    content = {f"{'x' * n}/../{name}": one for n, name in enumerate(names)}
    hidden = {name: b"no record" for name in ("__MACOSX/a.json", ".DS_Store", r"a\._b.json")}
    put(loader, "a.zip", zipped(content | hidden))
    before = sorted(loader.folder.rglob("*"))
    assert counts(loader.load(share=0)) == (4, 0, 0, 0)
    assert counts(loader.load(share=0)) == (0, 0, 4, 0)
    assert [p for p in sorted(loader.folder.rglob("*")) if p not in before] == [
        loader.folder / "warehouse.duckdb"
    ]


def test_equal_names_in_an_archive_are_two_files(loader: Loader) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made, pytest.warns(UserWarning, match="Duplicate"):
        for number, name in enumerate(("a.json", "a.json", "a.json#1")):
            made.writestr(name, line(number))
    path = put(loader, "a.zip", file.getvalue())
    loader.load(share=0)
    assert sessions(loader) == [0, 1, 2]
    path.touch()
    assert counts(loader.load(share=0)) == (0, 3, 0, 0)
    assert sessions(loader) == [0, 1, 2]


def test_an_empty_archive_is_read_once(loader: Loader) -> None:
    put(loader, "empty.zip", zipped({}))
    put(loader, "hidden.zip", zipped({".DS_Store": b"x"}))
    loader.write("a.json", 1)
    assert counts(loader.load(share=0)) == (3, 0, 0, 0)
    assert counts(loader.load(share=0)) == (0, 0, 3, 0)


# --- What is broken ----------------------------------------------------------------------------

LINES = FORMS["a line each"]([event(n) for n in range(3_000)])


def encrypted() -> bytes:
    content = bytearray(archive(1))
    content[6] |= 1  # the flag, in the member's own header and in the directory
    content[content.index(b"PK\x01\x02") + 8] |= 1
    return bytes(content)


def flipped(content: bytes, at: float) -> bytes:
    place = int(len(content) * at)
    return content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :]


BROKEN = {
    "gzip, checksum": (flipped(gzip.compress(LINES), 0.99999), "gzip-compressed, and cannot"),
    "gzip, damaged": (flipped(gzip.compress(LINES), 0.5), "gzip-compressed, and cannot"),
    "gzip, other text behind": (gzip.compress(LINES) + b"text", "gzip-compressed, and cannot"),
    "zstd, damaged": (flipped(zstd.compress(LINES), 0.5), "zstd-compressed, and cannot"),
    "bzip2, damaged": (flipped(bz2.compress(LINES), 0.5), "bzip2-compressed, and cannot"),
    "bzip2, other text behind": (bz2.compress(LINES) + b"text", "bzip2-compressed, and cannot"),
    "zip, cut": (archive(1, 2)[:-30], "a zip archive, and cannot be unpacked"),
    "zip, damaged": (flipped(zipped({"a": LINES}), 0.5), "in a zip archive, and cannot"),
    "zip, encrypted": (encrypted(), "is encrypted"),
    "gzip in gzip": (gzip.compress(gzip.compress(LINES)), "seems to be compressed"),
    "zip in zip": (zipped({"a.zip": archive(1)}), "seems to be compressed"),
}
LARGE = re.compile(r".*, (checksum|damaged|other text)")


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_file_is_one_finding_and_costs_no_other(case: str, loader: Loader) -> None:
    content, reason = BROKEN[case]
    put(loader, "broken", content)
    loader.write("good.json", *range(10_000, 10_020))
    load = loader.load(share=1)
    assert load.records == load.loaded + load.rejected
    assert [n for n in sessions(loader) if n >= 10_000] == [*range(10_000, 10_020)]
    found = loader.query("SELECT uri, reason FROM rejected_records")
    assert any(reason in said and "broken" in uri for uri, said in found)
    assert sum(reason in said for _, said in found) == 1  # others are what damage made illegible


@pytest.mark.parametrize("case", [case for case in BROKEN if LARGE.match(case)])
def test_what_is_broken_weighs_what_it_may_hold(case: str, loader: Loader) -> None:
    put(loader, "broken", BROKEN[case][0])
    loader.write("good.json", *range(10_000, 10_020))
    with pytest.raises(SparkifyError, match=r"about [\d,]+ of [\d,]+ records"):
        loader.load(share=0.01)


@pytest.mark.parametrize("pack", [gzip.compress, zstd.compress, bz2.compress])
def test_what_comes_before_the_end_that_is_missing_is_kept(
    pack: Callable[[bytes], bytes], loader: Loader
) -> None:
    noise = random.Random(5)
    events = [event(n) | {"song": f"{noise.getrandbits(400):x}"} for n in range(9_000)]
    content = pack(FORMS["a line each"](events))
    put(loader, "cut", content[: len(content) * 2 // 3])
    load = loader.load(share=1)
    found = sessions(loader)
    assert found == [*range(len(found))]
    assert 1_000 < len(found) < 9_000
    assert load.rejected in (1, 2)
    reasons = [r for (r,) in loader.query("SELECT reason FROM rejected_records")]
    assert any("the end is missing. Copy it here again" in reason for reason in reasons)


def test_a_short_file_that_is_cut_off_keeps_what_came_before(loader: Loader) -> None:
    noise = random.Random(5)
    events = [event(n) | {"song": f"{noise.getrandbits(400):x}"} for n in range(200)]
    content = gzip.compress(FORMS["a line each"](events))
    put(loader, "cut", content[: len(content) * 2 // 3])
    loader.load(share=1)
    found = sessions(loader)
    assert found == [*range(len(found))]
    assert 50 < len(found) < 200


def test_a_version_that_is_cut_off_replaces_no_good_one(loader: Loader) -> None:
    content = gzip.compress(FORMS["a line each"]([event(n) for n in range(200)]))
    put(loader, "day", content)
    loader.load()
    put(loader, "day", content[:-9])
    with pytest.raises(
        SparkifyError, match="day was loaded before, and its new version is damaged"
    ):
        loader.load(share=1)
    assert sessions(loader) == [*range(200)]


@pytest.mark.parametrize("pack", [gzip.compress, zstd.compress, lambda b: zipped({"a": b, "b": b})])
def test_a_bomb_is_not_unpacked(
    pack: Callable[[bytes], bytes], loader: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(containers, "FREE_BYTES", 1_500_000)
    path = put(loader, "bomb", pack(b" " * 1_000_000 + b"\n" * 1_000_000))
    with pytest.raises(SparkifyError, match=rf"{path} unpacks to more than .* from [\d,]+ bytes"):
        loader.load(share=1)
    assert loader.tables() == []


# --- Keys and times ----------------------------------------------------------------------------


def load_of(loader: Loader, events: list[Event], share: float = 0) -> Load:
    put(loader, "events.json", FORMS["a line each"](events))
    return loader.load(share=share)


@pytest.mark.parametrize("tiny", [-1, 1 << 60], ids=["fast", "careful"])
def test_keys_that_come_and_go_are_told(
    tiny: int, loader: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "TINY_BYTES", tiny)
    events = [event(n) | {"duration": 200, "city\x1b": "x" * 99} for n in range(5)]
    del events[4]["duration"], events[0]["userId"]
    for e in events:
        del e["length"]
    load = load_of(loader, events)
    known = {"sessionId", "itemInSession", "page", "ts", "userId"}
    assert set(load.missing_keys) == {
        *("artist", "auth", "firstName", "gender", "lastName", "length", "level", "location"),
        *("method", "registration", "song", "status", "userAgent"),
    }
    assert not known & set(load.missing_keys)
    duration, city = sorted(load.unknown_keys, reverse=True)
    assert duration == "duration (4 records, for example 200)"
    assert city == f"city\ufffd (5 records, for example {'x' * 40})"


def test_a_load_without_records_misses_no_key(loader: Loader) -> None:
    loader.write("empty.json")
    assert loader.load().missing_keys == []


TIMES: dict[object, datetime | str] = {
    1541105830796: datetime(2018, 11, 1, 20, 57, 10, 796000),
    "1541105830796": datetime(2018, 11, 1, 20, 57, 10, 796000),
    "2018-11-01T20:57:10.796Z": datetime(2018, 11, 1, 20, 57, 10, 796000),
    "2018-11-01 20:57:10.796123": datetime(2018, 11, 1, 20, 57, 10, 796000),
    "2018-11-01 20:57:10.7969": datetime(2018, 11, 1, 20, 57, 10, 796000),
    "2018-11-01T20:57": datetime(2018, 11, 1, 20, 57),
    "2018-11-01T20:57:10.123456000+0000": datetime(2018, 11, 1, 20, 57, 10, 123000),
    "2018-11-01T20:57:10-03:30": datetime(2018, 11, 2, 0, 27, 10),
    "2018-11-01T20:57:10.123456789Z": datetime(2018, 11, 1, 20, 57, 10, 123000),
    "20181101T205710Z": datetime(2018, 11, 1, 20, 57, 10),
    "20181101T205710,7969-0800": datetime(2018, 11, 2, 4, 57, 10, 796000),
    "2018-11-01T20:57:10,796": datetime(2018, 11, 1, 20, 57, 10, 796000),
    "2018-11-01T20:57:10.796-08": datetime(2018, 11, 2, 4, 57, 10, 796000),
    "1973-01-01T00:00:00Z": datetime(1973, 1, 1),
    "1973-01-01T00:00:00+01:00": "before 1973",
    "1972-12-31T23:59:59.9999Z": "before 1973",
    1541105830: "is 1541105830, before 1973: are these seconds? Milliseconds are expected",
    94694399999: "before 1973",
    -1: "before 1973",
    1541105830796123: "more than a day in the future",
    "2999-01-01T00:00:00Z": "more than a day in the future",
    "2018-11-01T24:00:00Z": "not epoch milliseconds",
    "2018-11-01T20:57:60Z": "not epoch milliseconds",
    "2018-02-30T20:57:10Z": "not epoch milliseconds",
    "2018-11-01": "not epoch milliseconds",
    "2018-11-01T20:57:10 Z": "not epoch milliseconds",
}


@pytest.mark.parametrize("tiny", [-1, 1 << 60], ids=["fast", "careful"])
def test_times(tiny: int, loader: Loader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "TINY_BYTES", tiny)
    for number, written in enumerate(TIMES):
        put(loader, f"{number:02}.json", json.dumps(event(number) | {"ts": written}).encode())
    loader.load(share=1)
    kept = dict(loader.query("SELECT sessionId, ts FROM staging_events"))
    assert kept == {n: t for n, t in enumerate(TIMES.values()) if isinstance(t, datetime)}
    told = dict(loader.query("SELECT parse_filename(uri, true), reason FROM rejected_records"))
    for number, reason in enumerate(TIMES.values()):
        if isinstance(reason, str):
            assert reason in told.pop(f"{number:02}")
    assert told == {}


def test_a_time_of_tomorrow_may_be(loader: Loader) -> None:
    now = datetime.now().timestamp()
    events = [
        event(n) | {"ts": int((now + hours * 3600) * 1000)} for n, hours in enumerate((1, 48))
    ]
    assert load_of(loader, events, share=1).rejected == 1
    assert sessions(loader) == [0]


class Failing(io.FileIO):
    """A file on a disk, or a network file system, that fails after some blocks."""

    left = 0

    def count(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise OSError(errno.EIO, "Input/output error")

    def readinto(self, buffer: Any) -> int:
        self.count()
        return super().readinto(buffer)

    def read(self, size: int | None = -1) -> bytes:
        self.count()
        return super().read(-1 if size is None else size)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize("reads", [0, 1])
def test_a_disk_that_fails_is_no_damaged_file(
    tmp_path: Path, pack: Callable[[bytes], bytes], reads: int
) -> None:
    path = tmp_path / "events.json"
    path.write_bytes(pack(json.dumps(event(1)).encode()))
    item = LocalFile(f"file://{path}", path.stat().st_size, "", path)
    with Failing(path) as stream, pytest.raises(SparkifyError) as raised:
        stream.left = reads
        for member in containers.members_of(item, stream):
            list(member.blocks)
    assert str(raised.value) == f"{path} cannot be read: Input/output error. Nothing was loaded."
