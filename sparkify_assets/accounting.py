"""What a load found and did, in figures and words, and whether too much of it was rejected."""

from dataclasses import dataclass, field
from typing import Any

from sparkify_assets.errors import printable
from sparkify_assets.findings import ReadObject

SAMPLES = 3
TYPICAL_RECORD_BYTES = 500  # where a load has no sound record to compare with


def _named(name: str) -> Any:
    return field(default=0, metadata={"name": name})


@dataclass
class Load:
    """What one load found and did. `version` stands for all that the staging table now holds.

    A figure is shown in Dagster under the name beside it.
    """

    new: int = _named("objects_new")
    changed: int = _named("objects_changed")
    unchanged: int = _named("objects_unchanged")
    vanished: int = _named("objects_vanished")
    bytes: int = _named("bytes_read")
    records: int = _named("records_read")
    loaded: int = _named("rows_loaded")
    rejected: int = _named("rows_rejected")
    with_repeated_keys: int = _named("records_with_repeated_keys")
    seconds: float = _named("seconds")
    version: str = ""
    rejected_samples: list[str] = field(default_factory=list)
    unread_files: list[str] = field(default_factory=list)
    unknown_keys: list[str] = field(default_factory=list)
    missing_keys: list[str] = field(default_factory=list)
    sound_bytes: int = 0
    texts: list[tuple[int, int]] = field(default_factory=list)  # by object: how many, their bytes

    @property
    def objects(self) -> int:
        """Objects that were read."""
        return self.new + self.changed

    def add(self, address: str, found: ReadObject, *, is_changed: bool) -> None:
        """Adds an object that was read."""
        self.new += not is_changed
        self.changed += is_changed
        self.bytes += found.size
        self.records += found.records
        self.loaded += found.loaded
        self.rejected += found.rejected
        self.with_repeated_keys += found.with_repeated_keys
        self.sound_bytes += found.unpacked - found.rejected_bytes
        self.texts += [(found.texts, found.text_bytes)] if found.texts else []
        if found.rejected and not found.loaded:
            self.unread_files.append(address)
        for r in found.rejections[: SAMPLES - len(self.rejected_samples)]:
            self.rejected_samples.append(printable(f"{address}, line {r.line}: {r.reason}"))

    def too_much_rejected(self, share: float, few: int) -> str:
        """How much of what was rejected, if that is more than a share and more than a few.

        A text that could not be parted into records weighs as many as it may hold, by its size.
        """
        mean = max(1.0, self.sound_bytes / self.loaded) if self.loaded else TYPICAL_RECORD_BYTES
        lost = self.rejected + sum(max(0, round(size / mean) - n) for n, size in self.texts)
        records = self.loaded + lost
        if lost <= share * records or (share and lost <= few):
            return ""
        return f"{'about ' if lost > self.rejected else ''}{lost:,} of {records:,} records"
