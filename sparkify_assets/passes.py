"""Inserts lines of JSON into a DuckDB table: one pass of its parser over files in a folder.

A pass makes rows in a table of its own first. They are kept where nothing is lost: as many rows as
lines, and no value or key of which DuckDB tells less than is in the text.
"""

import glob
import os
from collections.abc import Iterator
from itertools import compress
from pathlib import Path

import duckdb

from sparkify_assets.catalog import Table
from sparkify_assets.keys import Keys
from sparkify_assets.parts import Lines
from sparkify_assets.records import DECODER, MAX_RECORD_BYTES, Members
from sparkify_assets.values import (
    OBJECT_ID,
    is_plain,
    json_columns,
    other_than_text,
    respelled,
    select_rows,
)
from sparkify_assets.warehouse.landing import bare_columns, quote

MEMORY = "400MB"  # of DuckDB, which would keep all that it writes as long as there is any
MOST_THREADS = 4  # each of them has buffers of its own
LINE_BYTES = 2 * MAX_RECORD_BYTES + 1  # `one_a_line` gives no longer ones
MOST_KEY_SETS = 20_000  # of a pass
OBJECT = "the object"  # what its id is called among the keys of the JSON
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

    def close(self) -> None:
        """Gives DuckDB back what it may use of the machine."""
        self._connection.execute("RESET memory_limit")
        self._connection.execute("RESET threads")

    def insert_sound(self, expected: dict[int, Lines]) -> dict[int, int]:
        """Inserts the lines of objects that are all sound records; returns how many by object."""
        for object_id, lines in expected.items():
            (self._folder / f"{object_id}.json").write_bytes(lines.data)
        files = f"{glob.escape(str(self._folder))}/*.json"
        staged = self._stage(
            'SELECT * REPLACE (parse_filename("the file", true) AS "the object") '
            "FROM read_json(?, columns = ?, format = 'newline_delimited', "
            f"ignore_errors = true, maximum_object_size = {LINE_BYTES}, filename = 'the file')",
            f"WHERE {is_plain(self._table)}",
            files,
        )
        unsound = {i for i, lines in expected.items() if staged.get(i) != lines.records}
        for object_id, keys in self._respelled():
            if other_than_text(keys).search(expected[object_id].data):
                unsound.add(object_id)
        key_sets = self._key_sets(files, unsound, list(expected))
        for object_id in expected:
            (self._folder / f"{object_id}.json").unlink()
        self._keep(unsound)
        for object_id, example, records in key_sets:
            if object_id not in unsound:
                self._keys.add(example, records)
        return {i: count for i, count in staged.items() if i not in unsound}

    def _key_sets(
        self, files: str, unsound: set[int], objects: list[int]
    ) -> list[tuple[int, Members, int]]:
        """A record for each set of keys in an object, and how many there are.

        Where one has a key twice, or is too long or nested too deeply for Python, its object is
        added to those that are unsound.
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
        ).fetchall()
        if len(found) > MOST_KEY_SETS:
            unsound.update(objects)
            return []
        key_sets = []
        for object_id, example, records, is_loose in found:
            try:
                members = None if is_loose else DECODER.decode(example)
            except (ValueError, RecursionError):
                members = None
            if not isinstance(members, Members) or len(dict(members)) < len(members):
                unsound.add(object_id)
            else:
                key_sets.append((object_id, members, records))
        return key_sets

    def _respelled(self) -> Iterator[tuple[int, list[str]]]:
        """Objects that may hold something else where a text is expected, and under which keys."""
        tests = respelled(self._table)
        found = self._connection.execute(
            f"SELECT {', '.join([OBJECT_ID, *(f'bool_or({test})' for test in tests.values())])} "
            f"FROM {STAGED} GROUP BY {OBJECT_ID}"
        )
        for object_id, *is_odd in found.fetchall():
            if keys := list(compress(tests, is_odd)):
                yield object_id, keys

    def insert_rows(self, file: str) -> dict[int, int]:
        """Inserts rows that `row_reader` made, with their object; returns how many by object."""
        staged = self._stage(
            "SELECT * FROM read_json(?, columns = ?, format = 'newline_delimited', "
            f"maximum_object_size = {8 * MAX_RECORD_BYTES})",  # a character may be escaped as six
            "",
            glob.escape(file),
        )
        self._keep(set())
        return staged

    def _stage(self, source: str, condition: str, files: str) -> dict[int, int]:
        """Makes rows from a source of their values as text; returns how many by object."""
        keys = {**{column.key: "VARCHAR" for column in json_columns(self._table)}}
        keys[OBJECT] = "VARCHAR"
        columns = bare_columns(self._table)
        self._connection.execute(f"CREATE OR REPLACE TEMP TABLE {STAGED} ({columns})")
        self._connection.execute(
            f"INSERT INTO {STAGED} {select_rows(self._table)} FROM ({source}) {condition}",
            [files, keys],
        )
        counted = f"SELECT {OBJECT_ID}, COUNT(*) FROM {STAGED} GROUP BY {OBJECT_ID}"
        return dict(self._connection.execute(counted).fetchall())

    def _keep(self, unsound: set[int]) -> None:
        """Inserts the rows that were made, but for those of some objects."""
        self._connection.execute(
            f"INSERT INTO {quote(self._table.name)} SELECT * FROM {STAGED} "
            f"WHERE {OBJECT_ID} NOT IN (SELECT unnest(?::INTEGER[]))",
            [list(unsound)],
        )
        self._connection.execute(f"DROP TABLE {STAGED}")
