"""What a person at a terminal reads: one line a message, and failures last, as paragraphs."""

import logging
import sys
import time
from datetime import datetime
from typing import Any, ClassVar

import dagster as dg
from tabulate import tabulate

from sparkify_assets.errors import printable


def counted(number: int, noun: str) -> str:
    """A number with its noun: 1 row, 6,820 rows."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def as_text(value: object) -> str:
    """A value as people read it: a moment to the second."""
    if isinstance(value, datetime):
        return value.isoformat(sep=" ", timespec="seconds")
    return str(value)


def text_table(rows: list[dict[str, Any]]) -> str:
    """Rows as an aligned table."""
    shown = [
        {
            name: value if value is None or isinstance(value, int) else printable(as_text(value))
            for name, value in row.items()
        }
        for row in rows
    ]
    return tabulate(shown, headers="keys", tablefmt="simple", intfmt=",", disable_numparse=True)


@dg.logger({}, description="One readable line a message; a failure as a paragraph at the end.")
def readable(init_context: dg.InitLoggerContext) -> logging.Logger:
    """The logger of the jobs that people and schedulers start from a command line."""
    logger = logging.Logger("sparkify", level=logging.INFO)
    logger.addHandler(_ReadableHandler())
    return logger


class _ReadableHandler(logging.Handler):
    failures: ClassVar[dict[str, list[str]]] = {}  # by run: Dagster makes a logger for each step

    def emit(self, record: logging.LogRecord) -> None:
        meta: dict[str, Any] = getattr(record, "dagster_meta", {})
        event = meta.get("dagster_event")
        message = meta.get("orig_message") or record.getMessage()
        if event is None:
            if not message.startswith("Dependencies for step"):  # the failure they follow says it
                self._write(record, message)
        elif event.is_step_failure:
            error = event.step_failure_data.error_display_string
            failure = event.step_failure_data.user_failure_data
            said = failure.description if failure and failure.description else error
            self.failures.setdefault(meta["run_id"], []).append(said)
        elif event.is_run_failure:
            for said in dict.fromkeys(self.failures.pop(meta["run_id"], [message])):
                self._write(record, said)

    def _write(self, record: logging.LogRecord, message: str) -> None:
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        shown = printable(message, keep="\n")
        print(f"{clock} {record.levelname:<7} {shown}", file=sys.stderr, flush=True)
