"""Reads the records of JSON objects into a DuckDB table: every record becomes a row or a rejection.

Most objects take the fast way: DuckDB parses them in one set-based pass, and Python only counts
their lines. Where lines and rows differ, something in the object is not one sound record a line;
it is then read again the careful way, which finds records one by one, whatever stands around them:
pretty-printed, concatenated, truncated, not text at all. Tiny objects always take the careful way,
since opening a file costs DuckDB more than reading one record costs Python. Both ways meet in the
same SQL, which turns JSON values into the declared types: there is one set of rules.

What is new, what is replaced and what is written into the history is the business of `loading.py`.
"""

import glob
import io
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import duckdb

from sparkify_assets.catalog import Column, Table
from sparkify_assets.errors import SparkifyError
from sparkify_assets.sources import InputObject, open_object, verify_unchanged
from sparkify_assets.warehouse.base import quote

OBJECT_ID = "object_id"  # column of a staging table that names the object, not a key of the JSON
TINY_BYTES = 16 * 1024  # about where DuckDB's cost of opening a file and Python's of parsing meet
MAX_RECORD_BYTES = 4 * 1024 * 1024  # Redshift's own limit for a JSON record and for a row
MAX_RAW_BYTES = 65_000  # of a rejected record; fits VARCHAR(65535)
TOO_LONG = f"longer than {MAX_RECORD_BYTES:,} bytes"
BLOCK_BYTES = MAX_RECORD_BYTES // 2  # a longer line covers at least one whole block
GZIP_MAGIC = b"\x1f\x8b"
BOM = b"\xef\xbb\xbf"
BLANKS = " \t\r\n\v\f"  # what may stand around a record, for DuckDB and for bytes.strip()


class Rejection(NamedTuple):
    """A record that cannot become a row; `column` is None where it cannot be read at all."""

    object_id: int
    line: int
    column: str | None
    reason: str
    raw: str


@dataclass
class ObjectCount:
    """What became of one object's records; `records` is counted apart from the two others."""

    records: int = 0
    loaded: int = 0
    rejected: int = 0


@dataclass
class Reading:
    """What one call of `read_objects` found, by object id."""

    counts: dict[int, ObjectCount]
    rejections: list[Rejection] = field(default_factory=list)


def read_objects(
    connection: duckdb.DuckDBPyConnection, table: Table, objects: dict[int, InputObject]
) -> Reading:
    """Inserts the records of `objects` (by object id) into `table` on `connection`.

    Raises:
        SparkifyError: an object that cannot be read, is compressed, or changed while being read.
    """
    reading = Reading({object_id: ObjectCount() for object_id in objects})
    tiny = {i: o for i, o in objects.items() if o.size <= TINY_BYTES}
    large = {i: o for i, o in objects.items() if o.size > TINY_BYTES}
    with TemporaryDirectory(prefix="sparkify-") as folder:
        careful = tiny | _read_fast(connection, table, large, Path(folder), reading)
        _read_carefully(connection, table, careful, Path(folder) / "records.ndjson", reading)
    return reading


def _read_fast(
    connection: duckdb.DuckDBPyConnection,
    table: Table,
    objects: dict[int, InputObject],
    folder: Path,
    reading: Reading,
) -> dict[int, InputObject]:
    """Loads the objects that hold one sound record a line; returns the others, still unread."""
    lines = {}
    for object_id, item in objects.items():
        with open_object(item) as stream:
            lines[object_id] = _count_lines(stream, item)
        if lines[object_id] is not None:
            (folder / f"{object_id}.json").symlink_to(item.path)  # no character to glob in its name
    if any(count is not None for count in lines.values()):
        keys = {c.key: "VARCHAR" for c in _json_columns(table)}
        connection.execute(
            f"INSERT INTO {quote(table.name)} {_select_rows(table)}"
            'FROM (SELECT *, CAST(parse_filename("the file", true) AS INTEGER) AS "the object" '
            "FROM read_json(?, columns = ?, format = 'newline_delimited', ignore_errors = true, "
            f"filename = 'the file')) WHERE {_problem(table)} IS NULL",
            [f"{glob.escape(str(folder))}/*.json", keys],
        )
    for item in objects.values():
        verify_unchanged(item)
    loaded = _count_rows(connection, table, objects)
    damaged = {i: o for i, o in objects.items() if lines[i] is None or lines[i] != loaded.get(i, 0)}
    if damaged:
        connection.execute(
            f"DELETE FROM {quote(table.name)} WHERE {OBJECT_ID} IN (SELECT unnest(?))",
            [list(damaged)],
        )
    for object_id in objects.keys() - damaged.keys():
        count = lines[object_id] or 0
        reading.counts[object_id] = ObjectCount(records=count, loaded=count)
    return damaged


