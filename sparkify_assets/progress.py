"""Lines that say how far a long load is."""

import time
from collections.abc import Callable

PROGRESS_SECONDS = 5.0


class Progress:
    """Says every few seconds how much of a table's files is read; sizes are in bytes."""

    def __init__(self, table: str, size: int, log: Callable[[str], None]) -> None:
        self._table, self._size, self._log = table, size, log
        self._done, self._last = 0, time.monotonic()

    def add(self, size: int) -> None:
        """Counts bytes as read."""
        self._done += size
        if time.monotonic() - self._last >= PROGRESS_SECONDS:
            self._last = time.monotonic()
            done, whole = self._done / 1e6, self._size / 1e6
            self._log(f"{self._table}: read {done:,.1f} of {whole:,.1f} MB")
