"""Unpacks what files are packed in, told by how they begin and not by their names.

A file of gzip, zstd or bzip2 is one object like a plain one; each member of a zip archive is one of
its own. Everything is a stream of blocks: nothing is written to disk, least of all under a name
from an archive; what is packed in a member stays so. What blocks hold is said in `reading.py`.
"""

import bz2
import gzip
import lzma
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from io import FileIO
from typing import Any, NamedTuple

from backports import zstd

from sparkify_assets.errors import SparkifyError
from sparkify_assets.sources.base import LocalFile, is_hidden

BLOCK_BYTES = 1024 * 1024
PACKED_BYTES = 128 * 1024
USUAL_RATIO = 10  # of JSON to the same packed
MOST_RATIO = 200  # logs are packed 10 to 50 to one
FREE_BYTES = 1024**3  # so much may be unpacked whatever the ratio
MOST_BYTES = 100 * 1024**3
ZIP = (b"PK\x03\x04", b"PK\x05\x06")  # with members, and without
AGAIN = "Copy it here again, or pack it anew"
BROKEN = (
    EOFError,
    OSError,
    zlib.error,
    lzma.LZMAError,
    zstd.ZstdError,
    zipfile.BadZipFile,
    NotImplementedError,
)


class Damaged(Exception):
    """Why the rest of an object cannot be unpacked; `size` is of what is lost or in doubt."""

    def __init__(self, reason: str, size: int) -> None:
        super().__init__(reason)
        self.size = size


class Member(NamedTuple):
    """A stream of records in a file: `name` is that in an archive, "" of the file as a whole.

    `size` is in bytes, as stored. `blocks` raises Damaged where no more can be unpacked.
    """

    name: str
    size: int
    blocks: Iterator[bytes]


def members_of(item: LocalFile, stream: FileIO) -> Iterator[Member]:
    """What a file holds, one after the other; a member is read before the next one is asked for.

    Raises:
        SparkifyError: more is packed in it than is believed.
    """
    head = stream.read(16)
    stream.seek(0)
    if head.startswith(ZIP):
        yield from _zipped(item, stream)
        return
    for kind, (begin, unpack) in PACKED.items():
        if begin.match(head):
            blocks = _unpacked(kind, unpack(stream), item.size)
            yield Member("", item.size, _bounded(blocks, item, [0]))
            return
    yield Member("", item.size, iter(partial(stream.read, BLOCK_BYTES), b""))


def _zipped(item: LocalFile, stream: FileIO) -> Iterator[Member]:
    try:
        archive = zipfile.ZipFile(stream)
    except (*BROKEN, ValueError) as error:
        yield Member("", item.size, _unpacked("a zip archive", _failing(error), item.size))
        return
    seen: Counter[str] = Counter()
    unpacked = [0]
    for info in archive.infolist():
        names = [name for name in info.filename.split("/") if name not in ("", ".", "..")]
        if info.is_dir() or is_hidden(names):
            continue
        seen[info.filename] += 1
        again = seen[info.filename] - 1
        name = f"{info.filename}#{again}" if again else info.filename
        blocks = _member(archive, info)
        size = info.file_size // USUAL_RATIO
        blocks = _unpacked("in a zip archive", blocks, size)
        yield Member(name, info.compress_size, _bounded(blocks, item, unpacked))
    if not seen:
        yield Member("", item.size, iter(()))


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Iterator[bytes]:
    if info.flag_bits & 1:
        raise NotImplementedError("it is encrypted: pack it without a password")
    with archive.open(info) as member:
        yield from iter(partial(member.read, BLOCK_BYTES), b"")


def _failing(error: Exception) -> Iterator[bytes]:
    yield b""
    raise zipfile.BadZipFile(str(error))


def _frames(new: Callable[[], Any], stream: FileIO) -> Iterator[bytes]:
    """Unpacks frames that follow one another."""
    unpacker, packed = new(), b""
    while True:
        if unpacker.eof:
            packed = unpacker.unused_data or stream.read(PACKED_BYTES)
            if not packed:
                return
            unpacker = new()
        elif unpacker.needs_input and not (packed := stream.read(PACKED_BYTES)):
            raise EOFError("it ends before its end")
        yield unpacker.decompress(packed, BLOCK_BYTES)
        packed = b""


def _gunzip(stream: FileIO) -> Iterator[bytes]:
    return iter(partial(gzip.GzipFile(fileobj=stream).read, BLOCK_BYTES), b"")


PACKED: dict[str, tuple[re.Pattern[bytes], Callable[[FileIO], Iterator[bytes]]]] = {
    "gzip-compressed": (re.compile(rb"\x1f\x8b"), _gunzip),
    "zstd-compressed": (re.compile(rb"\x28\xb5\x2f\xfd"), partial(_frames, zstd.ZstdDecompressor)),
    "bzip2-compressed": (
        re.compile(rb"BZh[1-9](1AY&SY|\x17rE8P\x90)"),
        partial(_frames, bz2.BZ2Decompressor),
    ),
}


def _unpacked(kind: str, blocks: Iterator[bytes], packed: int) -> Iterator[bytes]:
    """The same blocks; what breaks off says what that means for the object."""
    size = 0
    try:
        for block in blocks:
            size += len(block)
            yield block
    except EOFError:  # what came before is right, and nobody knows how much is lost
        raise Damaged(f"{kind}, and the end is missing. {AGAIN}", 1) from None
    except BROKEN as error:
        if isinstance(error, OSError) and error.errno:
            raise  # not of the object, but of the disk
        reason = f"{kind}, and cannot be unpacked: {error}. {AGAIN}"
        raise Damaged(reason, max(size, packed * USUAL_RATIO)) from None


def _bounded(blocks: Iterator[bytes], item: LocalFile, unpacked: list[int]) -> Iterator[bytes]:
    """The same blocks, as long as they are no more than is believed of the file."""
    most = min(MOST_BYTES, max(FREE_BYTES, item.size * MOST_RATIO))
    for block in blocks:
        unpacked[0] += len(block)
        if unpacked[0] > most:
            raise SparkifyError(
                f"{item.address} unpacks to more than {most / 1024**3:,.0f} GiB from "
                f"{item.size:,} bytes. Nothing was loaded: take it away, or unpack it yourself."
            )
        yield block