def _read_carefully(
    connection: duckdb.DuckDBPyConnection,
    table: Table,
    objects: dict[int, InputObject],
    pack: Path,
    reading: Reading,
) -> None:
    """Loads objects record by record: the readable ones by way of a file of one record a line."""
    if not objects:
        return
    places: list[tuple[int, int]] = []  # object id and line of each record in the pack
    with pack.open("wb") as out:
        for object_id, item in objects.items():
            count = reading.counts[object_id]
            with open_object(item) as stream:
                for line, text, reason in _split(stream, item):
                    count.records += 1
                    if reason:
                        _reject(reading, object_id, line, None, reason, text)
                    else:
                        numbers = b'{"the record":%d,"the object":%d,' % (len(places), object_id)
                        one_line = b"\r".join(text.splitlines())
                        out.write(numbers + b'"the json":' + one_line + b"}\n")
                        places.append((object_id, line))
            verify_unchanged(item)
    columns = _json_columns(table)
    keys = ", ".join(f"{quote(c.key)} VARCHAR" for c in columns)
    types = {"the record": "BIGINT", "the object": "INTEGER", "the json": f"STRUCT({keys})"}
    packed = (
        'FROM (SELECT "the record", "the object", "the json".* FROM read_json(?, columns = ?, '
        "format = 'newline_delimited', ignore_errors = true))"
    )
    read = [glob.escape(str(pack)), types]
    connection.execute(
        f"INSERT INTO {quote(table.name)} {_select_rows(table)} {packed} "
        f"WHERE {_problem(table)} IS NULL",
        read,
    )
    for object_id, rows in _count_rows(connection, table, objects).items():
        reading.counts[object_id].loaded = rows
    if sum(reading.counts[i].loaded for i in objects) < len(places):
        values = ", ".join(quote(c.key) for c in columns)
        judged = connection.execute(
            'SELECT "the number", "the problem", "the value" '
            f'FROM range({len(places)}) AS numbers("the number") LEFT JOIN (SELECT "the record", '
            f'{_problem(table)} AS "the problem", [{values}]["the problem" + 1] AS "the value" '
            f'{packed}) ON "the number" = "the record" '
            'WHERE "the record" IS NULL OR "the problem" IS NOT NULL',
            read,
        )
        problems = {number: (problem, value) for number, problem, value in judged.fetchall()}
        with pack.open("rb") as stream:
            for number, packed_line in enumerate(stream):
                if number not in problems:
                    continue
                problem, value = problems[number]
                text = packed_line.partition(b'"the json":')[2][:-2].replace(b"\r", b"\n")
                column = columns[problem] if problem is not None and problem >= 0 else None
                if column:
                    reason = _misfit(column, value)
                else:
                    reason = _complaint(text.decode()) if problem is None else "has no known key"
                _reject(reading, *places[number], column, reason, text)


def _reject(
    reading: Reading, object_id: int, line: int, column: Column | None, reason: str, text: bytes
) -> None:
    reading.counts[object_id].rejected += 1
    raw = text[:MAX_RAW_BYTES].decode("utf-8", errors="backslashreplace").replace("\0", "\\x00")
    raw = raw.encode()[:MAX_RAW_BYTES].decode(errors="ignore")
    name = column.name if column else None
    reading.rejections.append(Rejection(object_id, line, name, reason, raw))


def _count_rows(
    connection: duckdb.DuckDBPyConnection, table: Table, objects: Iterable[int]
) -> dict[int, int]:
    found = connection.execute(
        f"SELECT {OBJECT_ID}, COUNT(*) FROM {quote(table.name)} "
        f"WHERE {OBJECT_ID} IN (SELECT unnest(?::INTEGER[])) GROUP BY {OBJECT_ID}",
        [list(objects)],
    )
    return dict(found.fetchall())


# --- From bytes to records -------------------------------------------------------------------


def _count_lines(stream: io.FileIO, item: InputObject) -> int | None:
    """Lines of an object; None where one may be longer than a record can be."""
    lines, last = 0, b"\n"
    while block := stream.read(BLOCK_BYTES):
        if not lines and block.startswith(GZIP_MAGIC):
            raise _compressed(item)
        newlines = block.count(b"\n")
        if not newlines and len(block) == BLOCK_BYTES:
            return None
        lines, last = lines + newlines, block[-1:]
    return lines + (last != b"\n")


