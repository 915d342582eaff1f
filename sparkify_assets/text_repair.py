"""Repairs text that was damaged before it came here: wrong encodings, HTML, control characters.

One function from text to text, and the filling of the table that holds what it changes. Which
texts are suspect, and which columns of the star are repaired, is said in `sql/`.
"""

import hashlib
import html
import re
from html.entities import html5
from importlib.metadata import version
from pathlib import Path

from sparkify_assets.maintenance import Scope, Upkeep
from sparkify_assets.tables import Table
from sparkify_assets.warehouse.base import Session
from sparkify_assets.warehouse.landing import insert_rows, landing_for

VERSION = hashlib.sha256(Path(__file__).read_bytes() + version("ftfy").encode()).hexdigest()[:16]
MOST_BYTES = 1_024  # of a repaired text, if it was no longer before: what a title may have
TAG = re.compile(  # a title such as <3 or <Untitled> is none
    r"</?(a|abbr|b|br|div|em|font|h[1-6]|i|img|li|p|script|small|span|strong|style|u|ul)(\s[^<>]*)?/?>",
    re.IGNORECASE,
)
ENTITY = re.compile(r"&(#\d{1,7}|#x[0-9a-f]{1,6}|[a-z][a-z0-9]*);", re.IGNORECASE)
# Half of a 16-bit character was lost: U+2019, the apostrophe, became U+0019.
HALVED = {code: 0x2000 + code for code in (0x13, 0x14, 0x18, 0x19, 0x1C, 0x1D)}
NO_CHARACTERS = {0xFFFE: 0xFFFD, 0xFFFF: 0xFFFD}  # U+FFFD stands for what nobody knows
BLANKS = " "


def repair(text: str) -> str:
    """The text as it was meant; repairing that again changes nothing.

    A repair that would be longer than the columns for such text is not made.
    """
    repaired, before = text, ""
    while repaired != before:
        before = repaired
        repaired = TAG.sub("", ENTITY.sub(_character, _decoded(repaired)))
        repaired = repaired.translate(HALVED | NO_CHARACTERS).strip(BLANKS)
    return repaired if len(repaired.encode()) <= max(MOST_BYTES, len(text.encode())) else text


def repair_table(session: Session, table: Table, upkeep: Upkeep) -> tuple[int, int]:
    """Fills a table of texts and their repairs with what its query finds and repair changes.

    Returns:
        How many texts were suspect, and how many of them were damaged.
    """
    found = session.rows(upkeep.on_stale_part(table.suspects or ""))
    suspects = {text for row in found for text in row.values()}
    if upkeep.scope is Scope.PART:
        suspects -= {row["raw_text"] for row in session.rows(f"SELECT raw_text FROM {table.name}")}
    else:
        session.empty(table)
    upkeep.changed_nothing_below()  # rows with such texts come at the same time
    damaged = [(text, repaired) for text in suspects if (repaired := repair(text)) != text]
    with landing_for([table]) as landing:
        insert_rows(landing.connection, table, damaged)
        session.insert(landing)
    return len(suspects), len(damaged)


def _decoded(text: str) -> str:
    """Undoes that UTF-8 was taken for Latin-1 or cp1252, as often as that happened."""
    if text.isascii():
        return text
    for encoding in ("latin-1", "cp1252"):
        try:
            return _decoded(text.encode(encoding).decode())
        except UnicodeError:
            continue
    from ftfy import fix_encoding  # known cases in which characters were lost on the way

    return fix_encoding(text)


def _character(entity: re.Match[str]) -> str:
    """What an entity stands for; unlike browsers, nothing for one without its semicolon."""
    is_known = entity[1].startswith("#") or f"{entity[1]};" in html5
    return html.unescape(entity[0]) if is_known else entity[0]
