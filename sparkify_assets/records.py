"""Finds the records (JSON objects) in the bytes of an object.

A record may be on one line, spread over many, glued to the next one, or part of an array. Only
records have a maximum length; lines and objects do not. Anything else is reported with its line,
size and reason. `values.py` interprets the values of a record.
"""

import codecs
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from sparkify_assets.formats import counted

MAX_RECORD_BYTES = 4 * 1024 * 1024  # Redshift's limit for a JSON record and for a row
MAX_RAW_BYTES = 65_000  # kept of a rejected record; fits VARCHAR(65535)
WINDOWS = (4_096, 65_536, MAX_RECORD_BYTES + 1)  # tried in turn: most records are short
MAX_EFFORT = 50_000_000  # characters that larger windows may waste between two records
TOO_LONG = f"longer than {MAX_RECORD_BYTES:,} bytes"
TOO_DEEP = "nested too deeply"

SEPARATORS = re.compile("[ \t\r\n\v\f,\\[\\]\ufeff]*")  # allowed between two records
BRACKETS = re.compile(r'"(?:[^"\\\n]|\\.)*"|[{}\[\]\n]')
NEXT_RECORD = re.compile(r"\n|(?<=\})[ \t\r]*(?=\{)")  # "}{" only occurs between two records
NEXT_OBJECT = re.compile(r"\n|(?=\{)")
SURROGATES = re.compile("[\ud800-\udfff]")  # decoded from bytes that are not UTF-8

BINARY = {  # first bytes of binary files
    (b"\x1f\x8b", b"PK\x03\x04", b"BZh", b"\x28\xb5\x2f\xfd", b"\xfd7zXZ\0"): (
        "compressed. Unpack it: only gzip, zstd, bzip2 and zip are read, and none in another"
    ),
    (b"PAR1",): "a Parquet file. Export it as JSON, one record a line",
    (b"\xff\xfe", b"\xfe\xff", b'{\0"\0', b'\0{\0"'): "UTF-16 text. Save it as UTF-8",
}
TEXTS: dict[tuple[bytes, ...], str] = {  # first bytes of text files that are probably not JSON
    (b"version https://git-lfs",): "a Git LFS pointer, not the file. Fetch that (git lfs pull)",
    (b"<",): "an HTML or XML page. Download the raw file itself",
}


class Number(str):
    """A JSON number, spelled as in the file."""

    __slots__ = ()


class Members(list[tuple[str, Any]]):
    """Keys and values of a JSON object, in order, with repeated keys."""


class Found(NamedTuple):
    """A record, or text that could not be split into records; `reason` says why it is rejected.

    `raw` is the text, cut at `MAX_RAW_BYTES`; `size` its full size in bytes; `column` the column
    at fault, if any.
    """

    line: int
    raw: str
    size: int
    reason: str
    is_record: bool = False
    members: Members = Members()
    column: str | None = None


def _constant(name: str) -> None:
    if name != "NaN":  # Python writes NaN for a missing number
        raise ValueError(f"{name} is no JSON value")


DECODER = json.JSONDecoder(
    object_pairs_hook=Members, parse_int=Number, parse_float=Number, parse_constant=_constant
)


def something_else(head: bytes, signatures: dict[tuple[bytes, ...], str]) -> str | None:
    """What these first bytes suggest the file is, and what to do; None if unknown."""
    text = head.removeprefix(codecs.BOM_UTF8).lstrip()
    return next((kind for begins, kind in signatures.items() if text.startswith(begins)), None)


def find_records(blocks: Iterator[bytes], line: int = 1) -> Iterator[Found]:
    """Yields the records in an object's bytes, and any other text between them.

    Such a text ends at its closing bracket, before the next record, or with its line. Blocks may
    end anywhere, but must not be empty; `line` is the number of the first line.
    """
    pieces = codecs.iterdecode(blocks, "utf-8", "surrogateescape")
    text, at, effort, is_whole = "", 0, 0, False
    while True:
        if not is_whole and len(text) - at <= MAX_RECORD_BYTES:  # a record here may be incomplete
            piece = next(pieces, "")
            text, at, is_whole = text[at:] + piece, 0, not piece
            continue
        start = SEPARATORS.match(text, at).end()  # type: ignore[union-attr]  # it matches ""
        line += text.count("\n", at, start)
        at = start
        if at == len(text):
            if is_whole:
                return
            continue
        raw, size = "", 0
        windows = WINDOWS if effort < MAX_EFFORT else WINDOWS[:1]
        members, problem, length = _read_object(text, at, windows)
        if members is not None:
            effort, end = 0, at + length
        else:
            effort += length
            while (end := _end_of_damage(text, at, problem)) < 0 and not is_whole:
                raw, size = raw or text[at : at + MAX_RAW_BYTES], size + _size(text[at:-1])
                piece = next(pieces, "")
                text, at, is_whole = text[-1:] + piece, 0, not piece
            end = len(text) if end < 0 else end
        size += _size(text[at:end])
        raw = raw or text[at : min(end, at + MAX_RAW_BYTES)]
        yield Found(line, raw, size, problem, members is not None, members or Members())
        line += text.count("\n", at, end)
        at = end


def _read_object(text: str, at: int, windows: Iterable[int]) -> tuple[Members | None, str, int]:
    """Reads the JSON object at `at`: its members, what is wrong with it, and its length.

    If it is not JSON, members is None, and length counts the characters read in vain.
    """
    if not text.startswith("{", at):
        return None, "not a JSON object", 0
    for window in windows:
        piece = text[at : at + window]
        try:
            members, length = DECODER.raw_decode(piece)
        except json.JSONDecodeError as error:
            below = f", {counted(error.lineno - 1, 'line')} below" if error.lineno > 1 else ""
            reason = f"{error.msg}: character {error.colno}{below}"
            is_cut = error.pos > window - 16 and "control character" not in error.msg
            if len(piece) < window or not (is_cut or error.msg.startswith("Unterminated string")):
                break
        except RecursionError:
            reason = TOO_DEEP
            break
        except ValueError as error:
            reason = str(error)
            break
        else:
            piece = piece[:length]
            if _size(piece) > MAX_RECORD_BYTES:
                return members, TOO_LONG, length
            is_text = piece.isascii() or not SURROGATES.search(piece)
            return members, "" if is_text else "not UTF-8 text", length
    else:
        reason = TOO_LONG
    return None, f"not valid JSON: {reason}", len(piece) if window > WINDOWS[0] else 0


def _end_of_damage(text: str, at: int, reason: str) -> int:
    """Where a text that is not a record ends; -1 if more input is needed to tell."""
    depth = 0
    for bracket in BRACKETS.finditer(text, at, at + MAX_RAW_BYTES if text[at] == "{" else at):
        depth += {"{": 1, "[": 1, "}": -1, "]": -1}.get(bracket[0], 0)
        if bracket[0] == "\n":
            break
        if not depth:
            return bracket.end()
    is_vast = reason.endswith((TOO_LONG, TOO_DEEP))  # trying each bracket would take too long
    for place in (NEXT_RECORD if is_vast else NEXT_OBJECT).finditer(text, at + 1):
        end = place.start()
        if text[end] == "\n" or _read_object(text, place.end(), WINDOWS[:2])[0] is not None:
            return end
    return -1


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode(errors="surrogateescape"))
