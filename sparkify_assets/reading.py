"""Reads the records of JSON objects into a DuckDB table: every record becomes a row or a rejection.

Most objects take the fast way: DuckDB parses them in one set-based pass, and Python only counts
their lines. Where lines and rows differ, or DuckDB could lose something that it does not tell of,
the object is read again the careful way, record by record. Tiny objects always take the careful
way, since opening a file costs DuckDB more than reading one record costs Python.

What a record is is said in `records.py`, what its values mean in `values.py`, and what is new,
replaced and written into the history in `loading.py`.
"""

import glob
import io
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import compress
from pathlib import Path
from typing import Any, NamedTuple

import duckdb

from sparkify_assets.catalog import Table
from sparkify_assets.errors import SparkifyError
from sparkify_assets.records import (
    BINARY,
    LOOSE,
    MAX_RAW_BYTES,
    MAX_RECORD_BYTES,
    TEXTS,
    Found,
    Members,
    count_lines,
    find_records,
    something_else,
)
from sparkify_assets.scratch import scratch_folder
from sparkify_assets.sources.base import LocalFile, open_object, verify_unchanged
from sparkify_assets.values import (
    OBJECT_ID,
    Misfit,
    is_plain,
    json_columns,
    other_than_text,
    respelled,
    row_reader,
    select_rows,
)
from sparkify_assets.warehouse.landing import quote

TINY_BYTES = 16 * 1024  # about where DuckDB's cost of opening a file and Python's of parsing meet
HEAD_BYTES = 1_024
MOST_REJECTIONS = 100_000  # of one object that are told one by one
OBJECT = "the object"
MAX_NESTING = 400  # brackets in a record; Python can read about twice as many


class Rejection(NamedTuple):
    """A record that cannot become a row; `column` is None where it cannot be read at all.

    `size` is that of the whole text, in bytes. `is_record` tells a record from a text that could
    not be parted into records, and may hold many.
    """

    object_id: int
    line: int
    column: str | None
    reason: str
    raw: str
    size: int
    is_record: bool


@dataclass
class ObjectCount:
    """What became of one object's records; `records` is counted apart from loaded and rejected."""

    records: int = 0
    loaded: int = 0
    rejected: int = 0
    with_repeated_keys: int = 0


@dataclass
class Reading:
    """What one call of `read_objects` found, by object id."""

    counts: dict[int, ObjectCount]
    rejections: list[Rejection] = field(default_factory=list)


