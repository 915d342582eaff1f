"""What became of an object: how many of its records were read, and what is told of the others.

What is told of one object is bounded, whatever it holds. How it is read is said in `reading.py`.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

from sparkify_assets.containers import Damaged
from sparkify_assets.records import BINARY, MAX_RAW_BYTES, TEXTS, Found, something_else

MOST_REJECTIONS = 100_000  # of one object that are told one by one, if they are no longer than
MOST_REJECTED_BYTES = 64 * 1024 * 1024


class Rejection(NamedTuple):
    """A record that cannot become a row; `column` is None where it cannot be read at all.

    `size` is that of the whole text, in bytes. `is_record` tells a record from a text that could
    not be parted into records, and may hold many.
    """

    line: int
    column: str | None
    reason: str
    raw: str
    size: int
    is_record: bool


@dataclass
class ReadObject:
    """What became of an object; `records` is counted apart from loaded and rejected.

    `origin` is the key of its file, `name` its name where that is an archive. `size` is in bytes as
    stored, `unpacked` as read.
    """

    object_id: int
    origin: int
    name: str
    size: int
    unpacked: int = 0
    records: int = 0
    loaded: int = 0
    with_repeated_keys: int = 0
    rejections: list[Rejection] = field(default_factory=list)
    rejected: int = 0
    rejected_bytes: int = 0
    texts: int = 0  # of what is rejected, those that may hold many records
    text_bytes: int = 0
    head: bytes = b""
    has_record: bool = False
    raw_bytes: int = 0
    damage: Damaged | None = None
    lines: int = 1

    def reject(self, found: Found, column: str | None, reason: str) -> None:
        """Keeps what is to be told of a record; beyond a bound, only how much it is."""
        size, last = found.size, self.rejections[-1] if self.rejections else None
        if last and (
            len(self.rejections) >= MOST_REJECTIONS or self.raw_bytes > MOST_REJECTED_BYTES
        ):
            self.rejections[-1] = last._replace(size=last.size + size, is_record=False)
            self.records -= 1
            return
        data = found.text[:MAX_RAW_BYTES].encode("utf-8", "surrogateescape")
        raw = data.decode("utf-8", "backslashreplace").replace("\0", "\\x00").strip()
        raw = raw.encode()[:MAX_RAW_BYTES].decode(errors="ignore")
        self.raw_bytes += len(raw)
        is_record = found.members is not None
        self.rejections.append(Rejection(found.line, column, reason, raw, size, is_record))

    def conclude(self) -> None:
        """Tells what the object is at all, once it is read, and adds up what is rejected."""
        kind = something_else(self.head, BINARY) or something_else(self.head, TEXTS)
        if not self.loaded and (kind or (not self.has_record and len(self.rejections) > 1)):
            # one finding, however many lines it has
            first = self.rejections[0].reason if self.rejections else ""
            reason = f"it seems to be {kind}" if kind else f"it holds no record: {first}"
            self.rejections, self.raw_bytes, self.records = [], 0, 1
            text = self.head.decode("utf-8", "surrogateescape")
            self.reject(Found(1, text, self.unpacked, None), None, f"not JSON: {reason}")
        if self.damage:
            self.records += 1
            damage, line = self.damage, self.lines
            self.rejections.append(Rejection(line, None, str(damage), "", damage.size, False))
        texts = [r.size for r in self.rejections if not r.is_record]
        self.rejected, self.texts, self.text_bytes = len(self.rejections), len(texts), sum(texts)
        self.rejected_bytes = sum(r.size for r in self.rejections)
        self.head = b""
