"""Finds the records in the bytes of an object: JSON objects, whatever stands around them.

One record may be on a line, over many lines, glued to the next one, or part of an array; lines and
objects may have any length, and only a record has a limit. What is no record is told with its line,
its size and why. Nothing here knows a table: what a record's values mean is said in `values.py`.
"""

import codecs
import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

MAX_RECORD_BYTES = 4 * 1024 * 1024  # Redshift's own limit for a JSON record and for a row
MAX_RAW_BYTES = 65_000  # of a rejected record; fits VARCHAR(65535)
WINDOWS = (4_096, 65_536, MAX_RECORD_BYTES + 1)  # to look for an object in: most are far shorter
MAX_EFFORT = 50_000_000  # characters of larger windows that are read in vain between two records
TOO_LONG = f"longer than {MAX_RECORD_BYTES:,} bytes"

SEPARATORS = re.compile("[ \t\r\n\v\f,\\[\\]\ufeff]*")  # what may stand between two records
BRACKETS = re.compile(r'"(?:[^"\\\n]|\\.)*"|[{}\[\]\n]')
NEXT_RECORD = re.compile(r"\n|(?<=\})[ \t\r]*(?=\{)")  # "}{" is in no JSON but between two records
NEXT_OBJECT = re.compile(r"\n|(?=\{)")
SURROGATES = re.compile("[\ud800-\udfff]")  # bytes that are no UTF-8, as they were decoded

BINARY = {  # how files begin that hold no text
    b"\x1f\x8b": "gzip-compressed. Unpack it (gunzip)",
    b"PK\x03\x04": "a zip archive. Unpack it (unzip)",
    b"BZh": "bzip2-compressed. Unpack it (bunzip2)",
    b"\x28\xb5\x2f\xfd": "zstd-compressed. Unpack it (unzstd)",
    b"\xfd7zXZ\0": "xz-compressed. Unpack it (unxz)",
    b"PAR1": "a Parquet file. Export it as JSON, one record a line",
    b"\xff\xfe": "UTF-16 text. Save it as UTF-8",
    b"\xfe\xff": "UTF-16 text. Save it as UTF-8",
    b'{\0"\0': "UTF-16 text. Save it as UTF-8",
    b'\0{\0"': "UTF-16 text. Save it as UTF-8",
}
TEXTS = {  # how texts begin that are probably no JSON
    b"version https://git-lfs": "a Git LFS pointer, not the file itself. Fetch that (git lfs pull)",
    b"<": "an HTML or XML page. Download the raw file itself",
}


class Number(str):
    """A JSON number, spelled as in the file."""

    __slots__ = ()


class Members(list[tuple[str, Any]]):
    """The keys of a JSON object with their values, in order, repeated ones too."""


class Found(NamedTuple):
    """A record, or a text that is none: then `members` is None and `problem` says why.

    `text` is cut at `MAX_RAW_BYTES` where it is no record; `size` is that of all of it, in bytes.
    """

    line: int
    text: str
    size: int
    members: Members | None
    problem: str = ""


def _constant(name: str) -> None:
    if name != "NaN":  # what Python writes for a number that is missing
        raise ValueError(f"{name} is no JSON value")


DECODER = json.JSONDecoder(
    object_pairs_hook=Members, parse_int=Number, parse_float=Number, parse_constant=_constant
)


def something_else(head: bytes, signatures: dict[bytes, str]) -> str | None:
    """What a file that begins like this seems to be, and what to do; None if none of these."""
    text = head.removeprefix(codecs.BOM_UTF8).lstrip()
    kinds = (kind for begin, kind in signatures.items() if text.startswith(begin))
    return next(kinds, None)


def find_records(blocks: Iterator[bytes], line: int = 1) -> Iterator[Found]:
    """Finds the records in the bytes of an object, and the texts in it that are none.

    Where an object is damaged, the next record is looked for behind its closing bracket, on the
    rest of the line, and on the next line.

    Args:
        blocks: the bytes, parted anywhere; none is empty.
        line: number of the line on which they begin.
    """
    decode = codecs.getincrementaldecoder("utf-8")("surrogateescape").decode
    text, at, effort = "", 0, 0
    is_whole = False
    while True:
        if not is_whole and len(text) - at <= MAX_RECORD_BYTES:  # what begins here may be cut
            block = next(blocks, b"")
            text, at, is_whole = text[at:] + decode(block, not block), 0, not block
            continue
        start = SEPARATORS.match(text, at).end()  # type: ignore[union-attr]  # it matches ""
        line += text.count("\n", at, start)
        at = start
        if at == len(text):
            if is_whole:
                return
            continue
        members, problem, length = None, "not a JSON object", 0
        if text[at] == "{":
            members, problem, length = _read_object(text, at, effort)
        if members is not None:
            piece = text[at : at + length]
            yield Found(line, piece, _size(piece), members, problem)
            effort, end = 0, at + length
        else:
            effort += length
            raw, size, lines = text[at : at + MAX_RAW_BYTES], 0, 0
            end = _end_of_damage(text, at, problem)
            while end is None and not is_whole:
                size, lines = size + _size(text[at:-1]), lines + text.count("\n", at, -1)
                block = next(blocks, b"")
                text, at, is_whole = text[-1:] + decode(block, not block), 0, not block
                end = _end_of_damage(text, at, problem)
            end = len(text) if end is None else end
            size += _size(text[at:end])
            yield Found(line, raw[:size], size, None, problem)
            line += lines
        line += text.count("\n", at, end)
        at = end


def _read_object(text: str, at: int, effort: int) -> tuple[Members | None, str, int]:
    """Reads the JSON object that begins at a place, a large one after little effort in vain alone.

    Returns:
        Its members, what is wrong, and its length; or None, why, and how much was read in vain
        where that was much.
    """
    problem = "not valid JSON"
    for window in WINDOWS if effort < MAX_EFFORT else WINDOWS[:1]:
        piece = text[at : at + window]
        try:
            members, length = DECODER.raw_decode(piece)
        except json.JSONDecodeError as error:
            problem = f"not valid JSON: {error.msg}: character {error.pos + 1}"
            is_cut = error.pos > window - 16 and "control character" not in error.msg
            is_cut |= error.msg.startswith("Unterminated string")
            if is_cut and len(piece) == window:
                problem = TOO_LONG
                continue
        except RecursionError:
            problem = "not valid JSON: nested too deeply"
        except ValueError as error:
            problem = f"not valid JSON: {error}"
        else:
            piece = piece[:length]
            if _size(piece) > MAX_RECORD_BYTES:
                return members, TOO_LONG, length
            is_text = piece.isascii() or not SURROGATES.search(piece)
            return members, "" if is_text else "not UTF-8 text", length
        break
    return None, problem, len(piece) if window > WINDOWS[0] else 0


def _end_of_damage(text: str, at: int, problem: str) -> int | None:
    """Where a text that is no record ends: by its brackets, its line, or before a whole record."""
    depth = 0
    for bracket in BRACKETS.finditer(text, at, at + MAX_RAW_BYTES if text[at] == "{" else at):
        depth += {"{": 1, "[": 1, "}": -1, "]": -1}.get(bracket[0], 0)
        if bracket[0] == "\n":
            break
        if not depth:
            return bracket.end()
    effort = 0
    for place in (NEXT_RECORD if problem == TOO_LONG else NEXT_OBJECT).finditer(text, at + 1):
        if text[place.start()] == "\n":
            return place.start()
        members, _, length = _read_object(text, place.end(), effort)
        if members is not None:
            return place.start()
        effort += length
    return None


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode(errors="surrogateescape"))
