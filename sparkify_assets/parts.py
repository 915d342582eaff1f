"""Cuts an object into parts between its records, and writes a part as one record a line.

Both look only at how records seem to begin: on a line of their own, or behind the record before.
Where that is wrong, a line is no sound record, and the part is read record by record as it is. So
one record a line, arrays, pretty-printed and glued records are all parsed in one pass, and nothing
depends on a guess.
"""

import codecs
import re
from collections.abc import Iterator

from sparkify_assets.records import MAX_RECORD_BYTES

PART_BYTES = 64 * 1024 * 1024
AROUND = b" \t\r\n\v\f,[]"  # what may stand around a record
BETWEEN = re.compile(rb"\}[ \t\r\n\v\f,\[\]]*\{")


Lines = tuple[bytes, int]  # bytes that hold so many records, one a line, if they are sound


def cut(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Cuts an object into parts between records, or where none seems to begin, anywhere."""
    data = bytearray()
    for block in blocks:
        data += block
        if len(data) >= PART_BYTES:
            part = bytes(memoryview(data)[: _last_beginning(data) or None])
            yield part
            data = data[len(part) :]
    if data:
        yield bytes(data)


def as_lines(part: bytes) -> Lines | None:
    """The part as it is, if it seems to hold one record a line."""
    records = part.count(b"\n") + (not part.endswith(b"\n"))
    is_plain = part.startswith(b"{") and part.count(b"\n{") + 1 == records
    return (part, records) if is_plain and _is_readable(part) else None


def one_a_line(part: bytes) -> Lines | None:
    """The part with one record a line, if it is not so already."""
    # a tab is a blank like a newline, and as little allowed in a text
    data = part.removeprefix(codecs.BOM_UTF8).strip(AROUND).replace(b"\n", b"\t")
    data, found = BETWEEN.subn(b"}\n{", data)
    return (data, found + 1) if data != part.strip(AROUND) and _is_readable(data) else None


def _is_readable(lines: bytes) -> bool:
    """Whether no line is longer than DuckDB takes: twice a record."""
    step = MAX_RECORD_BYTES
    return all(lines.find(b"\n", at, at + step) >= 0 for at in range(0, len(lines) - step, step))


def _last_beginning(data: bytearray) -> int:
    """Where the last record begins; 0 if there is none among the last bytes."""
    start = 0
    for found in BETWEEN.finditer(data, max(0, len(data) - 2 * MAX_RECORD_BYTES)):
        start = found.end() - 1
    return start
