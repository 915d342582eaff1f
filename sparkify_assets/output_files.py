"""Writes output files whole or not at all, and only over a regular file.

Links are followed. A folder, pipe or device of that name is refused: opening it might block.
"""

import errno
import os
import shutil
import stat
from contextlib import suppress
from pathlib import Path


def writable(path: Path) -> Path:
    """Resolves a path; raises OSError if it exists and is not a regular file."""
    target = Path(os.path.realpath(path))
    with suppress(FileNotFoundError):
        if not stat.S_ISREG(target.lstat().st_mode):
            raise FileExistsError(errno.EEXIST, "Not a regular file", str(path))
    return target


def replace(path: Path, text: str) -> None:
    """Replaces a file's text, not its permissions; raises OSError, keeping it, if it cannot."""
    target = writable(path)
    beside = target.with_name(f".sparkify_assets-{os.getpid()}")
    try:
        beside.unlink(missing_ok=True)  # left by a killed process
        with beside.open("x", encoding="utf-8") as file:  # through nobody's link
            with suppress(FileNotFoundError):
                shutil.copymode(target, beside)
            file.write(text)
        beside.replace(target)
    except BaseException:
        with suppress(OSError):
            beside.unlink()
        raise
