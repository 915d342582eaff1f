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
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import accumulate, groupby
from pathlib import Path
from typing import NamedTuple, TextIO

import duckdb

from sparkify_assets.catalog import Column, Table
from sparkify_assets.errors import SparkifyError
from sparkify_assets.scratch import scratch_folder
from sparkify_assets.sources.base import LocalFile, open_object, verify_unchanged
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
MAX_EFFORT = 100_000_000  # characters that may be read in vain between two whole lines
WINDOWS = (4_096, MAX_RECORD_BYTES + 1)  # to look for an object in: most are far shorter
DECODER = json.JSONDecoder()
LINES = '"lines to read"'
STRIPPED = f"""trim("the text", '{BLANKS}')"""
OFFERED = f"""
    SELECT *, "the text" IS NULL OR (
        starts_with({STRIPPED}, '{{') AND json_valid({STRIPPED})
    ) AS "is whole"
    FROM read_json(
        ?,
        format = 'newline_delimited',
        maximum_object_size = {8 * MAX_RECORD_BYTES},
        columns = {{'the object': 'INTEGER', 'the line': 'BIGINT', 'the text': 'VARCHAR'}}
    )
"""  # an escaped character may be six long


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


def verify_readable(table: Table) -> None:
    """Makes sure that JSON can be read into a staging table.

    Raises:
        SparkifyError: the column of the object's id is missing, or a type is none of the reader's.
    """
    if OBJECT_ID not in (column.name for column in table.columns):
        raise SparkifyError(f"{table.path}: a table that is loaded declares a column {OBJECT_ID}")
    for column in _json_columns(table):
        _conversion(column)


def read_objects(
    connection: duckdb.DuckDBPyConnection, table: Table, objects: dict[int, LocalFile]
) -> Reading:
    """Inserts the records of `objects` (by object id) into `table` on `connection`.

    Raises:
        SparkifyError: an object that cannot be read, is compressed, or changed while being read.
    """
    reading = Reading({object_id: ObjectCount() for object_id in objects})
    tiny = {i: o for i, o in objects.items() if o.size <= TINY_BYTES}
    large = {i: o for i, o in objects.items() if o.size > TINY_BYTES}
    try:
        with scratch_folder() as folder:
            careful = tiny | _read_fast(connection, table, large, folder, reading)
            _read_carefully(connection, table, careful, folder, reading)
    except (OSError, duckdb.IOException, duckdb.OutOfMemoryException) as error:
        raise SparkifyError(f"{table.name} was not loaded: {error}") from None
    return reading


def _read_fast(
    connection: duckdb.DuckDBPyConnection,
    table: Table,
    objects: dict[int, LocalFile],
    folder: Path,
    reading: Reading,
) -> dict[int, LocalFile]:
    """Loads the objects that hold one sound record a line; returns the others, still unread."""
    lines = {}
    for object_id, item in objects.items():
        with open_object(item) as stream:
            lines[object_id] = _count_lines(stream, item)
        if lines[object_id] is not None:
            (folder / f"{object_id}.json").symlink_to(item.path)  # no character to glob in its name
    try:
        if any(count is not None for count in lines.values()):
            keys = {c.key: "VARCHAR" for c in _json_columns(table)}
            connection.execute(
                f"INSERT INTO {quote(table.name)} {_select_rows(table)}"
                'FROM (SELECT *, CAST(parse_filename("the file", true) AS INTEGER) AS "the object" '
                "FROM read_json(?, columns = ?, format = 'newline_delimited', "
                f"ignore_errors = true, filename = 'the file')) WHERE {_problem(table)} IS NULL",
                [f"{glob.escape(str(folder))}/*.json", keys],
            )
    finally:  # an object that went away is what is wrong, whatever DuckDB says of it
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
    objects: dict[int, LocalFile],
    folder: Path,
    reading: Reading,
) -> None:
    """Loads objects record by record, by way of a table of their lines.

    DuckDB says which lines are whole JSON objects. What stands between those may still hold
    objects, over several lines or several on one: what is found takes the place of the lines.
    """
    if not objects:
        return
    with (folder / "lines.ndjson").open("w", encoding="utf-8") as out:
        for object_id, item in objects.items():
            with open_object(item) as stream:
                for line, text in _lines(stream, item):
                    reading.counts[object_id].records += 1
                    problem = _unreadable(text)
                    if problem:
                        _reject(reading, object_id, line, None, problem, text)
                    _offer(out, object_id, line, None if problem else text.decode())
            verify_unchanged(item)
    connection.execute(f"CREATE OR REPLACE TEMP TABLE {LINES} AS {OFFERED}", [out.name])
    with (folder / "found.ndjson").open("w", encoding="utf-8") as out:
        _offer_what_is_between(connection, out, reading)
    connection.execute(f"INSERT INTO {LINES} {OFFERED}", [out.name])
    _load_lines(connection, table, objects, reading)
    connection.execute(f"DROP TABLE {LINES}")


def _offer(out: TextIO, object_id: int, line: int, text: str | None) -> None:
    """Offers a text as a record; None for a line that only parts what is before it and after it."""
    offered = {"the object": object_id, "the line": line, "the text": text}
    out.write(json.dumps(offered, ensure_ascii=False) + "\n")


