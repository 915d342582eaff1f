"""Reads JSON files into a table of the landing: every record becomes a row or a rejection.

A file, unpacked by `containers.py`, is cut into parts between records. DuckDB parses a part in one
pass, one record per line; its rows are kept if all records that seem to begin there are sound.
Otherwise, and for tiny objects, Python reads record by record. `records.py` defines a record,
`values.py` the meaning of its values.
"""

import codecs
import glob
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice, takewhile

import duckdb

from sparkify_assets.containers import Damaged, Member, members_of
from sparkify_assets.dialect import quote
from sparkify_assets.findings import Keys, ReadObject
from sparkify_assets.records import MAX_RECORD_BYTES, Found, find_records
from sparkify_assets.scratch import scratch_folder
from sparkify_assets.sources.base import LocalFile, opened
from sparkify_assets.tables import Table
from sparkify_assets.values import DOUBTFUL, Misfit, row_reader, select_rows, structure
from sparkify_assets.warehouse.landing import insert_rows

MEMORY = "400MB"  # DuckDB would cache written data up to its limit
MOST_THREADS = 4  # each has its own buffers
TINY_BYTES = 16 * 1024  # up to here Python parses faster than DuckDB opens a file
PART_BYTES = 64 * 1024 * 1024  # of an object, or of small objects, parsed in one pass
WAITING_OBJECTS = 10_000  # small objects parsed in one pass
BLOCK_BYTES = 8 * 1024 * 1024  # of a part, decoded at once
ROWS = 2_000  # inserted at once
ROWS_BYTES = 16 * 1024 * 1024
AROUND = b" \t\r\n\v\f,[]"  # allowed around a record
BETWEEN = re.compile(rb"\}[ \t\r\n\v\f,\[\]]*\{")
Parts = list[tuple[ReadObject, bytes]]
STAGED = '"rows of a pass"'
RECORDS = (  # of files named by the id of their object
    "(SELECT CAST(parse_filename(filename, true) AS INTEGER) AS object_id, json "
    "FROM read_ndjson_objects(?, ignore_errors = true, filename = true, "
    f"maximum_object_size = {2 * MAX_RECORD_BYTES + 1}) WHERE json IS NOT NULL)"
)


