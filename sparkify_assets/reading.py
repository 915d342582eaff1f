"""Reads the records of JSON files into a DuckDB table: every record becomes a row or a rejection.

A file is a stream that is cut into parts between records. DuckDB parses a part in one pass, and
where it finds as many sound records as Python counted beginnings of records, the part is done.
Any other part is read the careful way, record by record, with the parts that follow it until one is
sound again. Tiny objects always are: opening a file costs DuckDB more than they cost Python.

Files are unpacked in `containers.py`, cut in `parts.py` and inserted in `passes.py`; what a record
is is said in `records.py`, and what its values mean in `values.py`.
"""

import json
from collections.abc import Iterable, Iterator
from itertools import chain, islice, takewhile

import duckdb

from sparkify_assets.catalog import Table
from sparkify_assets.containers import Damaged, Member, members_of
from sparkify_assets.findings import ReadObject
from sparkify_assets.keys import Keys
from sparkify_assets.parts import Part, cut, one_a_line
from sparkify_assets.passes import Passes
from sparkify_assets.records import BINARY, MAX_RAW_BYTES, find_records, something_else
from sparkify_assets.scratch import scratch_folder
from sparkify_assets.sources.base import LocalFile, open_object, verify_unchanged
from sparkify_assets.values import OBJECT, Misfit, row_reader

TINY_BYTES = 16 * 1024  # about where DuckDB's cost of opening a file and Python's of parsing meet
WAITING_BYTES = 64 * 1024 * 1024  # of small objects that are read in one pass
WAITING_OBJECTS = 10_000
PIECE_BYTES = 8 * 1024 * 1024  # of a part that becomes text at once
ROWS_BYTES = 64 * 1024 * 1024  # of rows that are inserted at once


class Reader:
    """Inserts the records of files into a table on a connection.

    Args:
        connection: to DuckDB.
        table: the staging table, which exists there.
        ids: the numbers that objects get, in the order in which they are found.
        keys: what is told of the keys of all records.
    """

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        table: Table,
        ids: Iterator[int],
        keys: Keys,
    ) -> None:
        self._connection, self._table, self._ids, self._keys = connection, table, ids, keys
        self._row_of = row_reader(table)
        self._careful: dict[int, ReadObject] = {}  # whose rows wait

    def read(self, files: Iterable[LocalFile]) -> Iterator[list[ReadObject]]:
        """Reads files, and says of some objects at a time what became of them.

        Raises:
            SparkifyError: a file that cannot be read, or changed while it was being read.
        """
        with scratch_folder() as folder, (folder / "rows.ndjson").open("w+b") as self._rows:
            self._passes = Passes(self._connection, self._table, folder, self._keys)
            yield from self._read(files)

    def _read(self, files: Iterable[LocalFile]) -> Iterator[list[ReadObject]]:
        done: list[ReadObject] = []
        waiting: list[tuple[ReadObject, Part]] = []
        size = 0
        for file in files:
            with open_object(file) as stream:
                for member in members_of(file, stream):
                    one = ReadObject(next(self._ids), file, member.name, member.size)
                    parts = cut(_blocks(member, one))
                    first = list(islice(parts, 2))
                    done.append(one)
                    if len(first) == 2:
                        self._read_parts(one, chain(first, parts))
                    elif first:
                        waiting.append((one, first[0]))
                    size += one.unpacked
                    if size > WAITING_BYTES or len(done) == WAITING_OBJECTS:
                        yield self._finish(done, waiting)
                        done, waiting, size = [], [], 0
            verify_unchanged(file)
        yield self._finish(done, waiting)

    def _finish(
        self, done: list[ReadObject], waiting: list[tuple[ReadObject, Part]]
    ) -> list[ReadObject]:
        """Reads what waits, and inserts the rows that do."""
        large = [(one, part) for one, part in waiting if len(part.data) > TINY_BYTES]
        unsound = self._read_fast(large)
        for one, part in waiting:
            if len(part.data) <= TINY_BYTES or one.object_id in unsound:
                self._read_carefully(one, iter([part]))
        self._insert_rows()
        self._careful.clear()
        for one in done:
            one.conclude()
        return done

    def _read_parts(self, one: ReadObject, parts: Iterator[Part]) -> None:
        """Reads an object part by part."""
        for part in parts:
            if self._read_fast([(one, part)]):
                unsound = takewhile(lambda p: bool(self._read_fast([(one, p)])), parts)
                self._read_carefully(one, chain([part], unsound))

    def _read_fast(self, parts: list[tuple[ReadObject, Part]]) -> set[int]:
        """Inserts the parts that hold sound records alone; returns the objects of the others."""
        objects = {one.object_id: one for one, _ in parts}
        ways = {one.object_id: one_a_line(part) for one, part in parts}
        while lines := {i: found for i, way in ways.items() if (found := next(way, None))}:
            for object_id in self._passes.insert_sound(lines):
                one = objects.pop(object_id)
                one.records += lines[object_id].records
                one.loaded += lines[object_id].records
                one.has_record = True
                del ways[object_id]
        return set(objects)

    def _read_carefully(self, one: ReadObject, parts: Iterator[Part]) -> None:
        """Reads what follows one another record by record; its rows wait in a file."""
        first = next(parts)
        if first.line == 1 and not one.has_record:
            one.head = first.data[:MAX_RAW_BYTES]
            if something_else(one.head, BINARY):
                for _ in parts:
                    pass
                return
        self._careful[one.object_id] = one
        for found in find_records(_pieces(chain([first], parts)), first.line):
            one.records += 1
            if found.members is None or found.problem:
                one.has_record |= found.members is not None
                one.reject(found, None, found.problem)
                continue
            one.has_record = True
            self._keys.add(found.members)
            one.with_repeated_keys += len(dict(found.members)) < len(found.members)
            try:
                row = self._row_of(found.members)
            except Misfit as misfit:
                one.reject(found, misfit.column, str(misfit))
            else:
                row[OBJECT] = str(one.object_id)
                self._rows.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
                if self._rows.tell() > ROWS_BYTES:
                    self._insert_rows()

    def _insert_rows(self) -> None:
        """Inserts the rows that wait."""
        if not self._rows.tell():
            return
        self._rows.flush()
        for object_id, count in self._passes.insert_rows(self._rows.name).items():
            self._careful[object_id].loaded += count
        self._rows.seek(0)
        self._rows.truncate()


def _blocks(member: Member, one: ReadObject) -> Iterator[bytes]:
    """The bytes of an object as far as they can be unpacked, counted."""
    try:
        for block in member.blocks:
            one.unpacked += len(block)
            one.lines += block.count(b"\n")
            yield block
    except Damaged as damage:
        one.damage = damage


def _pieces(parts: Iterable[Part]) -> Iterator[bytes]:
    """Blocks of a size whose text does not take much memory."""
    for part in parts:
        for at in range(0, len(part.data), PIECE_BYTES):
            yield part.data[at : at + PIECE_BYTES]
