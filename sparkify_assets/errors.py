"""The exception for what a user can mend: its message says what is wrong, where, and what to do.

Anything else that is raised is a defect of this program and keeps its traceback. Text from outside
(names of files, values of data) is made harmless where it becomes part of what people read.
"""

import json
import re

# What steers a terminal, turns the direction of writing or is no character, and no XML can hold.
UNFIT = re.compile(r"[\0-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")

LOGIN = re.compile(r"(?<=://)[^/\s]+(?=@)")  # in an address: https://user:password@host


class SparkifyError(Exception):
    """A foreseeable mistake in the settings, the data, `sql/` or the surroundings."""

    def __init__(self, message: str) -> None:
        super().__init__(printable(LOGIN.sub("***", message), keep="\n"))


def printable(text: str, keep: str = "") -> str:
    """Text with a replacement character for each one that is unfit to show and not to `keep`."""
    return UNFIT.sub(lambda c: c[0] if c[0] in keep else "\N{REPLACEMENT CHARACTER}", text)


def launch_command(asset: str, **config: object) -> str:
    """The command that materializes an asset with a run config."""
    return (
        f"dg launch --assets {asset} "
        f"--config-json '{json.dumps({'ops': {asset: {'config': config}}})}'"
    )
