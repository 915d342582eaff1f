"""Temporary folders that are always removed; after a kill, by the next process."""

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

NAME = "sparkify_assets-scratch-"
MARKER = ".lock"  # locked by the process that uses the folder


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """An empty folder for the duration of the block; also removes those of dead processes."""
    for marker in Path(gettempdir()).glob(f"{NAME}*/{MARKER}"):
        with suppress(OSError), marker.open() as lock:  # in use, another user's, or gone
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(marker.parent, ignore_errors=True)
    with TemporaryDirectory(prefix=NAME) as name, Path(name, "new").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        Path(lock.name).rename(Path(name, MARKER))  # visible only once it is locked
        yield Path(name)
