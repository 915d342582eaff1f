"""Inserts lines of JSON into a DuckDB table: one pass of its parser over files in a folder.

A pass makes rows in a table of its own first. They are kept where nothing is lost: as many rows as
lines, and no value or key of which DuckDB tells less than is in the text.
"""

import glob
import os
from collections.abc import Iterable
from itertools import compress
from pathlib import Path

import duckdb

from sparkify_assets.catalog import Table
from sparkify_assets.dialect import quote
from sparkify_assets.keys import Keys
from sparkify_assets.parts import Lines
from sparkify_assets.records import DECODER, MAX_RECORD_BYTES, Members
from sparkify_assets.values import (
    OBJECT,
    OBJECT_ID,
    is_plain,
    json_columns,
    other_than_text,
    respelled,
    select_rows,
)
from sparkify_assets.warehouse.landing import bare_columns

MEMORY = "400MB"  # of DuckDB, which would keep all that it writes as long as there is any
MOST_THREADS = 4  # each of them has buffers of its own
LINE_BYTES = 2 * MAX_RECORD_BYTES + 1  # `one_a_line` gives no longer ones
MOST_KEY_SETS = 20_000  # of a pass
STAGED = '"rows of a pass"'
MAX_NESTING = 400  # brackets in a record; Python can read about twice as many


class Passes:
    """Inserts into a table on a connection, from a folder that is empty between two passes."""

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, table: Table, folder: Path, keys: Keys
    ) -> None:
        self._connection, self._table, self._folder, self._keys = connection, table, folder, keys
        connection.execute(f"SET memory_limit = '{MEMORY}'")
        connection.execute(f"SET threads = {min(os.cpu_count() or 1, MOST_THREADS)}")

    def insert_sound(self, expected: dict[int, Lines]) -> set[int]:
        """Inserts the lines of objects that are all sound records; returns these objects."""
        for object_id, lines in expected.items():
            (self._folder / f"{object_id}.json").write_bytes(lines.data)
        files = f"{glob.escape(str(self._folder))}/*.json"
        self._stage(
            f'SELECT * REPLACE (parse_filename("the file", true) AS {quote(OBJECT)}) '
            "FROM read_json(?, columns = ?, format = 'newline_delimited', "
            f"ignore_errors = true, maximum_object_size = {LINE_BYTES}, filename = 'the file')",
            f"WHERE {is_plain(self._table)}",
            files,
        )
        key_sets = self._key_sets(files)
        for object_id in expected:
            (self._folder / f"{object_id}.json").unlink()
        sound = self._kept_exactly(expected) - {i for i, members, _ in key_sets if not members}
        if len(key_sets) > MOST_KEY_SETS:
            sound = set()
        self._keep(sound)
        for object_id, members, records in key_sets:
            if object_id in sound:
                self._keys.add(members, records)
        return sound

    def _kept_exactly(self, expected: dict[int, Lines]) -> set[int]:
        """Objects of which each line became a row, and no text was another JSON value."""
        tests = respelled(self._table)
        columns = [OBJECT_ID, "COUNT(*)", *(f"bool_or({test})" for test in tests.values())]
        found = self._connection.execute(
            f"SELECT {', '.join(columns)} FROM {STAGED} GROUP BY {OBJECT_ID}"
        )
        exact = set()
        for object_id, rows, *is_odd in found.fetchall():
            lines, odd = expected[object_id], list(compress(tests, is_odd))
            is_exact = not odd or not other_than_text(odd).search(lines.data)
            if rows == lines.records and is_exact:
                exact.add(object_id)
        return exact

    def _key_sets(self, files: str) -> list[tuple[int, Members, int]]:
        """A record for each set of keys in an object, and how many there are.

        It is empty where one has a key twice, or is too long or nested too deeply for Python.
        """
        text = "CAST(json AS VARCHAR)"
        found = self._connection.execute(
            f"SELECT CAST(parse_filename(filename, true) AS INTEGER), ANY_VALUE({text}), "
            f"COUNT(*), BOOL_OR(CASE WHEN strlen({text}) <= {2 * MAX_NESTING} THEN false "
            f"ELSE strlen({text}) > {MAX_RECORD_BYTES} "
            f"OR strlen({text}) - strlen(translate({text}, '[{{', '')) > {MAX_NESTING} END) "
            "FROM read_ndjson_objects(?, ignore_errors = true, filename = true, "
            f"maximum_object_size = {LINE_BYTES}) "
            "WHERE json IS NOT NULL GROUP BY filename, CAST(json_keys(json) AS VARCHAR) "
            f"LIMIT {MOST_KEY_SETS + 1}",
            [files],
        )
        return [
            (object_id, Members() if is_loose else _members(example), records)
            for object_id, example, records, is_loose in found.fetchall()
        ]

    def insert_rows(self, file: str) -> dict[int, int]:
        """Inserts rows that `row_reader` made, with their object; returns how many by object."""
        self._stage(
            "SELECT * FROM read_json(?, columns = ?, format = 'newline_delimited', "
            f"maximum_object_size = {8 * MAX_RECORD_BYTES})",  # a character may be escaped as six
            "",
            glob.escape(file),
        )
        counts = f"SELECT {OBJECT_ID}, COUNT(*) FROM {STAGED} GROUP BY {OBJECT_ID}"
        inserted = dict(self._connection.execute(counts).fetchall())
        self._keep(inserted)
        return inserted

    def _stage(self, source: str, condition: str, files: str) -> None:
        """Makes rows from a source of their values as text."""
        keys = dict.fromkeys([*(c.key for c in json_columns(self._table)), OBJECT], "VARCHAR")
        columns = bare_columns(self._table)
        self._connection.execute(f"CREATE OR REPLACE TEMP TABLE {STAGED} ({columns})")
        self._connection.execute(
            f"INSERT INTO {STAGED} {select_rows(self._table)} FROM ({source}) {condition}",
            [files, keys],
        )

    def _keep(self, objects: Iterable[int]) -> None:
        """Inserts the rows that were made from some objects."""
        self._connection.execute(
            f"INSERT INTO {quote(self._table.name)} SELECT * FROM {STAGED} "
            f"WHERE {OBJECT_ID} IN (SELECT unnest(?::INTEGER[]))",
            [list(objects)],
        )
        self._connection.execute(f"DROP TABLE {STAGED}")


def _members(text: str) -> Members:
    try:
        members = DECODER.decode(text)  # which may be no object
    except (ValueError, RecursionError):
        return Members()
    is_loose = not isinstance(members, Members) or len(dict(members)) < len(members)
    return Members() if is_loose else members
