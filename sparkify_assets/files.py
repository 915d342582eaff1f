"""How files are written that people keep: never over what is no regular file, and never half.

A link is followed to what it leads to. Whatever else has the name of a file that is to be written
(a folder, a pipe, a device) is somebody's own, and opening it may block for ever.
"""

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path


def writable(path: Path) -> Path:
    """Where a path leads, to be written.

    Raises:
        OSError: something is there that is no regular file, or nobody may look.
    """
    target = Path(os.path.realpath(path))
    with suppress(FileNotFoundError):
        if not stat.S_ISREG(target.lstat().st_mode):
            raise FileExistsError(errno.EEXIST, "Not a regular file", str(path))
    return target


def replace(path: Path, text: str) -> None:
    """Puts a text into a file, whole or not at all.

    Raises:
        OSError: it cannot be written; what was there is as it was, and nothing is beside it.
    """
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
