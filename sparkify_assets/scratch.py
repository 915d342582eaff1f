"""Temporary folders that are always removed: at the end, or after a kill by the next load."""

import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

NAME = "sparkify_assets-scratch-"
MARKER = ".made-by-sparkify_assets"  # a name alone is no reason to remove what others made
YOUNG_SECONDS = 60  # who made a folder may not have locked it yet


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """An empty folder for the time of the block; removes those of processes that are no more."""
    for left in Path(gettempdir()).glob(f"{NAME}*"):
        _remove_abandoned(left)
    with TemporaryDirectory(prefix=NAME) as name:
        Path(name, MARKER).touch()
        lock = os.open(name, os.O_RDONLY)  # its lock ends with this process, however that ends
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield Path(name)
        finally:
            os.close(lock)


def _remove_abandoned(folder: Path) -> None:
    try:
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:  # somebody else's, or gone
        return
    try:
        status = os.fstat(lock)
        is_mine = status.st_uid == os.getuid() and (folder / MARKER).is_file()
        if is_mine and time.time() - status.st_ctime > YOUNG_SECONDS:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
    except BlockingIOError:  # in use
        pass
    finally:
        os.close(lock)