@dataclass
class Reader:
    """Inserts the records of files into a staging table that exists on a DuckDB connection."""

    connection: duckdb.DuckDBPyConnection
    table: Table
    ids: Iterator[int]  # for the objects, in order
    keys: Keys  # of all records

    def __post_init__(self) -> None:
        """Limits DuckDB's memory and threads."""
        self._execute, self._row_of = self.connection.execute, row_reader(self.table)
        self._rows: list[list[object]] = []  # not yet inserted
        self._rows_bytes = 0  # of the records that they come from
        self._execute(f"SET memory_limit = '{MEMORY}'")
        self._execute(f"SET threads = {min(os.cpu_count() or 1, MOST_THREADS)}")

    def read(self, files: Iterable[LocalFile]) -> Iterator[list[ReadObject]]:
        """Reads files and yields their objects in batches.

        Raises:
            SparkifyError: a file cannot be read, or changed while it was being read.
        """
        waiting: Parts = []  # objects with their unread bytes
        size = 0
        for file in files:
            with opened(file) as stream:
                for member in members_of(file, stream):
                    one = ReadObject(next(self.ids), file, member.name, member.size)
                    parts = _cut(_blocks(member, one))
                    first = list(islice(parts, 2))
                    if len(first) == 2:
                        self._read_parts(one, chain(first, parts))
                    waiting.append((one, first[0] if len(first) == 1 else b""))
                    size += one.unpacked
                    if size > PART_BYTES or len(waiting) == WAITING_OBJECTS:
                        yield self._finish(waiting)
                        waiting, size = [], 0
        yield self._finish(waiting)

    def _finish(self, waiting: Parts) -> list[ReadObject]:
        """Reads the waiting parts and inserts the waiting rows."""
        tiny = [(one, part) for one, part in waiting if len(part) <= TINY_BYTES]
        large = [(one, part) for one, part in waiting if len(part) > TINY_BYTES]
        for one, part in chain(tiny, self._read_fast(large)):
            self._read_carefully(one, [part])
        self._insert_rows()
        for one, _ in waiting:
            one.conclude()
        return [one for one, _ in waiting]

    def _read_parts(self, one: ReadObject, parts: Iterator[bytes]) -> None:
        """Reads an object part by part."""
        for part in parts:
            if self._read_fast([(one, part)]):
                unsound = takewhile(lambda p: bool(self._read_fast([(one, p)])), parts)
                self._read_carefully(one, chain([part], unsound))

    def _read_fast(self, parts: Parts) -> Parts:
        """Inserts parts with only sound records; returns the others."""
        for form in (_as_lines, _one_a_line):
            found = {one.object_id: (one, *lines) for one, part in parts if (lines := form(part))}
            sound = self._insert_sound(found) if found else set()
            for one, part in parts:
                one.line += part.count(b"\n") if one.object_id in sound else 0
            parts = [(one, part) for one, part in parts if one.object_id not in sound]
        return parts

    def _insert_sound(self, objects: dict[int, tuple[ReadObject, bytes, int]]) -> set[int]:
        """Inserts the objects whose records are all sound; returns their ids."""
        with scratch_folder() as folder:
            for i, (_, lines, _) in objects.items():
                (folder / f"{i}.json").write_bytes(lines)
            files = f"{glob.escape(str(folder))}/*.json"
            key_sets = self._execute(
                f"SELECT object_id, ANY_VALUE(json), COUNT(*) FROM {RECORDS} "
                "GROUP BY object_id, CAST(json_keys(json) AS VARCHAR)",
                [files],
            ).fetchall()
            self._execute(
                f"CREATE OR REPLACE TEMP TABLE {STAGED} AS SELECT {select_rows(self.table)} "
                f"FROM (SELECT *, json_transform(json, ?) AS v FROM {RECORDS})",
                [structure(self.table), files],
            )
        found = self._execute(f"SELECT object_id, COUNT(*) FROM {STAGED} GROUP BY object_id")
        rows: dict[int, list[list[object]]]
        rows = {i: [] for i, records in found.fetchall() if records == objects[i][2]}
        doubtful = f"SELECT object_id, {DOUBTFUL} FROM {STAGED} WHERE {DOUBTFUL} IS NOT NULL"
        for i, text in self._execute(doubtful).fetchall():
            try:
                if i in rows:
                    rows[i].append(self._row_of(_record(text), i))
            except Misfit:
                del rows[i]
        for row in chain.from_iterable(rows.values()):
            self._add(row, 0)
        for i, text, records in key_sets:
            if i in rows:
                one = objects[i][0]
                one.records += records
                one.loaded += records
                one.with_repeated_keys += self.keys.add(_record(text).members, records)
        self._execute(
            f"INSERT INTO {quote(self.table.name)} BY NAME SELECT * EXCLUDE ({DOUBTFUL}) FROM "
            f"{STAGED} WHERE {DOUBTFUL} IS NULL AND object_id IN (SELECT unnest(?::INTEGER[]))",
            [list(rows)],
        )
        self._execute(f"DROP TABLE {STAGED}")
        return set(rows)

    def _read_carefully(self, one: ReadObject, parts: Iterable[bytes]) -> None:
        """Reads consecutive parts of an object record by record."""

        def blocks() -> Iterator[bytes]:
            for part in parts:
                one.line += part.count(b"\n")
                yield from (part[i : i + BLOCK_BYTES] for i in range(0, len(part), BLOCK_BYTES))

        for found in find_records(blocks(), one.line):
            one.records += 1
            try:
                self._add(self._row_of(found, one.object_id), found.size)
                one.loaded += 1
            except Misfit as misfit:
                one.reject(found._replace(reason=str(misfit), column=misfit.column))
            if not found.reason:
                one.with_repeated_keys += self.keys.add(found.members)

    def _add(self, row: list[object], size: int) -> None:
        """Buffers a row; inserts the buffer when it is full."""
        self._rows.append(row)
        self._rows_bytes += size
        if len(self._rows) == ROWS or self._rows_bytes > ROWS_BYTES:
            self._insert_rows()

    def _insert_rows(self) -> None:
        insert_rows(self.connection, self.table, self._rows)
        self._rows, self._rows_bytes = [], 0


def _blocks(member: Member, one: ReadObject) -> Iterator[bytes]:
    """An object's bytes, counted, up to any damage; none if it is binary."""
    try:
        for block in member.blocks:
            if one.add(block):
                yield block
    except Damaged as damage:
        one.damage = damage


def _cut(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Cuts an object into parts before the last record that seems to begin, or anywhere."""
    data = bytearray()
    for block in blocks:
        data += block
        if len(data) >= PART_BYTES:
            tail = max(0, len(data) - 2 * MAX_RECORD_BYTES)
            *_, end = None, *(found.end() - 1 for found in BETWEEN.finditer(data, tail))
            part = bytes(memoryview(data)[:end])
            yield part
            data = data[len(part) :]
    if data:
        yield bytes(data)


def _as_lines(part: bytes) -> tuple[bytes, int] | None:
    """The part and its number of records, if it seems to have one record per line."""
    records = part.count(b"\n") + (not part.endswith(b"\n"))
    is_plain = part.startswith(b"{") and part.count(b"\n{") + 1 == records
    return (part, records) if is_plain and _is_readable(part) else None


def _one_a_line(part: bytes) -> tuple[bytes, int] | None:
    """The part rewritten to one record per line, and their number; None if it is so already."""
    # a tab is whitespace like a newline, and just as invalid inside a string
    data = part.removeprefix(codecs.BOM_UTF8).strip(AROUND).replace(b"\n", b"\t")
    data, found = BETWEEN.subn(b"}\n{", data)
    return (data, found + 1) if data != part.strip(AROUND) and _is_readable(data) else None


def _is_readable(lines: bytes) -> bool:
    """Whether every line fits into DuckDB's limit, twice a record."""
    step = MAX_RECORD_BYTES
    return all(lines.find(b"\n", at, at + step) >= 0 for at in range(0, len(lines) - step, step))


def _record(text: str) -> Found:
    return next(find_records(iter([text.encode()])))
