"""Lists and opens the input objects of a source: which there are, how large, in which version.

What an object contains is the business of `loading.py`.
"""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from sparkify_assets.errors import SparkifyError
from sparkify_assets.settings import Settings

SAMPLE = "sample:"
SAMPLE_ROOT = Path("data/sample")
HIDDEN = (".", "_")  # how the names of hidden files and folders begin


@dataclass(frozen=True)
class InputObject:
    """A file as it was listed: `version` changes with its size and its modification time."""

    uri: str
    path: Path
    size: int
    version: str


@dataclass(frozen=True)
class Source:
    """A folder of JSON files. `variable` is the setting that names it, None for the sample data."""

    name: str
    root: Path
    variable: str | None

    @property
    def is_sample(self) -> bool:
        """Whether this is the built-in sample data."""
        return self.variable is None

    @property
    def uri(self) -> str:
        """Address of the folder; the sample data's says that it is one."""
        return f"{SAMPLE if self.is_sample else ''}file://{self.root}"

    def objects(self) -> list[InputObject]:
        """Every file below the folder that is not hidden, in order of its path.

        Hidden files and folders (`.DS_Store`, `.ipynb_checkpoints`, `_SUCCESS`) are not data.

        Raises:
            SparkifyError: the folder is missing, unreadable or holds no file.
        """
        try:
            if not self.root.exists():
                raise self._wrong("does not exist")
            if not self.root.is_dir():
                raise self._wrong("is a file, not the folder that holds the files")
            inside = os.path.realpath(self.root)
            found = sorted(_walk(self.root, inside, frozenset()), key=lambda o: o.uri)
        except OSError as error:
            raise self._wrong(f"cannot be read: {error.strerror}: {error.filename}") from None
        except UnicodeEncodeError as error:
            raise SparkifyError(
                f"{self.name}: the name {error.object!a} is not UTF-8 text. Rename it."
            ) from None
        if not found:
            raise self._wrong("holds no file (hidden ones are not data)")
        return found

    def _wrong(self, what: str) -> SparkifyError:
        remedy = (
            f"Set {self.variable} to the folder that holds the JSON files"
            if self.variable
            else f"Materialize {self.name} first: dg launch --assets {self.name}"
        )
        return SparkifyError(f"{self.name}: {self.root} {what}. {remedy}.")


def sources_of(settings: Settings) -> dict[str, Source]:
    """The two sources by name: where the settings say, or the sample data below this folder."""
    chosen = {
        "song_files": ("SPARKIFY_SONG_DATA", settings.song_data, "song_data"),
        "event_files": ("SPARKIFY_LOG_DATA", settings.log_data, "log_data"),
    }
    sources = {}
    for name, (variable, root, folder) in chosen.items():
        if root is None:
            sources[name] = Source(name, SAMPLE_ROOT.absolute() / folder, None)
        elif "://" in root:
            raise SparkifyError(
                f"{variable} is {root}: this version reads folders, not addresses. Copy the files "
                "into a folder and name that."
            )
        else:
            sources[name] = Source(name, Path(root).expanduser().absolute(), variable)
    return sources


def open_object(item: InputObject) -> FileIO:
    """Opens an object for reading, unbuffered: callers read it whole or in large blocks.

    Raises:
        SparkifyError: it cannot be read, or is no longer the version that was listed.
    """
    try:
        stream = item.path.open("rb", buffering=0)
    except OSError as error:
        raise SparkifyError(
            f"{item.path} cannot be read: {error.strerror}. Nothing was loaded."
        ) from None
    if _version(os.fstat(stream.fileno())) != item.version:
        stream.close()
        raise changed(item)
    return stream


def verify_unchanged(item: InputObject) -> None:
    """Makes sure, after reading, that what was read is the version that was listed.

    Raises:
        SparkifyError: the object changed or vanished meanwhile.
    """
    try:
        version = _version(item.path.stat())
    except OSError:
        version = None
    if version != item.version:
        raise changed(item)


def changed(item: InputObject) -> SparkifyError:
    """The error for an object that is not the one that was listed."""
    return SparkifyError(
        f"{item.path} changed while it was being loaded. Nothing was loaded: run it again "
        "when the file is complete."
    )


def _walk(
    folder: Path | str, inside: str, above: frozenset[tuple[int, int]]
) -> Iterator[InputObject]:
    """Files below a folder of the root `inside`; links are followed, but nothing comes twice."""
    status = os.stat(folder)  # noqa: PTH116  # Path objects double the time at 14,896 files
    here = (status.st_dev, status.st_ino)
    if here in above:
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(HIDDEN):
                continue
            status = entry.stat()  # of what a link leads to; an error where that is nothing
            if entry.is_symlink() and _is_found_anyway(entry.path, inside):
                continue
            if stat.S_ISDIR(status.st_mode):
                yield from _walk(entry.path, inside, above | {here})
            elif stat.S_ISREG(status.st_mode):
                uri = f"file://{entry.path}"
                uri.encode()
                yield InputObject(uri, Path(entry.path), status.st_size, _version(status))


def _is_found_anyway(link: str, inside: str) -> bool:
    """Whether a link leads to a place in the root that is found without it."""
    target = os.path.relpath(os.path.realpath(link), inside)
    return not any(part.startswith(HIDDEN) for part in Path(target).parts)


def _version(status: os.stat_result) -> str:
    return f"{status.st_size}-{status.st_mtime_ns}"
