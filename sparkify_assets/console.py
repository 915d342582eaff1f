"""What a person at a terminal reads: one line a message, and failures last, as paragraphs."""

import logging
import sys
import time
from typing import Any

import dagster as dg
from tabulate import tabulate

from sparkify_assets.warehouse.base import Row


def text_table(rows: list[Row]) -> str:
    """Rows as an aligned table."""
    return tabulate(rows, headers="keys", tablefmt="simple", intfmt=",")


@dg.logger({}, description="One readable line a message; a failure as a paragraph at the end.")
def readable(init_context: dg.InitLoggerContext) -> logging.Logger:
    """The logger of the jobs that people and schedulers start from a command line."""
    logger = logging.Logger("sparkify", level=logging.INFO)
    logger.addHandler(_ReadableHandler())
    return logger


class _ReadableHandler(logging.Handler):
    def __init__(self) -> None:
        super().__init__(level=logging.INFO)
        self._failures: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        meta: dict[str, Any] = getattr(record, "dagster_meta", {})
        event = meta.get("dagster_event")
        if event is None:
            self._write(record, meta.get("orig_message") or record.getMessage())
        elif event.is_step_failure:
            error = event.step_failure_data.error_display_string
            failure = event.step_failure_data.user_failure_data
            self._failures.append(failure.description if failure else error)
        elif event.is_run_failure:
            for failure in self._failures or [event.message or ""]:
                self._write(record, failure)

    def _write(self, record: logging.LogRecord, message: str) -> None:
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        print(f"{clock} {record.levelname:<7} {message}", file=sys.stderr, flush=True)
