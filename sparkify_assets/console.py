"""The log of a job at a terminal: one line per message, then a summary or the failures.

The log goes to stderr, and the rows that a run shows as its answer go to stdout.
"""

import logging
import sys
import time
from collections import Counter
from typing import Any, ClassVar

import dagster as dg

from sparkify_assets.errors import printable
from sparkify_assets.wording import counted


@dg.logger({}, description="One line per message; a summary or the failures at the end.")
def readable(init_context: dg.InitLoggerContext) -> logging.Logger:
    """The logger of jobs started from a command line."""
    logger = logging.Logger("sparkify", level=logging.DEBUG)  # Dagster's events are DEBUG
    logger.addHandler(_ReadableHandler())
    return logger


class _ReadableHandler(logging.Handler):
    # by run id, since Dagster makes a logger for each step
    failures: ClassVar[dict[str, list[str]]] = {}
    counts: ClassVar[dict[str, Counter[str]]] = {}

    def emit(self, record: logging.LogRecord) -> None:
        meta: dict[str, Any] = getattr(record, "dagster_meta", {})
        event, run_id = meta.get("dagster_event"), meta.get("run_id", "")
        message = meta.get("orig_message") or record.getMessage()
        counts = self.counts.setdefault(run_id, Counter())
        if event is None:
            is_noise = message.startswith("Dependencies for step")  # we show the failure itself
            if record.levelno >= logging.INFO and not is_noise:
                self._write(record, message)
        elif event.is_step_failure:
            error = event.step_failure_data.error_display_string
            failure = event.step_failure_data.user_failure_data
            said = failure.description if failure and failure.description else error
            self.failures.setdefault(run_id, []).append(said)
        elif event.is_run_failure:
            for said in dict.fromkeys(self.failures.pop(run_id, [message])):
                self._write(record, said)
        elif event.event_type == dg.DagsterEventType.RUN_START:
            counts["started"] = int(record.created * 1_000)
        elif event.event_type == dg.DagsterEventType.ASSET_MATERIALIZATION:
            counts["asset"] += 1
        elif event.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            counts["passed" if event.asset_check_evaluation_data.passed else "warning"] += 1
        elif event.event_type == dg.DagsterEventType.RUN_SUCCESS:
            record.levelno, record.levelname = logging.INFO, "INFO"
            seconds = record.created - counts["started"] / 1_000
            self._write(
                record,
                f"{event.job_name}: {counted(counts['asset'], 'asset')} materialized, "
                f"{counted(counts['passed'], 'check')} passed, "
                f"{counted(counts['warning'], 'warning')}, {seconds:.1f} s. "
                "To see it: dg dev, page Runs",
            )

    def _write(self, record: logging.LogRecord, message: str) -> None:
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        shown = printable(message, keep="\n")
        answer = ""
        if record.levelno == logging.INFO:
            shown, _, answer = shown.partition("\n\n")
        print(f"{clock} {record.levelname:<7} {shown}", file=sys.stderr, flush=True)
        if answer:
            print(answer, flush=True)
