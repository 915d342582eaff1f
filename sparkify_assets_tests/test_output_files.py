"""Files that people keep: what stands in the way of one is never written over, nor half written."""

import os
import re
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from sparkify_assets import report
from sparkify_assets.errors import SparkifyError
from sparkify_assets.warehouse.duckdb import DuckDBWarehouse
from sparkify_assets.warehouse.landing import landing_for
from sparkify_assets_tests.platform import Platform, failure_of

OLD = "the report of yesterday"
NO_FILE = "Not a regular file"


def pipe(path: Path) -> None:
    os.mkfifo(path)


def identity(path: Path) -> tuple[int, ...]:
    """All that is known of a path but when it was last looked at."""
    found = path.lstat()
    return found.st_ino, found.st_dev, found.st_mode, found.st_size, found.st_mtime_ns


def device(path: Path) -> None:
    """One that swallows what is written, as /dev/null does."""
    if os.geteuid() != 0:
        pytest.skip("only root makes devices")
    os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 3))


def folder(path: Path) -> None:
    path.mkdir()


def link_to_itself(path: Path) -> None:
    path.symlink_to(path.name)


def link_to_a_pipe(path: Path) -> None:
    os.mkfifo(path.with_name("pipe"))
    path.symlink_to("pipe")


OBSTACLES = [pipe, device, folder, link_to_itself, link_to_a_pipe]


@pytest.mark.parametrize("obstacle", OBSTACLES)
def test_a_report_takes_the_place_of_no_other_thing(
    obstacle: Callable[[Path], None], tmp_path: Path
) -> None:
    path = tmp_path / "report.html"
    obstacle(path)
    before = identity(path)
    with pytest.raises(SparkifyError, match=f"report.html cannot be written: {NO_FILE}"):
        report.write("new", path)
    assert identity(path) == before
    assert {p.name for p in tmp_path.iterdir()} <= {"report.html", "pipe"}


@pytest.mark.parametrize("old", [OLD, None])
def test_a_report_goes_where_a_link_leads(old: str | None, tmp_path: Path) -> None:
    (tmp_path / "public").mkdir()
    target, link = tmp_path / "public/index.html", tmp_path / "report.html"
    if old:
        target.write_text(old)
    link.symlink_to("public/index.html")
    report.write("new", link)
    assert link.is_symlink()
    assert target.read_text() == "new"
    assert [p.name for p in target.parent.iterdir()] == ["index.html"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("file/report.html", "Not a directory"),
        ("x" * 300, "File name too long"),
        ("nowhere/report.html", "No such file or directory"),
        (".", NO_FILE),
        ("..", NO_FILE),
        ("/", NO_FILE),
    ],
)
def test_a_place_that_holds_no_report_is_told(name: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text(OLD)
    with pytest.raises(SparkifyError, match=f"cannot be written: {reason}.*SPARKIFY_REPORT_PATH"):
        report.write("new", tmp_path / name)
    assert (tmp_path / "file").read_text() == OLD


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 kB, with a report on it."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root mounts a disk, and not everywhere")
    try:
        (disk / "report.html").write_text(OLD)
        yield disk
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("reason", ["No space left on device", "Read-only file system"])
def test_a_disk_that_cannot_take_a_report(reason: str, disk: Path) -> None:
    if "Read-only" in reason:
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    kept = f"cannot be written: {reason}. The old file was left unchanged"
    with pytest.raises(SparkifyError, match=kept):
        report.write("x" * 100_000, disk / "report.html")
    assert (disk / "report.html").read_text() == OLD
    assert [path.name for path in disk.iterdir()] == ["report.html"]


def test_no_room_for_temporary_files(
    disk: Path, made: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    made.write_events([{"itemInSession": n} for n in range(2_000)])
    monkeypatch.setattr(tempfile, "tempdir", str(disk))
    said = failure_of(made.run("staging_events"))
    assert re.search(f"cannot be kept in {disk}: .*No space left on device", said)
    assert "set TMPDIR to another folder" in said


def test_no_folder_for_temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with (
        pytest.raises(SparkifyError, match=r"cannot be kept in .*gone: .*No such file"),
        landing_for([]),
    ):
        pass


def test_a_report_that_breaks_off_in_the_middle(tmp_path: Path) -> None:
    """For whoever may not mount a disk: a limit of the file's size is met as a full disk is."""
    path = tmp_path / "report.html"
    path.write_text(OLD)
    code = f"""if True:
        import pathlib, resource
        from sparkify_assets.output_files import replace
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
        replace(pathlib.Path({str(path)!r}), "x" * 100_000)
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "File too large" in done.stderr
    assert path.read_text() == OLD
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_closed() -> None:
    with TemporaryDirectory() as place:  # in a place that everybody can reach, unlike `tmp_path`
        path = Path(place) / "report.html"
        path.write_text(OLD)
        Path(place).chmod(0o555)
        before = os.geteuid()
        if before == 0:
            os.seteuid(65534)
        try:
            with pytest.raises(SparkifyError, match="cannot be written: Permission denied"):
                report.write("new", path)
        finally:
            os.seteuid(before)
        assert path.read_text() == OLD


@pytest.mark.parametrize("obstacle", OBSTACLES)
@pytest.mark.parametrize("name", ["warehouse.duckdb", "warehouse.duckdb.wal"])
def test_a_warehouse_takes_the_place_of_no_other_thing(
    obstacle: Callable[[Path], None], name: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    obstacle(path)
    before = identity(path)
    warehouse = DuckDBWarehouse(path=str(tmp_path / "warehouse.duckdb"))
    said = f"{NO_FILE}.*SPARKIFY_DUCKDB_PATH|is a folder"
    with pytest.raises(SparkifyError, match=said), warehouse.transaction():
        pass
    assert identity(path) == before


@pytest.mark.parametrize("old", [True, False])
def test_a_warehouse_may_be_a_link(old: bool, tmp_path: Path) -> None:
    (tmp_path / "link.duckdb").symlink_to("warehouse.duckdb")
    for path in ("warehouse.duckdb", "link.duckdb")[not old :]:
        with DuckDBWarehouse(path=str(tmp_path / path)).transaction() as session:
            session.rows("CREATE TABLE IF NOT EXISTS t (a INTEGER)")
    assert (tmp_path / "link.duckdb").is_symlink()
    assert (tmp_path / "warehouse.duckdb").is_file()
