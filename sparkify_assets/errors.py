"""The exception for errors a user can fix, and making outside text safe to show.

Any other exception is a bug in this program and keeps its traceback.
"""

import logging
import re
from functools import cache

warn_once = cache(logging.getLogger("sparkify_assets").warning)  # definitions load repeatedly

# Control characters, changes of the writing direction, non-characters, and what XML forbids.
UNSAFE = re.compile(r"[\0-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")

LOGIN = re.compile(r"(?<=://)[^/\s]+(?=@)")  # in an address: https://user:password@host


class SparkifyError(Exception):
    """A foreseeable error; its message says what is wrong, where, and what to do.

    `details` may quote data and are part of the text; `reason` is the message alone, for alerts.
    """

    def __init__(self, message: str, details: str = "") -> None:
        self.reason, text = (
            printable(LOGIN.sub("***", t), keep="\n") for t in (message, message + details)
        )
        super().__init__(text)


class TransientError(SparkifyError):
    """An error that may go away when the step is retried."""


def printable(text: str, keep: str = "") -> str:
    """Text with its unsafe characters replaced, except those in `keep`."""
    return UNSAFE.sub(lambda c: c[0] if c[0] in keep else "\N{REPLACEMENT CHARACTER}", text)
