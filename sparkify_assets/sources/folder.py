"""A source in a local folder."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import dagster as dg

from sparkify_assets.errors import SparkifyError, printable
from sparkify_assets.formats import counted
from sparkify_assets.sources.base import InputObject, LocalFile, Source, file_version, is_hidden

FILE = "file://"
NOTHING = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)  # errors of a broken link


@dataclass(frozen=True)
class FolderSource(Source):
    """A folder of JSON files, named by its absolute path."""

    folder: Path

    @property
    def uri(self) -> str:
        return f"{FILE}{self.folder}"

    def objects(self, prefix: str = "") -> list[InputObject]:
        folder = Path(self.within(prefix).removeprefix(FILE))
        inside = os.path.realpath(self.folder)
        try:
            unlinked = Path(inside, folder.relative_to(self.folder))
            if os.path.realpath(folder) != str(unlinked) and _is_found_anyway(folder, inside):
                raise self.cannot_list("leads to another folder of the same source", prefix)
            if not folder.exists():
                raise self.cannot_list("does not exist", prefix)
            if not folder.is_dir():
                raise self.cannot_list("is a file, not the folder that holds the files", prefix)
            broken_links: list[str] = []
            found = sorted(_walk(folder, inside, frozenset(), broken_links), key=lambda o: o.uri)
        except OSError as error:
            raise self.cannot_list(
                f"cannot be read: {error.strerror}: {error.filename}", prefix
            ) from None
        except UnicodeEncodeError as error:
            raise SparkifyError(
                f"{self.name}: the name {error.object!a} is not UTF-8 text. Rename it."
            ) from None
        if broken_links:
            links, shown = counted(len(broken_links), "link"), ", ".join(broken_links[:3])
            message = f"{self.name}: left out {links} to nothing: {shown}"
            dg.get_dagster_logger().warning(printable(message))
        if not found:
            raise self.cannot_list("holds no file (hidden ones are not data)", prefix)
        return found

    @contextmanager
    def fetched(self, objects: list[InputObject]) -> Iterator[list[LocalFile]]:
        paths = (Path(item.uri.removeprefix(FILE)) for item in objects)
        yield [LocalFile(o.uri, o.size, o.version, p) for o, p in zip(objects, paths, strict=True)]


def _walk(
    folder: Path | str, inside: str, above: frozenset[tuple[int, int]], broken_links: list[str]
) -> Iterator[InputObject]:
    """Files below a folder of the root `inside`; follows links, but yields no file twice."""
    status = os.stat(folder)  # noqa: PTH116  # Path objects double the time at 14,896 files
    here = (status.st_dev, status.st_ino)
    if here in above:
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            if is_hidden([entry.name]):
                continue
            try:
                status = entry.stat()  # of what a link leads to
            except OSError as error:
                if error.errno not in NOTHING:
                    raise
                if entry.is_symlink():  # otherwise the file was deleted just now
                    broken_links.append(entry.path)
                continue
            if entry.is_symlink() and _is_found_anyway(entry.path, inside):
                continue
            if stat.S_ISDIR(status.st_mode):
                yield from _walk(entry.path, inside, above | {here}, broken_links)
            elif stat.S_ISREG(status.st_mode):
                uri = f"{FILE}{entry.path}"
                uri.encode()
                yield InputObject(uri, status.st_size, file_version(status))


def _is_found_anyway(link: str | Path, inside: str) -> bool:
    """Whether a link's target is in the root, and therefore found without the link."""
    target = os.path.relpath(os.path.realpath(link), inside)
    return not is_hidden(list(Path(target).parts))
