"""Lines that say how far a long load is, every few seconds."""

import time
from collections.abc import Callable, Sequence

from sparkify_assets.sources.base import InputObject

PROGRESS_SECONDS = 5.0
OBJECT_COST_BYTES = 100_000  # opening or fetching one takes about as long as so many bytes


class Progress:
    """Says every few seconds how far a long load is."""

    def __init__(
        self, what: str, objects: Sequence[InputObject], log: Callable[[str], None]
    ) -> None:
        self._what, self._log = what, log
        self._objects, self._bytes = len(objects), sum(item.size for item in objects)
        self._done, self._done_bytes = 0, 0
        self._started = self._last = time.monotonic()

    def add(self, objects: int, size: int) -> None:
        """Counts objects and bytes as done."""
        self._done, self._done_bytes = self._done + objects, self._done_bytes + size
        now = time.monotonic()
        if now - self._last >= PROGRESS_SECONDS:
            self._last, seconds = now, now - self._started
            left = _cost(self._objects, self._bytes) / _cost(self._done, self._done_bytes) - 1
            self._log(
                f"{self._what} {self._done:,} of {self._objects:,} objects, "
                f"{self._done_bytes / 1e6:,.1f} of {self._bytes / 1e6:,.1f} MB, "
                f"about {seconds * left:,.0f} s left"
            )


def _cost(objects: int, size: int) -> int:
    return objects * OBJECT_COST_BYTES + size + 1
