"""Cuts an object into parts between its records, and writes a part as one record a line.

Both look only at how records seem to begin: on a line of their own, as deep as the first one, or
glued to the record before. Where that is wrong, a line is no sound record, and the part is read
record by record as it is. So one record a line, arrays, pretty-printed and glued records are all
parsed in one pass, and nothing depends on a guess.
"""

import codecs
import re
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from sparkify_assets.records import MAX_RECORD_BYTES

PART_BYTES = 64 * 1024 * 1024
AROUND = b" \t\r\n\v\f,[]"  # what may stand around a record
GLUED = re.compile(rb"(?<=\})[ \t\r\n\v\f,]*(?=\{)")
GLUE = re.compile(rb"\}[ \t\r,]*\{")
BEGIN = re.compile(rb"\n([ \t]*)\{")
PLAIN = re.compile(rb"\{[^\n]*(\n\{|\n?\Z)")
LOOSE = re.compile(rb",\s*[}\]]")  # no JSON, but read by DuckDB


class Part(NamedTuple):
    """Some bytes of an object, from the line with this number on.

    `between` finds what is between two of its records; one that `is_whole` begins and ends there.
    """

    data: bytes
    line: int
    between: re.Pattern[bytes]
    is_whole: bool


class Lines(NamedTuple):
    """Bytes that hold one record a line, if they are sound, and how many that would be."""

    data: bytes
    records: int


def cut(blocks: Iterator[bytes]) -> Iterator[Part]:
    """Cuts an object between records, or where none seems to begin, anywhere."""
    data, line, is_whole = bytearray(), 1, True
    between: re.Pattern[bytes] | None = None
    for block in blocks:
        data += block
        if len(data) < PART_BYTES:
            continue
        between = between or _between(data)
        end = _last(between, data) or _last(GLUED, data)
        with memoryview(data) as view:
            part = bytes(view[: end or len(data)])
        yield Part(part, line, between, is_whole and end > 0)
        line, is_whole = line + part.count(b"\n"), end > 0
        del data[: len(part)]
    if data:
        yield Part(bytes(data), line, between or _between(data), is_whole)


def one_a_line(part: Part) -> Iterator[Lines]:
    """The part with one record a line, in each way in which its records may be parted."""
    data, between, is_whole = part.data, part.between, part.is_whole
    lines = data.count(b"\n") + (not data.endswith(b"\n"))
    if is_whole and PLAIN.match(data):
        yield from _checked(Lines(data, lines))
    if is_whole and (data.count(b"\n{") + 1 != lines or not data.startswith(b"{")):
        yield from _checked(_split(data, between))
    if is_whole and GLUE.search(data):
        yield from _checked(_split(data, GLUED))


def _split(data: bytes, between: re.Pattern[bytes]) -> Lines:
    # a tab is a blank like a newline, and as little allowed in a text
    pieces = between.split(data.removeprefix(codecs.BOM_UTF8))
    found = [line for p in pieces if (line := p.strip(AROUND).replace(b"\n", b"\t"))]
    return Lines(b"\n".join(found), len(found))


def _checked(lines: Lines) -> Iterator[Lines]:
    """The lines, if DuckDB reads no more than JSON in them, and none is longer than a record."""
    data, step = lines.data, MAX_RECORD_BYTES
    ends = (data.find(b"\n", at, at + step) for at in range(0, len(data) - step, step))
    if lines.records and min(ends, default=0) >= 0 and not LOOSE.search(data):
        yield lines


def _between(data: bytearray) -> re.Pattern[bytes]:
    """Finds line ends before a record, going by how far the first record is indented."""
    start = data.find(b"{")
    before = bytes(data[data.rfind(b"\n", 0, max(start, 0)) + 1 : max(start, 0)])
    indent = before.removeprefix(codecs.BOM_UTF8)
    if indent.strip(b" \t"):  # the array begins on the same line
        begin = BEGIN.search(data)
        indent = begin[1] if begin else b""
    return re.compile(rb"\n(?=" + indent + rb"\{)")


def _last(between: re.Pattern[bytes], data: bytearray) -> int:
    """Where the last record begins; 0 if there is none among the last bytes."""
    found = deque(between.finditer(data, max(1, len(data) - 2 * MAX_RECORD_BYTES)), maxlen=1)
    return found[0].end() if found else 0