def _split(stream: io.FileIO, item: InputObject) -> Iterator[tuple[int, bytes, str | None]]:
    """Finds the records of an object: (line, text, None), or (line, text, why it is no record).

    A line that is one whole JSON object is a record, whatever stands around it. What lies between
    such lines may be objects over several lines, or several on one line: see `_split_between`.
    """
    between: list[tuple[int, str]] = []
    size = 0
    for number, line in _lines(stream, item):
        text = "" if len(line) > MAX_RECORD_BYTES else _decoded(line)
        if text and not _is_whole(text):
            between.append((number, text + "\n"))
            size += len(text) + 1
            if size > 2 * MAX_RECORD_BYTES:
                found, between = _split_between(between, more_follows=True)
                size = sum(len(text) for _, text in between)
                yield from found
            continue
        yield from _split_between(between)[0]
        between, size = [], 0
        if text:
            yield number, line.strip(), None
        elif len(line) > MAX_RECORD_BYTES:
            yield number, line, TOO_LONG
        else:
            yield number, line, "not UTF-8 text"
    yield from _split_between(between)[0]


def _split_between(
    lines: list[tuple[int, str]], more_follows: bool = False
) -> tuple[list[tuple[int, bytes, str | None]], list[tuple[int, str]]]:
    """Takes objects from lines none of which is one; where none can be read, a line is rejected.

    Returns what it found, and the lines at the end that may go on in what follows.
    """
    found: list[tuple[int, bytes, str | None]] = []
    text = "".join(line for _, line in lines)
    starts = [0, *accumulate(len(line) for _, line in lines)]
    ends = _object_ends(text)
    at = row = 0
    while at < len(text):
        if text[at] in BLANKS:
            at += 1
            continue
        while starts[row + 1] <= at:
            row += 1
        if more_follows and len(text) - at < MAX_RECORD_BYTES:
            return found, [(lines[row][0], text[at : starts[row + 1]]), *lines[row + 1 :]]
        end = ends.get(at) or starts[row + 1] - 1
        record = text[at:end]
        reason = None if at in ends else _complaint(record)
        raw = record.encode()
        found.append((lines[row][0], raw, TOO_LONG if len(raw) > MAX_RECORD_BYTES else reason))
        at = end
    return found, []


def _is_whole(text: str) -> bool:
    """Whether a line is one JSON object and nothing else."""
    text = text.strip(BLANKS)
    if not (text.startswith("{") and text.endswith("}")):
        return False
    try:
        json.loads(text)
    except (ValueError, RecursionError):  # DuckDB reads more: no limit of depth, of digits
        return _object_ends(text).get(0) == len(text)
    return True


TOKEN = re.compile(  # of JSON as DuckDB reads it: with nan and infinity, without half surrogates
    r"""(?P<string> "(?: [^"\\\x00-\x1f] | \\["\\/bfnrt] | \\u(?!(?i:d[89a-f]))[0-9a-fA-F]{4}
                       | \\u(?i:d[89ab])[0-9a-fA-F]{2} \\u(?i:d[c-f])[0-9a-fA-F]{2} )*+" )
      | (?P<scalar> true | false | null | -?(?i:nan | inf(?:inity)?)
                  | -?(?:0|[1-9][0-9]*+) (?:\.[0-9]+)? (?:[eE][+-]?[0-9]+)? )
      | [^ \t\r\n]""",
    re.VERBOSE,
)
# What may follow in an object or an array, by what came last: its start or a comma, a key, a colon,
# a value. As in DuckDB, a comma may stand before the end.
NEXT: dict[str, dict[str, str]] = {
    "": {"{": "{", "[": "["},
    "{": {"string": "key", "}": ""},
    "key": {":": ":"},
    ":": {"string": "{value", "scalar": "{value", "{": "{", "[": "["},
    "{value": {",": "{", "}": ""},
    "[": {"string": "[value", "scalar": "[value", "{": "{", "[": "[", "]": ""},
    "[value": {",": "[", "]": ""},
}


def _object_ends(text: str) -> dict[int, int]:
    """Where each JSON object of a text ends, by where it starts; a damaged one has no end.

    One pass, whatever the damage: it ends all that is open there, and what follows starts anew.
    """
    ends = {}
    around: list[int] = []  # where the objects and arrays that are open start
    last = ""
    for token in TOKEN.finditer(text):
        kind = token.lastgroup or token[0]
        if kind not in NEXT[last]:
            around.clear()
            last = ""
        last = NEXT[last].get(kind, "")
        if kind in ("{", "["):
            around.append(token.start())
        elif kind in ("}", "]") and around:
            start = around.pop()
            if kind == "}":
                ends[start] = token.end()
            last = f"{text[around[-1]]}value" if around else ""
    return ends


def _complaint(text: str) -> str:
    """Why a text is not one JSON object."""
    if not text.startswith("{"):
        return "not a JSON object"
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        return f"not valid JSON: {error.msg}: character {error.pos + 1}"
    except (ValueError, RecursionError):
        pass
    return "not valid JSON"


def _decoded(line: bytes) -> str:
    """A line as text; empty where it is not UTF-8."""
    try:
        return line.decode()
    except UnicodeDecodeError:
        return ""


