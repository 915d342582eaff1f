"""Temporary folders that are always removed: at their end, or, after a kill, by the next one."""

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

NAME = "sparkify_assets-scratch-"
MARKER = ".lock"  # held by the process that made the folder, as long as it lives


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """An empty folder for the duration of the block; removes those that dead processes left."""
    for marker in Path(gettempdir()).glob(f"{NAME}*/{MARKER}"):
        with suppress(OSError), marker.open() as lock:  # in use, somebody else's, or gone
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(marker.parent, ignore_errors=True)
    with TemporaryDirectory(prefix=NAME) as name, Path(name, "new").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        Path(lock.name).rename(Path(name, MARKER))  # locked before it can be found
        yield Path(name)
