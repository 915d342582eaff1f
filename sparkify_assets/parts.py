"""Cuts an object into parts between its records, and writes a part as one record a line.

Both look only at how records seem to begin: on a line of their own, or behind the record before.
Where that is wrong, a line is no sound record, and the part is read record by record as it is. So
one record a line, arrays, pretty-printed and glued records are all parsed in one pass, and nothing
depends on a guess.
"""

import codecs
import re
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from sparkify_assets.records import MAX_RECORD_BYTES

PART_BYTES = 64 * 1024 * 1024
AROUND = b" \t\r\n\v\f,[]"  # what may stand around a record
BETWEEN = re.compile(rb"\}[ \t\r\n\v\f,\[\]]*\{")
LOOSE = re.compile(rb",\s*[}\]]")  # no JSON, but read by DuckDB


class Part(NamedTuple):
    """Some bytes of an object, from the line with this number on.

    One that `is_whole` begins and ends between two records.
    """

    data: bytes
    line: int
    is_whole: bool


class Lines(NamedTuple):
    """Bytes that hold one record a line, if they are sound, and how many that would be."""

    data: bytes
    records: int


def cut(blocks: Iterator[bytes]) -> Iterator[Part]:
    """Cuts an object between records, or where none seems to begin, anywhere."""
    data, line, is_whole = bytearray(), 1, True
    for block in blocks:
        data += block
        if len(data) < PART_BYTES:
            continue
        end = _last_beginning(data)
        with memoryview(data) as view:
            part = bytes(view[: end or len(data)])
        yield Part(part, line, is_whole and end > 0)
        line, is_whole = line + part.count(b"\n"), end > 0
        del data[: len(part)]
    if data:
        yield Part(bytes(data), line, is_whole)


def one_a_line(part: Part) -> Iterator[Lines]:
    """The part with one record a line, in each way in which its records may be parted."""
    data = part.data
    if not part.is_whole:
        return
    lines = data.count(b"\n") + (not data.endswith(b"\n"))
    is_plain = data.startswith(b"{") and data.count(b"\n{") + 1 == lines
    if is_plain and _is_strict(data):
        yield Lines(data, lines)
    # a tab is a blank like a newline, and as little allowed in a text
    data = data.removeprefix(codecs.BOM_UTF8).strip(AROUND).replace(b"\n", b"\t")
    data, found = BETWEEN.subn(b"}\n{", data)
    if data != part.data.strip(AROUND) and _is_strict(data):
        yield Lines(data, found + 1)


def _is_strict(data: bytes) -> bool:
    """Whether DuckDB reads no more than JSON in lines, and none is longer than a record."""
    step = MAX_RECORD_BYTES
    ends = (data.find(b"\n", at, at + step) for at in range(0, len(data) - step, step))
    return min(ends, default=0) >= 0 and not LOOSE.search(data)


def _last_beginning(data: bytearray) -> int:
    """Where the last record begins; 0 if there is none among the last bytes."""
    start = max(1, len(data) - 2 * MAX_RECORD_BYTES)
    if line := data.rfind(b"\n{", start) + 1:
        return line
    found = deque(BETWEEN.finditer(data, start), maxlen=1)
    return found[0].end() - 1 if found else 0