def _lines(stream: io.FileIO, item: InputObject) -> Iterator[tuple[int, bytes]]:
    """The lines of an object that are not blank, each with its number; a too long one is cut.

    A byte order mark may begin any of them: files that each have one may have been joined.
    """
    reader = io.BufferedReader(stream, BLOCK_BYTES)
    number = 0
    while line := reader.readline(MAX_RECORD_BYTES + 2):
        if not number and line.startswith(GZIP_MAGIC):
            raise _compressed(item)
        number += 1
        rest = line
        while len(rest) > MAX_RECORD_BYTES and not rest.endswith(b"\n"):
            rest = reader.readline(MAX_RECORD_BYTES + 2)
        line = line.removeprefix(BOM).rstrip(b"\r\n")
        if line.strip():
            yield number, line


def _compressed(item: InputObject) -> SparkifyError:
    return SparkifyError(
        f"{item.path} is gzip-compressed, not JSON text. Nothing was loaded. "
        "Unpack it (gunzip) and run this again."
    )


# --- From JSON values to rows ----------------------------------------------------------------

INTEGER = r"'-?([0-9]+|[0-8]?[0-9]{1,15}\.0+)'"  # larger ones with a point may have been rounded
NUMBER = r"'-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?'"
DAY = "'[0-9]{4}-[0-9]{2}-[0-9]{2}'"
MILLISECONDS = "BETWEEN -62135596800000 AND 253402300799999"  # years 1 to 9999


def _json_columns(table: Table) -> list[Column]:
    return [column for column in table.columns if column.name != OBJECT_ID]


def _select_rows(table: Table) -> str:
    """SELECT list of a row of the table, from its JSON values as text and the object's id."""
    values = (
        '"the object"' if column.name == OBJECT_ID else _conversion(column)[0]
        for column in table.columns
    )
    return f"SELECT {', '.join(values)} "


def _problem(table: Table) -> str:
    """SQL for the first column that a record's value does not fit; null for a sound record.

    The number of the column among those read from the JSON, or -1 where a record has none of them.
    """
    columns = _json_columns(table)
    whens = []
    for number, column in enumerate(columns):
        value, misfit = _conversion(column)
        missing = "" if column.nullable else f" OR {value} IS NULL"
        whens.append(f"WHEN {misfit}{missing} THEN {number}")
    keys = ", ".join(quote(column.key) for column in columns)
    whens.append(f"WHEN COALESCE({keys}) IS NULL THEN -1")
    return f"CASE {' '.join(whens)} END"


def _conversion(column: Column) -> tuple[str, str]:
    """SQL for a column's value from its JSON value as text, and for whether that does not fit.

    As in COPY, empty text is null in every column but text.
    """
    text = quote(column.key)
    name, _, size = column.type.partition("(")
    if name == "VARCHAR":
        limit = {"": 256, "MAX)": 65_535}.get(size) or int(size[:-1])  # as in Redshift
        return text, f"strlen({text}) > {limit} OR contains({text}, chr(0))"
    cast = f"TRY_CAST({text} AS {column.type})"
    if name in ("SMALLINT", "INTEGER", "BIGINT"):
        fits = f"regexp_full_match({text}, {INTEGER}) AND {cast} IS NOT NULL"
    elif name in ("DOUBLE PRECISION", "REAL"):
        fits = f"regexp_full_match({text}, {NUMBER}) AND isfinite({cast})"
    elif name == "TIMESTAMP":
        milliseconds = f"TRY_CAST({text} AS BIGINT)"
        cast = f"make_timestamp_ms(CASE WHEN {milliseconds} {MILLISECONDS} THEN {milliseconds} END)"
        fits = f"regexp_full_match({text}, {INTEGER}) AND {milliseconds} {MILLISECONDS}"
    elif name == "DATE":
        fits = f"regexp_full_match({text}, {DAY}) AND {cast} IS NOT NULL"
    elif name == "BOOLEAN":
        fits = f"{cast} IS NOT NULL"
    else:
        raise SparkifyError(
            f"column {column.name}: type {column.type} is not one that JSON is read into: "
            "VARCHAR, SMALLINT, INTEGER, BIGINT, REAL, DOUBLE PRECISION, TIMESTAMP, BOOLEAN, DATE"
        )
    return cast, f"{text} <> '' AND NOT COALESCE({fits}, false)"


def _misfit(column: Column, value: str | None) -> str:
    """Why a value does not fit a column."""
    is_text = column.type.startswith("VARCHAR")
    if value is None or (value == "" and not is_text):
        return f"{column.key} is missing"
    if not is_text:
        shown = json.dumps(value, ensure_ascii=False)[1:-1]
        kind = "epoch milliseconds" if column.type == "TIMESTAMP" else column.type
        return f"{column.key} is {shown[:100]}, not {kind}"
    if "\0" in value:
        return f"{column.key} holds the character NUL"
    return f"{column.key} is {len(value.encode()):,} bytes long, more than {column.type}"
