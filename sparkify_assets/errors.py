"""The exception for what a user can fix: its message says what is wrong, where, and what to do.

Anything else that is raised is a defect of this program and keeps its traceback. Text from outside
(file names, values of data) is made safe to show where it becomes part of what people read.
"""

import logging
import re
from functools import cache

warn_once = cache(logging.getLogger("sparkify_assets").warning)  # a process often loads twice

# Steers a terminal, changes the direction of writing, is no character, or cannot stand in XML.
UNSAFE = re.compile(r"[\0-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")

LOGIN = re.compile(r"(?<=://)[^/\s]+(?=@)")  # in an address: https://user:password@host


class SparkifyError(Exception):
    """A foreseeable mistake in the settings, the data, `sql/` or the surroundings.

    Its text is the message with the `details`, which may quote values of data. `reason` is the
    message alone: what may leave this machine.
    """

    def __init__(self, message: str, details: str = "") -> None:
        self.reason, text = (
            printable(LOGIN.sub("***", t), keep="\n") for t in (message, message + details)
        )
        super().__init__(text)


class TransientError(SparkifyError):
    """What the same step may not meet when it is tried again later."""


def printable(text: str, keep: str = "") -> str:
    """Text with a replacement character for each one that is unsafe to show and not in `keep`."""
    return UNSAFE.sub(lambda c: c[0] if c[0] in keep else "\N{REPLACEMENT CHARACTER}", text)
