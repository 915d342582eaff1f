"""The log of the jobs at a terminal: one line a message, and failures last, as paragraphs."""

import logging
import sys
import time
from typing import Any, ClassVar

import dagster as dg

from sparkify_assets.errors import printable


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
            if not message.startswith("Dependencies for step"):  # the failure itself is shown
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
