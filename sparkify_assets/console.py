"""The log of a job at a terminal: one line per message, then a summary or the failures.

Failures were worded where they happened. The log goes to stderr, and the rows that a run shows as
its answer go to stdout. A server's log has no line for each second.
"""

import logging
import sys
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any, ClassVar

import dagster as dg

from sparkify_assets.errors import printable
from sparkify_assets.formats import counted


@dg.logger({}, description="One line per message; a summary or the failures at the end.")
def readable(init_context: dg.InitLoggerContext) -> logging.Logger:
    """The logger of jobs started from a command line."""
    logger = logging.Logger("sparkify", level=logging.DEBUG)  # Dagster's events are DEBUG
    logger.addHandler(_ReadableHandler())
    return logger


@dataclass
class _Run:
    """What is told at the end of a run."""

    started: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)


class _ReadableHandler(logging.Handler):
    runs: ClassVar[dict[str, _Run]] = defaultdict(_Run)  # Dagster makes a logger for each step

    def emit(self, record: logging.LogRecord) -> None:
        meta: dict[str, Any] = getattr(record, "dagster_meta", {})
        event, run = meta.get("dagster_event"), self.runs[meta.get("run_id", "")]
        message = meta.get("orig_message") or record.getMessage()
        if event is None:
            if message.startswith("Dependencies for step"):
                run.skipped.append(meta["step_key"])
            elif record.levelno >= logging.INFO:
                run.counts["warning"] += record.levelno == logging.WARNING
                self._write(record, message)
        elif event.is_step_failure:
            error = event.step_failure_data.error_display_string
            failure = event.step_failure_data.user_failure_data
            said = failure.description if failure and failure.description else error
            run.failures.append(said)
        elif event.is_run_failure:
            for said in dict.fromkeys(run.failures or [message]):
                self._write(record, said)
            if run.skipped:
                record.levelname = "INFO"
                self._write(record, f"skipped after that: {', '.join(run.skipped)}")
        elif event.event_type == dg.DagsterEventType.RUN_START:
            run.started = record.created
        elif event.event_type == dg.DagsterEventType.ASSET_MATERIALIZATION:
            run.counts["asset"] += 1
        elif event.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            run.counts["check"] += event.asset_check_evaluation_data.passed
        elif event.event_type == dg.DagsterEventType.RUN_SUCCESS:
            record.levelno, record.levelname = logging.INFO, "INFO"
            self._write(
                record,
                f"{event.job_name}: {counted(run.counts['asset'], 'asset')} materialized, "
                f"{counted(run.counts['check'], 'check')} passed, "
                f"{counted(run.counts['warning'], 'warning')}, "
                f"{record.created - run.started:.1f} s. "
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


def quiet_daemons() -> None:
    """Keeps what daemons log every second, and the UI shows anyway, out of the server's log."""
    for name in ("QueuedRunCoordinatorDaemon", "MonitoringDaemon", "SensorDaemon"):
        # Dagster resets the level of a logger, but not its filters
        logger = logging.getLogger(f"dagster.daemon.{name}")
        logger.addFilter(lambda record: record.levelno > logging.INFO)
