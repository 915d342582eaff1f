"""Repairs text that arrives damaged: wrong encodings, HTML, control characters.

`sql/` decides which texts are suspect and where their repairs are used.
"""

import hashlib
import html
import re
from html.entities import html5
from importlib.metadata import version
from pathlib import Path

VERSION = hashlib.sha256(Path(__file__).read_bytes() + version("ftfy").encode()).hexdigest()[:16]
MOST_BYTES = 1_024  # limit of a title, for a repaired text that was not longer before
TAG = re.compile(  # does not match titles such as <3 or <Untitled>
    r"</?(a|abbr|b|br|div|em|font|h[1-6]|i|img|li|p|script|small|span|strong|style|u|ul)(\s[^<>]*)?/?>",
    re.IGNORECASE,
)
ENTITY = re.compile(r"&(#\d{1,7}|#x[0-9a-f]{1,6}|[a-z][a-z0-9]*);", re.IGNORECASE)
# Half of a 16-bit character was lost: U+2019, the apostrophe, became U+0019.
HALVED = {code: 0x2000 + code for code in (0x13, 0x14, 0x18, 0x19, 0x1C, 0x1D)}
NO_CHARACTERS = {0xFFFE: 0xFFFD, 0xFFFF: 0xFFFD}  # U+FFFD is the replacement character
BLANKS = " "


def repair(text: str) -> str:
    """Repairs a text, idempotently; returns it unchanged if the result would be too long."""
    repaired, before = text, ""
    while repaired != before:
        before = repaired
        repaired = TAG.sub("", ENTITY.sub(_character, _decoded(repaired)))
        repaired = repaired.translate(HALVED | NO_CHARACTERS).strip(BLANKS)
    return repaired if len(repaired.encode()) <= max(MOST_BYTES, len(text.encode())) else text


def _decoded(text: str) -> str:
    """Undoes reading UTF-8 as Latin-1 or cp1252, repeatedly."""
    if text.isascii():
        return text
    for encoding in ("latin-1", "cp1252"):
        try:
            return _decoded(text.encode(encoding).decode())
        except UnicodeError:
            continue
    from ftfy import fix_encoding  # for known cases with lost characters

    return fix_encoding(text)


def _character(entity: re.Match[str]) -> str:
    """The character of an entity; unlike browsers, this requires the semicolon."""
    is_known = entity[1].startswith("#") or f"{entity[1]};" in html5
    return html.unescape(entity[0]) if is_known else entity[0]