def read_objects(
    connection: duckdb.DuckDBPyConnection, table: Table, objects: dict[int, LocalFile]
) -> Reading:
    """Inserts the records of `objects` (by object id) into `table` on `connection`.

    Raises:
        SparkifyError: an object that cannot be read, or changed while it was being read.
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
    lines: dict[int, int] = {}
    for object_id, item in objects.items():
        with open_object(item) as stream:
            count = None if something_else(_head(stream), BINARY) else count_lines(stream, LOOSE)
        if count is not None:
            lines[object_id] = count
            (folder / f"{object_id}.json").symlink_to(item.path)  # no character to glob in its name
    loaded: dict[int, int] = {}
    try:
        if lines:
            files = f"{glob.escape(str(folder))}/*.json"
            loaded = _insert(
                connection,
                table,
                objects,
                'SELECT * REPLACE (parse_filename("the file", true) AS "the object") '
                "FROM read_json(?, columns = ?, format = 'newline_delimited', "
                "ignore_errors = true, filename = 'the file')",
                f"WHERE {is_plain(table)}",
                files,
            )
            loose = _loose_objects(connection, table, files)
            for object_id, keys in _respelled_objects(connection, table, lines):
                with open_object(objects[object_id]) as stream:
                    if count_lines(stream, other_than_text(keys)) is None:
                        loose.append(object_id)
            loaded |= dict.fromkeys(loose, -1)
    finally:  # an object that went away is what is wrong, whatever DuckDB says of it
        for item in objects.values():
            verify_unchanged(item)
    damaged = {i: o for i, o in objects.items() if i not in lines or lines[i] != loaded.get(i, 0)}
    if damaged:
        connection.execute(
            f"DELETE FROM {quote(table.name)} WHERE {OBJECT_ID} IN (SELECT unnest(?))",
            [list(damaged)],
        )
    for object_id in objects.keys() - damaged.keys():
        count = lines[object_id]
        reading.counts[object_id] = ObjectCount(records=count, loaded=count)
    return damaged


def _loose_objects(connection: duckdb.DuckDBPyConnection, table: Table, files: str) -> list[int]:
    """Objects that hold a record with a key twice, too long, or nested too deeply for Python."""
    keys, text = "json_keys(json)", "CAST(json AS VARCHAR)"
    usual = ", ".join("'" + c.key.replace("'", "''") + "'" for c in json_columns(table))
    found = connection.execute(
        "SELECT DISTINCT CAST(parse_filename(filename, true) AS INTEGER) "
        "FROM read_ndjson_objects(?, ignore_errors = true, filename = true) "
        f"WHERE CASE WHEN {keys} = [{usual}] THEN false "  # the quicker question
        f"ELSE list_unique({keys}) < len({keys}) END OR strlen({text}) > {MAX_RECORD_BYTES} "
        f"OR (strlen({text}) > {2 * MAX_NESTING} "
        f"AND strlen({text}) - strlen(translate({text}, '[{{', '')) > {MAX_NESTING})",
        [files],
    )
    return [object_id for (object_id,) in found.fetchall()]


def _respelled_objects(
    connection: duckdb.DuckDBPyConnection, table: Table, objects: Iterable[int]
) -> Iterator[tuple[int, list[str]]]:
    """Objects that may hold something else where a text is expected, and under which keys."""
    tests = respelled(table)
    found = connection.execute(
        f"SELECT {', '.join([OBJECT_ID, *(f'bool_or({test})' for test in tests.values())])} "
        f"FROM {quote(table.name)} WHERE {OBJECT_ID} IN (SELECT unnest(?)) GROUP BY {OBJECT_ID}",
        [list(objects)],
    )
    for object_id, *is_odd in found.fetchall():
        if keys := list(compress(tests, is_odd)):
            yield object_id, keys


def _read_carefully(
    connection: duckdb.DuckDBPyConnection,
    table: Table,
    objects: dict[int, LocalFile],
    folder: Path,
    reading: Reading,
) -> None:
    """Loads objects record by record, by way of a file of the rows that they hold."""
    if not objects:
        return
    row_of = row_reader(table)
    with (folder / "rows.ndjson").open("w", encoding="utf-8") as out:
        for object_id, item in objects.items():
            with open_object(item) as stream:
                rows = _rows_of(stream, object_id, item, row_of, reading)
                out.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            verify_unchanged(item)
    loaded = _insert(
        connection,
        table,
        objects,
        "SELECT * FROM read_json(?, columns = ?, format = 'newline_delimited', "
        f"maximum_object_size = {8 * MAX_RECORD_BYTES})",  # a character may take six when escaped
        "",
        glob.escape(out.name),
    )
    for object_id, count in loaded.items():
        reading.counts[object_id].loaded = count


def _rows_of(
    stream: io.FileIO,
    object_id: int,
    item: LocalFile,
    row_of: Callable[[Members], dict[str, str]],
    reading: Reading,
) -> Iterator[dict[str, Any]]:
    """The rows of an object, each with the object's id; what is none becomes a rejection."""
    count = reading.counts[object_id]
    rejections: list[Rejection] = []

    def reject(found: Found, column: str | None, reason: str) -> None:
        is_record, size = found.members is not None, found.size
        if len(rejections) == MOST_REJECTIONS:  # from here on one, whose size tells how much it is
            *_, size_before, _ = rejections.pop()
            is_record, size = False, size_before + size
            count.records -= 1
        data = found.text[:MAX_RAW_BYTES].encode("utf-8", "surrogateescape")
        raw = data.decode("utf-8", "backslashreplace").replace("\0", "\\x00").strip()
        raw = raw.encode()[:MAX_RAW_BYTES].decode(errors="ignore")
        rejections.append(Rejection(object_id, found.line, column, reason, raw, size, is_record))

    head, has_record, has_row = _head(stream), False, False
    kind = something_else(head, BINARY)
    for found in () if kind else find_records(stream):
        count.records += 1
        has_record |= found.members is not None
        if found.members is None or found.problem:
            reject(found, None, found.problem)
            continue
        count.with_repeated_keys += len(dict(found.members)) < len(found.members)
        try:
            row = row_of(found.members)
        except Misfit as misfit:
            reject(found, misfit.column, str(misfit))
        else:
            has_row = True
            yield {**row, OBJECT: str(object_id)}
    kind = kind or something_else(head, TEXTS)
    is_other = kind or (not has_record and len(rejections) > 1)
    if is_other and not has_row:  # one finding, however many lines it has
        stream.seek(0)
        text = stream.read(MAX_RAW_BYTES).decode("utf-8", "surrogateescape")
        reason = f"it seems to be {kind}" if kind else f"it holds no record: {rejections[0].reason}"
        rejections.clear()
        reject(Found(1, text, item.size, None), None, f"not JSON: {reason}")
        count.records = 1
    count.rejected = len(rejections)
    reading.rejections += rejections


def _head(stream: io.FileIO) -> bytes:
    head = stream.read(HEAD_BYTES)
    stream.seek(0)
    return head


def _insert(
    connection: duckdb.DuckDBPyConnection,
    table: Table,
    objects: Iterable[int],
    source: str,
    condition: str,
    files: str,
) -> dict[int, int]:
    """Inserts rows from a source of their values as text; returns how many by object."""
    keys = {**{column.key: "VARCHAR" for column in json_columns(table)}, OBJECT: "VARCHAR"}
    connection.execute(
        f"INSERT INTO {quote(table.name)} {select_rows(table)} FROM ({source}) {condition}",
        [files, keys],
    )
    found = connection.execute(
        f"SELECT {OBJECT_ID}, COUNT(*) FROM {quote(table.name)} "
        f"WHERE {OBJECT_ID} IN (SELECT unnest(?::INTEGER[])) GROUP BY {OBJECT_ID}",
        [list(objects)],
    )
    return dict(found.fetchall())
