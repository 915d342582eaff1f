"""What happens to a step that fails: a message in place of a traceback, or another try."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from sparkify_assets.errors import SparkifyError, TransientError

Context = dg.AssetExecutionContext | dg.AssetCheckExecutionContext

REASON = "reason"  # metadata of a failure: its message without values of data
RETRY_SECONDS = (10, 60)  # before the first and the second retry of a step


@contextmanager
def user_errors_as_failures(context: dg.OpExecutionContext | Context) -> Iterator[None]:
    """Turns a SparkifyError into a failed step without a traceback; retries a TransientError."""
    sys.tracebacklimit = 1_000  # Python's default, for all other errors
    try:
        yield
    except SparkifyError as error:
        if isinstance(error, TransientError) and context.retry_number < len(RETRY_SECONDS):
            seconds = RETRY_SECONDS[context.retry_number]
            context.log.warning(f"{error} Trying again in {seconds} s.")
            raise dg.RetryRequested(len(RETRY_SECONDS), seconds) from None
        sys.tracebacklimit = 0  # otherwise Dagster shows its own frames, twice
        raise dg.Failure(str(error), {REASON: error.reason}, allow_retries=False) from None
