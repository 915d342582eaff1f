"""What a folder holds: which of its files are listed, and that any name can be read."""

import os
import re
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb
import pytest

from sparkify_assets import reading
from sparkify_assets.catalog import Catalog
from sparkify_assets.errors import SparkifyError
from sparkify_assets.findings import Keys
from sparkify_assets.settings import Settings
from sparkify_assets.sources import sources_of
from sparkify_assets.sources.base import LocalFile, address_of, opened
from sparkify_assets.sources.folder import FolderSource
from sparkify_assets_tests.platform import Platform

NAMES = [
    "plain.json",
    "with blank.json",
    " outer blanks ",
    "*.json",
    "[a-z].json",
    "question?.json",
    "100%25.json",
    "it's.json",
    '"quoted".json',
    "back\\slash.json",
    "new\nline.json",
    "tab\tulator.json",
    "Beyoncé 🎵 東京.json",
    "e\u0301.json",
    "no extension",
    "file.csv",
    "packed.json.gz",  # by its name alone
    "{a,b}.json",
    "$HOME.json",
    "~",
    "-rf",
    "#1.json",
]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "log_data"
    root.mkdir()
    return root


def put(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text('{"id": 1}\n')


def source(root: Path) -> FolderSource:
    return FolderSource("event_files", "SPARKIFY_LOG_DATA", root)


def files(root: Path, prefix: str = "") -> list[LocalFile]:
    with source(root).fetched(source(root).objects(prefix)) as fetched:
        return fetched


def listed(root: Path, prefix: str = "") -> list[str]:
    return [str(item.path.relative_to(root)) for item in files(root, prefix)]


@pytest.fixture
def unprivileged() -> Iterator[None]:
    """Root may read everything; what is tested here is somebody who may not."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(before)


def test_every_file_at_every_depth_in_order(root: Path) -> None:
    names = ["b.json", "a/z.json", "a/b/c/d.json", "a.json", "A.json", "2018/11/x.json", "0"]
    put(*(root / name for name in names))
    assert listed(root) == sorted(names)
    assert listed(root) == listed(root)


def test_hidden_files_and_folders_are_no_data(root: Path) -> None:
    put(
        root / "a.json",
        root / ".DS_Store",
        root / "_SUCCESS",
        root / "2018/.ipynb_checkpoints/a-checkpoint.json",
        root / "_temporary/0/b.json",
        root / ".hidden.json",
        root / "2018/x_.json",
    )
    assert listed(root) == ["2018/x_.json", "a.json"]


def test_hidden_parents_of_the_folder_do_not_hide_it(tmp_path: Path) -> None:
    put(tmp_path / ".cache/_data/a.json")
    assert listed(tmp_path / ".cache/_data") == ["a.json"]


def test_missing_folder(root: Path) -> None:
    with pytest.raises(SparkifyError, match=r"none does not exist.*Set SPARKIFY_LOG_DATA"):
        source(root / "none").objects()


@pytest.mark.parametrize("hidden", [[], [".DS_Store", "_SUCCESS", "empty/.keep"]])
def test_folder_without_files(hidden: list[str], root: Path) -> None:
    put(*(root / name for name in hidden))
    with pytest.raises(SparkifyError, match="log_data holds no file"):
        source(root).objects()


def test_a_pattern_instead_of_a_folder(root: Path) -> None:
    with pytest.raises(
        SparkifyError, match=r"\*\.json does not exist.*a \* is part of a name here"
    ):
        source(root / "2018/*.json").objects()


def test_names_reach_messages_without_what_steers_a_terminal(root: Path) -> None:
    put(root / "a\x1b[31m\nb\x9b.json")
    (item,) = source(root).objects()
    assert address_of(item.uri) == f"{root}/a\ufffd[31m\ufffdb\ufffd.json"
    (file,) = files(root)
    assert file.path.name == "a\x1b[31m\nb\x9b.json"
    file.path.unlink()
    with pytest.raises(SparkifyError) as error, opened(file):
        pass
    assert str(error.value).isprintable()


def test_file_instead_of_a_folder(root: Path) -> None:
    put(root / "a.json")
    with pytest.raises(SparkifyError, match=r"a\.json is a file, not the folder"):
        source(root / "a.json").objects()


def test_missing_sample_data_says_what_to_do(root: Path) -> None:
    with pytest.raises(SparkifyError, match=r"none does not exist\. Install sparkify_assets again"):
        FolderSource("song_files", None, root / "none").objects()


@pytest.fixture
def reachable() -> Iterator[Path]:
    """A folder that everybody can reach, unlike those of `tmp_path`."""
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def test_unreadable_folder(reachable: Path, request: pytest.FixtureRequest) -> None:
    put(reachable / "a.json", reachable / "closed/b.json")
    (reachable / "closed").chmod(0)
    request.getfixturevalue("unprivileged")
    with pytest.raises(SparkifyError, match=r"cannot be read: Permission denied: .*closed"):
        source(reachable).objects()
    with pytest.raises(SparkifyError, match=r"cannot be read: Permission denied: .*closed/b"):
        source(reachable / "closed/b").objects()


def test_unreadable_file(reachable: Path, request: pytest.FixtureRequest) -> None:
    put(reachable / "a.json")
    (reachable / "a.json").chmod(0)
    [item] = files(reachable)
    request.getfixturevalue("unprivileged")
    with (
        pytest.raises(SparkifyError, match=r"a\.json cannot be read: Permission denied"),
        opened(item),
    ):
        pass


def test_folder_named_like_a_file(root: Path) -> None:
    put(root / "2018.json/a.json")
    assert listed(root) == ["2018.json/a.json"]


def test_folders_whose_names_begin_alike_are_apart(root: Path) -> None:
    put(root / "a.json", root.with_name("log_data_old") / "b.json", root.with_name("log_d") / "c")
    assert listed(root) == ["a.json"]
    assert [item.path.name for item in files(Path(f"{root}/"))] == ["a.json"]


def test_links_to_other_places_are_followed(root: Path, tmp_path: Path) -> None:
    put(tmp_path / "elsewhere/a.json", tmp_path / "b.json", root / ".store/c.json")
    (root / "folder").symlink_to(tmp_path / "elsewhere")
    (root / "file").symlink_to(tmp_path / "b.json")
    (root / "stored").symlink_to(root / ".store/c.json")  # hidden where it is
    assert listed(root) == ["file", "folder/a.json", "stored"]
    assert all(item.size == 10 for item in source(root).objects())


def test_root_may_be_a_link(root: Path, tmp_path: Path) -> None:
    put(root / "a.json")
    (tmp_path / "link").symlink_to(root)
    assert listed(tmp_path / "link") == ["a.json"]


def test_links_within_the_folder_do_not_double_files(root: Path) -> None:
    put(root / "2018/11/a.json", root / "2018/12/b.json")
    (root / "latest").symlink_to("2018/12")
    (root / "latest.json").symlink_to("2018/12/b.json")
    assert listed(root) == ["2018/11/a.json", "2018/12/b.json"]


def test_circles_of_links_end(root: Path, tmp_path: Path) -> None:
    put(root / "a/a.json", root / "b/b.json", tmp_path / "out/c.json")
    (root / "a/b").symlink_to(root / "b")
    (root / "b/a").symlink_to("../a")
    (root / "b/up").symlink_to("..")
    (root / "out").symlink_to(tmp_path / "out")
    (tmp_path / "out/out").symlink_to(tmp_path / "out")
    (tmp_path / "out/back").symlink_to(root)
    assert listed(root) == ["a/a.json", "b/b.json", "out/c.json"]


@pytest.mark.parametrize("target", ["gone.json", "link\x1b[31m", "/nowhere/gone", "a.json/b"])
def test_a_link_to_nothing_is_told_and_left_out(
    target: str, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    put(root / "a.json")
    (root / "link\x1b[31m").symlink_to(target)
    assert listed(root) == ["a.json"]
    assert caplog.messages == [f"event_files: left out 1 link to nothing: {root}/link\ufffd[31m"]


def test_a_load_warns_of_a_link_to_nothing(
    platform: Platform, capsys: pytest.CaptureFixture[str]
) -> None:
    platform.write_events([{}])
    (platform.log_data / "link").symlink_to("nowhere")
    assert platform.run("staging_events").success
    assert platform.rows("SELECT COUNT(*) FROM staging_events") == [(1,)]
    (told,) = [line for line in capsys.readouterr().err.splitlines() if "left out" in line]
    assert "WARNING" in told
    assert told.endswith(f"event_files: left out 1 link to nothing: {platform.log_data}/link")


def test_many_links_to_nothing_are_told_at_once(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    put(root / "z.json")
    for number in range(1_000):
        (root / f"{number:04}").symlink_to("nowhere")
    assert listed(root) == ["z.json"]
    (said,) = caplog.messages
    assert re.fullmatch("event_files: left out 1,000 links to nothing: [^,]+, [^,]+, [^,]+", said)


def test_a_link_that_may_not_be_followed_is_an_error(
    reachable: Path, request: pytest.FixtureRequest
) -> None:
    put(reachable / "source/a.json", reachable / "closed/b.json")
    (reachable / "source/link").symlink_to(reachable / "closed/b.json")
    (reachable / "closed").chmod(0)
    request.getfixturevalue("unprivileged")
    with pytest.raises(SparkifyError, match=r"cannot be read: Permission denied: .*link"):
        source(reachable / "source").objects()


def test_what_is_no_regular_file_is_not_opened(root: Path, tmp_path: Path) -> None:
    put(root / "a.json")
    os.mkfifo(root / "pipe.json")
    os.mkfifo(tmp_path / "pipe")
    (root / "link.json").symlink_to(tmp_path / "pipe")
    (root / "null").symlink_to("/dev/null")
    assert listed(root) == ["a.json"]


def test_name_that_is_not_utf8_is_refused(root: Path) -> None:
    Path(os.fsdecode(bytes(root) + b"/caf\xe9.json")).write_text("{}")
    with pytest.raises(SparkifyError, match=r"caf\\udce9.json' is not UTF-8 text. Rename it") as e:
        source(root).objects()
    assert str(e.value).isascii()


@pytest.mark.parametrize("tiny", [-1, 1 << 60], ids=["fast", "careful"])
def test_any_name_can_be_read(
    tiny: int, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "TINY_BYTES", tiny)
    for number, name in enumerate(NAMES):
        folder = root / f"folder {name}"
        folder.mkdir()
        (folder / name).write_text(f'{{"id": {number}}}\n{{"id": "{number}x"}}\n')
    (tmp_path / "sql/staging").mkdir(parents=True)
    (tmp_path / "sql/staging/events.sql").write_text(
        "-- loaded from: event_files\nCREATE TABLE events (id INTEGER NOT NULL, object_id INTEGER);"
    )
    table = Catalog.load(tmp_path / "sql").tables["events"]
    objects = files(root)
    with duckdb.connect() as connection:
        connection.execute("CREATE TABLE events (id INTEGER, object_id INTEGER)")
        reader = reading.Reader(connection, table, count(), Keys())
        found = [one for done in reader.read(objects) for one in done]
        rows = connection.execute("SELECT id, object_id FROM events").fetchall()
    assert {NAMES[i]: objects[o].path.name for i, o in rows} == {name: name for name in NAMES}
    assert len(rows) == len(found) == len(NAMES)
    for one in found:
        item = one.file
        assert item.uri == f"file://{root}/folder {item.path.name}/{item.path.name}"
        (rejection,) = one.rejections
        assert rejection.raw == f'{{"id": "{NAMES.index(item.path.name)}x"}}'


def replaced(item: LocalFile) -> None:
    item.path.rename(item.path.with_name(".old"))
    put(item.path)


def grown(item: LocalFile) -> None:
    with item.path.open("a") as file:
        file.write("{}")


def touched(item: LocalFile) -> None:
    os.utime(item.path, ns=(0, 1))


@pytest.mark.parametrize("change", [replaced, grown, touched])
def test_changed_object(change: object, root: Path) -> None:
    put(root / "a.json")
    os.utime(root / "a.json", ns=(0, 0))
    [item] = files(root)
    with opened(item):
        pass
    assert callable(change)
    with pytest.raises(SparkifyError, match=r"a\.json changed while"), opened(item):
        change(item)
    with pytest.raises(SparkifyError, match=r"a\.json changed while"), opened(item):
        pass
    assert source(root).objects()[0].version != item.version


def test_vanished_object(root: Path) -> None:
    put(root / "a.json", root / "b/b.json")
    first, second = files(root)
    with pytest.raises(SparkifyError, match="changed while it was being loaded"), opened(first):
        first.path.unlink()
    with pytest.raises(SparkifyError, match="changed while it was being loaded"), opened(second):
        second.path.unlink()
        second.path.parent.rmdir()
        put(second.path.parent)  # a file where the folder was
    for item in (first, second):
        with pytest.raises(SparkifyError, match="cannot be read"), opened(item):
            pass


def test_sources_of_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sample = sources_of(Settings())
    assert all(source.is_sample for source in sample.values())
    assert {s.root: [Path(o.uri).name for o in s.objects()] for s in sample.values()} == {
        "sample:song_files": ["song_data.zip"],
        "sample:event_files": ["log_data.zip"],
    }
    monkeypatch.setenv("HOME", "/home/somebody")
    chosen = sources_of(Settings(song_data="songs", log_data="~/logs"))
    assert [s.uri for s in chosen.values()] == [
        f"file://{tmp_path}/songs",
        "file:///home/somebody/logs",
    ]
    mixed = sources_of(Settings(song_data="songs", log_data="s3://bucket/log data//x/"))
    assert [s.root for s in mixed.values()] == [
        f"file://{tmp_path}/songs",
        "s3://bucket/log data//x",
    ]


@pytest.mark.parametrize(
    "written",
    ["logs", "./logs/", "x/../logs", "../{here}/logs", "{above}//{here}/./logs", "/{all}"],
)
def test_a_folder_is_the_same_however_it_is_written(
    written: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    place = written.format(here=tmp_path.name, above=tmp_path.parent, all=tmp_path / "logs")
    chosen = sources_of(Settings(song_data="songs", log_data=place))
    assert chosen["event_files"].root == f"file://{tmp_path}/logs"


def test_links_in_the_path_of_a_folder_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    put(tmp_path / "disk/year/a.json", tmp_path / "disk/logs/b.json", tmp_path / "logs/c.json")
    (tmp_path / "latest").symlink_to("disk/year")
    chosen = sources_of(Settings(song_data="latest", log_data="latest/../logs"))
    assert chosen["song_files"].root == f"file://{tmp_path}/latest"
    (item,) = chosen["event_files"].objects()
    assert item.uri.endswith("/latest/../logs/b.json")  # where the system finds it


# --- A part of a folder ----------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["2018/11", "2018/11/", "/2018//11"])
def test_prefix_is_a_folder(prefix: str, root: Path) -> None:
    put(
        *(root / f"2018/{name}" for name in ("11/a.json", "11/x/b.json", "1/c", "111/d", "11.json"))
    )
    assert listed(root, prefix) == ["2018/11/a.json", "2018/11/x/b.json"]
    assert files(root, prefix) == [f for f in files(root) if "2018/11/" in f.uri]


@pytest.mark.parametrize(
    ("prefix", "problem"),
    [
        ("2018/1", "2018/1 does not exist"),
        ("2018/11/a.json", "a.json is a file"),
        ("2018/12", "12 holds no file"),
        ("../log_data/2018", "is not the name of a folder"),
        ("2018/./11", "is not the name of a folder"),
        ("latest", "latest leads to another folder of the same source"),
        ("latest/11", "latest/11 leads to another folder of the same source"),
    ],
)
def test_prefix_that_names_no_folder_of_files(prefix: str, problem: str, root: Path) -> None:
    put(root / "2018/11/a.json")
    (root / "2018/12").mkdir()
    (root / "latest").symlink_to("2018")
    with pytest.raises(SparkifyError, match=problem):
        files(root, prefix)
