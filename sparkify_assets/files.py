"""Writes files that people keep: whole or not at all, and only over a regular file.

A link is followed. A folder, a pipe or a device with the name of the file is somebody else's, and
opening it might block for ever.
"""

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path


def writable(path: Path) -> Path:
    """What a path leads to; raises OSError if it is no regular file, or cannot be looked at."""
    target = Path(os.path.realpath(path))
    with suppress(FileNotFoundError):
        if not stat.S_ISREG(target.lstat().st_mode):
            raise FileExistsError(errno.EEXIST, "Not a regular file", str(path))
    return target


def replace(path: Path, text: str) -> None:
    """Replaces the text of a file; raises OSError, and leaves what was there, if it cannot."""
    target = writable(path)
    beside = target.with_name(f".sparkify_assets-{os.getpid()}")
    try:
        beside.unlink(missing_ok=True)  # of a process that was killed
        beside.write_text(text, encoding="utf-8")
        beside.replace(target)
    except BaseException:
        with suppress(OSError):
            beside.unlink()
        raise