def _offer_what_is_between(
    connection: duckdb.DuckDBPyConnection, out: TextIO, reading: Reading
) -> None:
    """Takes the lines that are no whole object out of the table, and offers what they hold."""
    between = connection.execute(
        'SELECT "the object", "the line", "the text", count_if("is whole") OVER '
        '(PARTITION BY "the object" ORDER BY "the line") '
        f'FROM {LINES} QUALIFY NOT "is whole" ORDER BY "the object", "the line"'
    ).fetchall()
    connection.execute(f'DELETE FROM {LINES} WHERE NOT "is whole"')
    for (object_id, _), run in groupby(between, key=lambda row: (row[0], row[3])):
        lines = [(line, text) for _, line, text, _ in run]
        reading.counts[object_id].records -= len(lines)
        for line, found, problem in _find_objects(lines):
            reading.counts[object_id].records += 1
            if problem:
                _reject(reading, object_id, line, None, problem, found.encode())
            else:
                _offer(out, object_id, line, found)


def _load_lines(
    connection: duckdb.DuckDBPyConnection,
    table: Table,
    objects: Collection[int],
    reading: Reading,
) -> None:
    """Makes rows of the lines that fit the table's columns, and rejections of the others."""
    columns = _json_columns(table)
    keys = json.dumps({column.key: "VARCHAR" for column in columns}).replace("'", "''")
    judged = (
        f'FROM (SELECT *, {_problem(table)} AS "the problem" FROM (SELECT * EXCLUDE "the json", '
        '"the json".* FROM (SELECT *, CASE WHEN "is whole" THEN '
        f"json_transform({STRIPPED}, '{keys}') END AS \"the json\" "
        f'FROM {LINES} WHERE "the text" IS NOT NULL)))'
    )
    connection.execute(
        f"INSERT INTO {quote(table.name)} {_select_rows(table)} {judged} "
        'WHERE "the problem" IS NULL'
    )
    for object_id, rows in _count_rows(connection, table, objects).items():
        reading.counts[object_id].loaded = rows
    counts = [reading.counts[object_id] for object_id in objects]
    if all(count.records == count.loaded + count.rejected for count in counts):
        return  # nothing to judge a second time
    values = ", ".join(quote(column.key) for column in columns)
    misfits = connection.execute(
        'SELECT "the object", "the line", "the text", "is whole", "the problem", '
        f'[{values}]["the problem" + 1] {judged} WHERE "the problem" IS NOT NULL'
    )
    for object_id, line, text, is_whole, problem, value in misfits.fetchall():
        column = columns[problem] if is_whole and problem >= 0 else None
        if column:
            reason = _misfit(column, value)
        else:
            reason = "has no value for any column" if is_whole else "not valid JSON"
        _reject(reading, object_id, line, column, reason, text.encode())


def _reject(
    reading: Reading, object_id: int, line: int, column: Column | None, reason: str, text: bytes
) -> None:
    reading.counts[object_id].rejected += 1
    raw = (
        text.strip()[:MAX_RAW_BYTES]
        .decode("utf-8", errors="backslashreplace")
        .replace("\0", "\\x00")
    )
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


def _count_lines(stream: io.FileIO, item: LocalFile) -> int | None:
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


def _lines(stream: io.FileIO, item: LocalFile) -> Iterator[tuple[int, bytes]]:
    """The lines of an object that are not blank, each with its number; a too long one is cut.

    A byte order mark may begin any of them: files that each have one may have been joined.
    """
    number = 0
    with io.BufferedReader(stream, BLOCK_BYTES) as reader:
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


def _unreadable(line: bytes) -> str | None:
    """Why a line is no text to look for records in."""
    if len(line) > MAX_RECORD_BYTES:
        return TOO_LONG
    try:
        line.decode()
    except UnicodeDecodeError:
        return "not UTF-8 text"
    return None


def _find_objects(lines: list[tuple[int, str]]) -> Iterator[tuple[int, str, str | None]]:
    """Finds objects in lines none of which is one: (line, text, None), or a line and what it lacks.

    Where no object begins, or none that ends, the rest of the line is no record. Nested damage
    could make that slow, so the effort is bounded.
    """
    text = "\n".join(text for _, text in lines)
    starts = list(accumulate((len(text) + 1 for _, text in lines), initial=0))
    at = row = effort = 0
    while at < len(text):
        if text[at] in BLANKS:
            at += 1
            continue
        while starts[row + 1] <= at:
            row += 1
        end, problem = starts[row + 1] - 1, "not a JSON object"
        if text[at] == "{" and effort < MAX_EFFORT:
            length, problem, vain = _read_object(text, at)
            end = at + length if length else end
            effort += vain
        yield lines[row][0], text[at:end], problem or None
        at = end


def _read_object(text: str, at: int) -> tuple[int, str, int]:
    """Reads the JSON object that begins at a place: its length or 0, why not, characters read."""
    for window in WINDOWS:
        piece = text[at : at + window]
        try:
            length = DECODER.raw_decode(piece)[1]
        except json.JSONDecodeError as error:
            problem = f"not valid JSON: {error.msg}: character {error.pos + 1}"
            is_cut = error.pos > window - 16 or error.msg.startswith("Unterminated string")
            if is_cut and len(piece) == window:
                continue
        except (ValueError, RecursionError):  # a number too long, too deeply nested
            problem = "not valid JSON"
        else:
            return length, TOO_LONG if len(piece[:length].encode()) > MAX_RECORD_BYTES else "", 0
        break
    return 0, problem, len(piece)


def _compressed(item: LocalFile) -> SparkifyError:
    return SparkifyError(
        f"{item.address} is gzip-compressed, not JSON text. Nothing was loaded. "
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
