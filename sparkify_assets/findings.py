"""Counts what `reading.py` finds in objects and loads: records, rows, rejections, unknown keys.

Memory per object is bounded.
"""

from dataclasses import dataclass, field, fields
from typing import Any

from sparkify_assets.containers import Damaged
from sparkify_assets.errors import printable
from sparkify_assets.formats import counted
from sparkify_assets.records import BINARY, MAX_RAW_BYTES, TEXTS, Found, Members, something_else
from sparkify_assets.sources.base import LocalFile
from sparkify_assets.tables import Table
from sparkify_assets.values import json_columns, json_text

MEMBER = "!/"  # between the URI of an archive and the name of a member
MOST_KEPT_BYTES = 128 * 1024 * 1024  # of rejected records per object
REJECTION_BYTES = 1024  # of a rejection without its text
SAMPLES = 3
MOST_KEYS = 1_000  # counted one by one
SHOWN = 40  # characters of a key and of its example
TYPICAL_RECORD_BYTES = 500  # assumed if a load has no sound record


def _named(name: str) -> Any:
    return field(default=0, metadata={"name": name})


@dataclass(kw_only=True)
class Counts:
    """Counts, with the names under which Dagster shows them; sizes are in bytes.

    `unpacked` is the size read; `texts` are rejected texts that may contain many records.
    """

    records: int = _named("records_read")
    loaded: int = _named("rows_loaded")
    rejected: int = _named("rows_rejected")
    with_repeated_keys: int = _named("records_with_repeated_keys")
    unpacked: int = 0
    texts: int = 0
    text_bytes: int = 0


@dataclass
class ReadObject(Counts):
    """The result of reading an object: a file, or the member `name` of an archive.

    `size` is in bytes as stored; `head` has the first bytes; `line` is the next line's number.
    """

    object_id: int
    file: LocalFile
    name: str
    size: int
    rejections: list[Found] = field(default_factory=list)
    kept_bytes: int = 0
    head: bytes = b""
    line: int = 1
    damage: Damaged | None = None

    @property
    def uri(self) -> str:
        """The object's URI in load_history."""
        return f"{self.file.uri}{MEMBER}{self.name}" if self.name else self.file.uri

    def add(self, block: bytes) -> bool:
        """Counts a block; returns whether it may contain records."""
        self.unpacked += len(block)
        self.head = self.head or block[:MAX_RAW_BYTES]
        return something_else(self.head, BINARY) is None

    def reject(self, found: Found) -> None:
        """Keeps a rejected record, or beyond a bound only its size."""
        if self.kept_bytes > MOST_KEPT_BYTES:
            last = self.rejections[-1]
            self.rejections[-1] = last._replace(size=last.size + found.size, is_record=False)
            self.records -= 1
            return
        data = found.raw.encode("utf-8", "surrogateescape")
        raw = data.decode("utf-8", "backslashreplace").replace("\0", "\\x00").strip()
        raw = raw.encode()[:MAX_RAW_BYTES].decode(errors="ignore")
        self.kept_bytes += len(raw) + REJECTION_BYTES
        self.rejections.append(found._replace(raw=raw, members=Members()))

    def conclude(self) -> None:
        """Recognizes an object that is not JSON at all, and adds up the rejections."""
        kind = something_else(self.head, BINARY) or something_else(self.head, TEXTS)
        why = f"it seems to be {kind}" if kind else ""
        if len(self.rejections) > 1 and not any(found.is_record for found in self.rejections):
            why = why or f"it holds no record: {self.rejections[0].reason}"
        if why and not self.loaded:  # one rejection for the whole object
            self.rejections, self.kept_bytes, self.records = [], 0, 1
            text = self.head.decode("utf-8", "surrogateescape")
            self.reject(Found(1, text, self.unpacked, f"not JSON: {why}"))
        if self.damage:
            self.records += 1
            self.rejections.append(Found(self.line, "", self.damage.size, str(self.damage)))
        texts = [found.size for found in self.rejections if not found.is_record]
        self.rejected, self.texts, self.text_bytes = len(self.rejections), len(texts), sum(texts)
        self.head = b""


@dataclass
class Load(Counts):
    """What a load found and did; `version` is a fingerprint of all objects in the table."""

    new: int = _named("objects_new")
    changed: int = _named("objects_changed")
    unchanged: int = _named("objects_unchanged")
    vanished: int = _named("objects_vanished")
    forgotten: int = _named("rows_forgotten")
    bytes: int = _named("bytes_read")
    seconds: float = _named("seconds")
    version: str = ""
    rejected_samples: list[str] = field(default_factory=list)
    unread_files: list[str] = field(default_factory=list)
    unknown_keys: list[str] = field(default_factory=list)
    missing_keys: list[str] = field(default_factory=list)

    def add(self, address: str, found: ReadObject, *, is_changed: bool) -> None:
        """Adds an object."""
        self.new += not is_changed
        self.changed += is_changed
        self.bytes += found.size
        for each in fields(Counts):
            setattr(self, each.name, getattr(self, each.name) + getattr(found, each.name))
        if found.rejected and not found.loaded:
            self.unread_files.append(address)
        for r in found.rejections[: SAMPLES - len(self.rejected_samples)]:
            self.rejected_samples.append(printable(f"{address}, line {r.line}: {r.reason}"))

    def too_much_rejected(self, share: float, few: int) -> str:
        """A phrase with the rejected records if more than `share` and `few`; otherwise "".

        A text that could not be split into records counts as many as its size suggests.
        """
        told = self.loaded + self.rejected - self.texts
        sound_bytes = self.unpacked - self.text_bytes
        mean = max(1.0, sound_bytes / told) if told else TYPICAL_RECORD_BYTES
        lost = self.rejected + max(0, round(self.text_bytes / mean) - self.texts)
        records = self.loaded + lost
        if lost <= share * records or (share and lost <= few):
            return ""
        return f"{'about ' if lost > self.rejected else ''}{lost:,} of {records:,} records"


class Keys:
    """For each key, counts the records that have it and keeps an example of its values."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[int, object]] = {}

    def add(self, members: Members, records: int = 1) -> int:
        """Counts records that all have these keys; returns how many repeat a key."""
        by_name = dict(members)
        for name, value in by_name.items():
            count, example = self._found.get(name, (0, None))
            if count or len(self._found) < MOST_KEYS:
                self._found[name] = count + records, value if example is None else example
        return records if len(by_name) < len(members) else 0

    def unknown(self, table: Table) -> list[str]:
        """The keys without a column in the table, with counts and examples."""
        known = {column.key for column in json_columns(table)}
        return [
            f"{printable(name)[:SHOWN]} ({counted(records, 'record')}, "
            f"for example {printable(json_text(example))[:SHOWN]})"
            for name, (records, example) in self._found.items()
            if name not in known
        ]

    def missing(self, table: Table) -> list[str]:
        """The keys of columns that occur in no record."""
        wanted = [column.key for column in json_columns(table)] if self._found else []
        return [key for key in wanted if key not in self._found]
