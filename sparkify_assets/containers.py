"""Unpacks gzip, zstd, bzip2 and zip, recognized by a file's first bytes, not by its name.

A compressed file is one object; each member of a zip archive is an object of its own, and is not
unpacked further. Everything is streamed: nothing is written to disk.
"""

import bz2
import gzip
import lzma
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from io import FileIO
from typing import Any, NamedTuple

from backports import zstd

from sparkify_assets.errors import SparkifyError
from sparkify_assets.sources.base import LocalFile, address_of, is_hidden

BLOCK_BYTES = 1024 * 1024
PACKED_BYTES = 128 * 1024
USUAL_RATIO = 10  # of JSON to its compressed form
MOST_RATIO = 200  # beyond any log: those compress 10 to 50 times
FREE_BYTES = 1024**3  # may be unpacked at any ratio
ZIP = (b"PK\x03\x04", b"PK\x05\x06")  # with members, and without
BROKEN = (
    OSError,
    RuntimeError,  # an encrypted archive, or an unknown method of compression
    ValueError,
    zlib.error,
    lzma.LZMAError,
    zstd.ZstdError,
    zipfile.BadZipFile,
)


class Damaged(Exception):
    """The rest of an object cannot be unpacked; `size` is the number of bytes that may be lost."""

    def __init__(self, reason: str, size: int) -> None:
        super().__init__(f"{reason}. Copy it here again, or compress it again")
        self.size = size


class Member(NamedTuple):
    """A file, or the member `name` of an archive; `size` is in bytes as stored.

    `blocks` raises Damaged where no more can be unpacked.
    """

    name: str
    size: int
    blocks: Iterator[bytes]


def members_of(item: LocalFile, stream: FileIO) -> Iterator[Member]:
    """Yields the members of a file; each must be read before the next.

    Raises:
        SparkifyError: the file unpacks to far more than any log would.
    """
    most, total = max(FREE_BYTES, item.size * MOST_RATIO), 0

    def guarded(kind: str, blocks: Iterator[bytes], expected: int) -> Iterator[bytes]:
        """The same blocks up to the limit; raises Damaged where they break off."""
        nonlocal total
        size = 0
        try:
            for block in blocks:
                size, total = size + len(block), total + len(block)
                if total > most:
                    raise SparkifyError(
                        f"{address_of(item.uri)} unpacks to more than {most / 1024**3:,.0f} GiB "
                        f"from {item.size:,} bytes. Nothing was loaded: remove it, or unpack it "
                        "yourself."
                    )
                yield block
        except EOFError:  # the blocks so far are right; how much is lost is unknown
            raise Damaged(f"{kind}, and the end is missing", 1 if size else expected) from None
        except BROKEN as error:
            if isinstance(error, OSError) and error.errno:
                raise item.unreadable(error) from None
            raise Damaged(f"{kind}, and cannot be unpacked: {error}", max(size, expected)) from None

    try:
        head = stream.read(16)
    except OSError as error:
        raise item.unreadable(error) from None
    stream.seek(0)
    if head.startswith(ZIP):
        for member, expected in _zipped(item, stream):
            yield member._replace(blocks=guarded("in a zip archive", member.blocks, expected))
        return
    blocks = guarded("", _read(stream), item.size)
    for kind, begin, unpack in PACKED:
        if re.match(begin, head):
            blocks = guarded(kind, unpack(stream), item.size * USUAL_RATIO)
    yield Member("", item.size, blocks)


def _zipped(item: LocalFile, stream: FileIO) -> Iterator[tuple[Member, int]]:
    """The members of an archive, each with its claimed unpacked size."""
    try:
        archive = zipfile.ZipFile(stream)
    except (EOFError, *BROKEN) as error:
        yield Member("", item.size, _failing(error)), item.size * USUAL_RATIO
        return
    names = set[str]()
    for info in archive.infolist():
        parts = re.split(r"[/\\]", info.filename)
        if info.is_dir() or is_hidden([part for part in parts if part not in ("", ".", "..")]):
            continue
        name = info.filename
        while name in names:
            name += "#"
        names.add(name)
        yield Member(name, info.compress_size, _member(archive, info)), info.file_size
    if not names:
        yield Member("", item.size, iter(())), 0


def _failing(error: Exception) -> Iterator[bytes]:
    yield b""
    raise error


def _read(stream: Any) -> Iterator[bytes]:
    """The blocks of a stream; `read1` also returns data just before damage, unlike `read`."""
    read = getattr(stream, "read1", stream.read)
    return iter(partial(read, BLOCK_BYTES), b"")


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Iterator[bytes]:
    with archive.open(info) as member:
        yield from _read(member)


def _frames(new: Callable[[], Any], stream: FileIO) -> Iterator[bytes]:
    """Unpacks consecutive frames; anything else after a frame is an error."""
    unpacker, packed = new(), b""
    while True:
        if unpacker.eof:
            packed = unpacker.unused_data or stream.read(PACKED_BYTES)
            if not packed:
                return
            unpacker = new()
        elif unpacker.needs_input and not (packed := stream.read(PACKED_BYTES)):
            raise EOFError
        yield unpacker.decompress(packed, BLOCK_BYTES)
        packed = b""


PACKED: tuple[tuple[str, bytes, Callable[[FileIO], Iterator[bytes]]], ...] = (
    ("gzip-compressed", rb"\x1f\x8b", lambda stream: _read(gzip.GzipFile(fileobj=stream))),
    ("zstd-compressed", rb"\x28\xb5\x2f\xfd", partial(_frames, zstd.ZstdDecompressor)),
    ("bzip2-compressed", rb"BZh[1-9](1AY&SY|\x17rE8P\x90)", partial(_frames, bz2.BZ2Decompressor)),
)
