"""What a source must provide: its objects, their versions, and their bytes in local files.

To add a kind of source, subclass `Source` in a new file here, and extend `sources_of` and
`settings.FOLDER`.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import ClassVar

from sparkify_assets.errors import SparkifyError, printable

SAMPLE = "sample:"  # prefix of the sample data's root
SAMPLE_NOTE = "Made-up sample data; SPARKIFY_SONG_DATA and SPARKIFY_LOG_DATA name your own files."
DESCRIPTIONS = {
    "song_files": "JSON files of the song catalogue, one record a file.",
    "event_files": "JSON files of the activity log, one file a day, one record a line.",
}


@dataclass(frozen=True)
class InputObject:
    """An object as listed: `version` changes with its content; `size` is in bytes."""

    uri: str
    size: int
    version: str

    def changed(self) -> SparkifyError:
        """The error for an object that changed after it was listed."""
        return SparkifyError(
            f"{address_of(self.uri)} changed while it was being loaded. Nothing was loaded: run it "
            "again when it is complete."
        )

    def unreadable(self, error: OSError) -> SparkifyError:
        """The error for an object that the disk or the network file system does not deliver."""
        return SparkifyError(
            f"{address_of(self.uri)} cannot be read: {error.strerror}. Nothing was loaded."
        )


@dataclass(frozen=True)
class LocalFile(InputObject):
    """An object whose bytes are in the file `path`; `version` is the version of that file."""

    path: Path


@dataclass(frozen=True)
class Source(ABC):
    """A folder of JSON objects. `variable` is the setting that names it, None for the sample."""

    kinds: ClassVar[set[str]] = {"json"}

    name: str
    variable: str | None

    @property
    def description(self) -> str:
        return DESCRIPTIONS[self.name] + (f" {SAMPLE_NOTE}" if self.is_sample else "")

    @property
    @abstractmethod
    def uri(self) -> str:
        """Address of the folder, without a slash at its end."""

    @abstractmethod
    def objects(self, prefix: str = "") -> list[InputObject]:
        """Every object in the folder and below it, or in its subfolder `prefix`, sorted by URI.

        Hidden files and folders (`.DS_Store`, `.ipynb_checkpoints`, `_SUCCESS`) are not data.

        Raises:
            SparkifyError: the folder is missing, cannot be read or holds no object.
        """

    @abstractmethod
    def fetched(self, objects: list[InputObject]) -> AbstractContextManager[list[LocalFile]]:
        """The objects as files, in the same order, for the duration of the block.

        Raises:
            SparkifyError: an object cannot be read, or has changed since it was listed.
        """

    @property
    def is_sample(self) -> bool:
        return self.variable is None

    @property
    def root(self) -> str:
        """The source's name in load_history; independent of where the sample is installed."""
        return f"{SAMPLE}{self.name}" if self.is_sample else self.uri

    def within(self, prefix: str) -> str:
        """The common prefix of all URIs in the subfolder `prefix`."""
        names = [name for name in prefix.split("/") if name]
        if {".", ".."} & set(names):
            raise SparkifyError(
                f"{self.name}: the prefix {prefix} is not the name of a folder in "
                f"{address_of(self.uri)}."
            )
        return "/".join([self.uri, *names, ""])

    def cannot_list(self, what: str, prefix: str) -> SparkifyError:
        """The error for a source, or a subfolder, that cannot be listed."""
        if prefix:
            remedy = f"Check the prefix, {prefix!r}"
        elif self.variable:
            remedy = f"Set {self.variable} to the folder that holds the JSON files"
        else:
            remedy = "Install sparkify_assets again"
        place = address_of(self.within(prefix)).rstrip("/")
        if "*" in place:
            remedy += "; a * is part of a name here, and everything below a folder is read"
        return SparkifyError(f"{self.name}: {place} {what}. {remedy}.")


def address_of(uri: str) -> str:
    """A URI for people: a local one as a path."""
    return printable(uri.removeprefix("file://"))


def is_hidden(names: list[str]) -> bool:
    """Whether any part of a path is hidden."""
    return any(name.startswith((".", "_")) for name in names)


@contextmanager
def opened(item: LocalFile) -> Iterator[FileIO]:
    """Opens an object unbuffered; callers read large blocks.

    Raises:
        SparkifyError: it cannot be read, or changed since it was listed.
    """
    try:
        stream = item.path.open("rb", buffering=0)
    except OSError as error:
        raise item.unreadable(error) from None
    with stream:
        yield stream
    version = ""
    with suppress(OSError):  # it may be gone
        version = file_version(item.path.stat())
    if version != item.version:
        raise item.changed()


def file_version(status: os.stat_result) -> str:
    """The version of a file: size and modification time."""
    return f"{status.st_size}-{status.st_mtime_ns}"
