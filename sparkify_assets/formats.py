"""Formats numbers, values, rows and commands for people."""

import hashlib
import json
import re
from datetime import datetime
from typing import Any

from tabulate import tabulate

from sparkify_assets.errors import printable

WIDTH = 36  # of a column


def counted(number: int, noun: str) -> str:
    """A number with its noun: 1 row, 6,820 rows."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def as_text(value: object) -> str:
    """A value as safe text; a timestamp to the second."""
    if isinstance(value, datetime):
        return value.isoformat(sep=" ", timespec="seconds")
    return printable(str(value))


def text_table(rows: list[dict[str, Any]]) -> str:
    """Rows as an aligned table with long texts cut."""
    shown = [
        {n: v if v is None or isinstance(v, int) else as_text(v)[:WIDTH] for n, v in row.items()}
        for row in rows
    ]
    return tabulate(shown, headers="keys", tablefmt="simple", intfmt=",", disable_numparse=True)


def slug(text: str) -> str:
    """A readable name for use in a path, made unique by a hash."""
    legible = re.sub("[^a-z0-9]+", "-", text.lower()).strip("-")
    return f"{legible}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def launch_command(asset: str, **config: object) -> str:
    """The command that materializes an asset with this config."""
    run_config = {"ops": {asset: {"config": config}}}
    return f"dg launch --assets {asset} --config-json '{json.dumps(run_config)}'"
