"""Every record of every object becomes one row or one rejection, whatever stands around it.

Expected values are written out or computed with plain `json`, never with the code under test. What
an object holds is read in both ways, the fast and the careful one, which must find the same.
"""

import json
import lzma
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from sparkify_assets import findings, reading
from sparkify_assets.catalog import Catalog
from sparkify_assets.findings import Keys, ReadObject
from sparkify_assets.sources.folder import FolderSource
from sparkify_assets.tables import Table

FAST, CAREFUL = -1, 1 << 60  # settings of TINY_BYTES that send every object that way
LIMIT = 4 * 1024 * 1024  # bytes of the longest record
SQL = """
CREATE TABLE things (
    id INTEGER NOT NULL, name VARCHAR(20), big BIGINT, small SMALLINT, score DOUBLE PRECISION,
    at TIMESTAMP, day DATE, ok BOOLEAN, nickName VARCHAR(8), note VARCHAR(MAX),
    object_id INTEGER NOT NULL
)
"""
Row = dict[str, Any]


class Found(NamedTuple):
    """What became of one object; rows hold the values that are not null, in order of id."""

    records: int
    rows: list[Row]
    rejected: list[tuple[int, str | None, str, str]]


def table_of(folder: Path, sql: str) -> Table:
    name = sql.split()[2]
    (folder / "staging").mkdir(parents=True)
    (folder / "staging" / f"{name}.sql").write_text(f"-- loaded from: files\n{sql};")
    return Catalog.load(folder).tables[name]


@pytest.fixture(scope="module")
def things(tmp_path_factory: pytest.TempPathFactory) -> Table:
    return table_of(tmp_path_factory.mktemp("sql"), SQL)


@pytest.fixture(scope="module")
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        yield connection


@pytest.fixture(params=[FAST, CAREFUL], ids=["fast", "careful"])
def way(request: pytest.FixtureRequest) -> int:
    way: int = request.param
    return way


def read(
    connection: duckdb.DuckDBPyConnection,
    table: Table,
    folder: Path,
    contents: list[bytes],
    way: int | None = None,
) -> list[ReadObject]:
    """Reads objects in one call into a new table; the balance holds for all."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, content in enumerate(contents):
        (folder / f"{number:05}.json").write_bytes(content)
    columns = ", ".join(f'"{c.name}" {c.type}' for c in table.columns)
    connection.execute(f'CREATE OR REPLACE TABLE "{table.name}" ({columns})')
    with pytest.MonkeyPatch.context() as patch:
        if way is not None:
            patch.setattr(reading, "TINY_BYTES", way)
        source = FolderSource("files", "FILES", folder)
        objects = source.objects()
        reader = reading.Reader(connection, table, count(7), Keys())
        with source.fetched(objects) as files:
            result = [one for done in reader.read(files) for one in done]
    assert [one.object_id for one in result] == [*range(7, 7 + len(objects))]
    assert [one.uri for one in result] == [item.uri for item in objects]
    for one in result:
        assert one.records == one.loaded + len(one.rejections)
    return result


def read_all(
    connection: duckdb.DuckDBPyConnection,
    table: Table,
    folder: Path,
    contents: list[bytes],
    way: int | None = None,
) -> list[Found]:
    """Reads objects in one call and finds what became of each."""
    result = read(connection, table, folder, contents, way)
    keys = {c.name: c.key for c in table.columns}
    cursor = connection.execute(f'SELECT * FROM "{table.name}" ORDER BY ALL')
    names = [keys[c[0]] for c in cursor.description or []]
    rows: dict[int, list[Row]] = {one.object_id: [] for one in result}
    for values in cursor.fetchall():
        row = {n: v for n, v in zip(names, values, strict=True) if v is not None}
        rows[row.pop("object_id")].append(row)
    found = []
    for one in result:
        rejected = [(r.line, r.column, r.reason, r.raw) for r in one.rejections]
        assert one.loaded == len(rows[one.object_id])
        rejected.sort(key=lambda r: (r[0], r[1] or "", r[2:]))
        found.append(Found(one.records, rows[one.object_id], rejected))
    return found


# --- One odd input each ----------------------------------------------------------------------

ONE = b'{"id": 1}'
TWO = b'{"id": 2}'
Rejected = tuple[int, str | None, str]  # line, column, part of the reason
CASES: dict[str, tuple[bytes, list[Row], list[Rejected]]] = {
    "empty file": (b"", [], []),
    "only blank lines": (b"\n\n \t\n\r\n\n", [], []),
    "sound": (ONE + b"\n" + TWO + b"\n", [{"id": 1}, {"id": 2}], []),
    "no final newline": (ONE + b"\n" + TWO, [{"id": 1}, {"id": 2}], []),
    "blank lines between": (
        b"\n" + ONE + b"\n\n  \n" + TWO + b"\nx",
        [{"id": 1}, {"id": 2}],
        [(6, None, "not a JSON object")],
    ),
    "CRLF": (
        ONE + b"\r\n\r\n" + TWO + b"\r\nx\r\n",
        [{"id": 1}, {"id": 2}],
        [(4, None, "not a JSON object")],
    ),
    "lone CR": (ONE + b"\r" + TWO + b"\r", [{"id": 1}, {"id": 2}], []),
    "CR as a blank": (b'{"id":\r1}\n', [{"id": 1}], []),
    "form feeds": (
        b"\v\n\v" + ONE + b"\f\n" + b'\v{"id": 2}\f',
        [{"id": 1}, {"id": 2}],
        [],
    ),
    "BOM": (b"\xef\xbb\xbf" + ONE + b"\n" + TWO, [{"id": 1}, {"id": 2}], []),
    "BOM of a joined file": (
        ONE + b"\n\xef\xbb\xbf" + TWO,
        [{"id": 1}, {"id": 2}],
        [],
    ),
    "malformed line": (
        ONE + b'\n{"id": }\n' + TWO,
        [{"id": 1}, {"id": 2}],
        [(2, None, "not valid JSON: Expecting value: character 8")],
    ),
    "malformed first line": (b"{'id': 2}\n" + ONE, [{"id": 1}], [(1, None, "not valid JSON")]),
    "truncated last line": (
        ONE + b'\n{"id": 2, "name": "cu',
        [{"id": 1}],
        [(2, None, "not valid JSON: Unterminated string")],
    ),
    "truncated line before a sound one": (
        b'{"id": 2, "name":\n' + ONE,
        [{"id": 1}],
        [(1, None, "not valid JSON")],
    ),
    "text outside of JSON": (
        b"id,name\n1,x\n" + ONE,
        [{"id": 1}],
        [(1, None, "not a JSON object"), (2, None, "not a JSON object")],
    ),
    # values that do not fit
    "fraction in INTEGER": (b'{"id": 4.7}', [], [(1, "id", "id is 4.7, not INTEGER")]),
    "text in INTEGER": (b'{"id": "abc"}', [], [(1, "id", "id is abc, not INTEGER")]),
    "true in INTEGER": (b'{"id": true}', [], [(1, "id", "id is true, not INTEGER")]),
    "too large for INTEGER": (b'{"id": 2147483648}', [], [(1, "id", "2147483648, not INTEGER")]),
    "object in INTEGER": (b'{"id": {"a": 1}}', [], [(1, "id", "not INTEGER")]),
    "too large for BIGINT": (
        b'{"id": 1, "big": 99999999999999999999}',
        [],
        [(1, "big", "big is 99999999999999999999, not BIGINT")],
    ),
    "true in BIGINT": (b'{"id": 1, "big": true}', [], [(1, "big", "true, not BIGINT")]),
    "larger than a DOUBLE is exact": (
        b'{"id": 1, "big": 9007199254740993.0}\n{"id": 2, "big": 9.007199254740993E15}',
        [{"id": 1, "big": 2**53 + 1}, {"id": 2, "big": 2**53 + 1}],
        [],
    ),
    "fraction that a DOUBLE cannot hold": (
        b'{"id": 1, "big": 8999999999999999.4}',
        [],
        [(1, "big", "big is 8999999999999999.4, not BIGINT")],
    ),
    "almost nothing": (
        b'{"id": 1e-400}\n{"id": 1, "score": 1e-400}\n{"id": 2, "score": 0.0}',
        [{"id": 2, "score": 0.0}],
        [
            (1, "id", "id is 1e-400, not INTEGER"),
            (2, "score", "score is 1e-400, not DOUBLE PRECISION"),
        ],
    ),
    "fraction of a millisecond": (
        b'{"id": 1, "at": 1541105830796.5}',
        [],
        [(1, "at", "at is 1541105830796.5, not epoch milliseconds")],
    ),
    "too large for SMALLINT": (b'{"id": 1, "small": 40000}', [], [(1, "small", "not SMALLINT")]),
    "text in DOUBLE": (
        b'{"id": 1, "score": "abc"}',
        [],
        [(1, "score", "score is abc, not DOUBLE PRECISION")],
    ),
    "NaN is null": (
        b'{"id": 1, "score": NaN, "name": NaN, "at": NaN, "x": NaN}\n{"id": 2, "name": "NaN"}',
        [{"id": 1}, {"id": 2, "name": "NaN"}],
        [],
    ),
    "NaN as text in DOUBLE": (b'{"id": 1, "score": "NaN"}', [], [(1, "score", "not DOUBLE")]),
    "no NaN of JavaScript": (b'{"id": 1, "name": nan}', [], [(1, None, "not valid JSON")]),
    "infinity": (
        b'{"id": 1, "score": -Infinity}\n{"id": 1, "name": Infinity}\n{"id": 2, "name": "-inf"}\n'
        b'{"id": 1, "x": [-Infinity]}',
        [{"id": 2, "name": "-inf"}],
        [
            (1, None, "-Infinity is no JSON value"),
            (2, None, "Infinity is no JSON value"),
            (4, None, "-Infinity is no JSON value"),
        ],
    ),
    "too large for DOUBLE": (b'{"id": 1, "score": 1e400}', [], [(1, "score", "not DOUBLE")]),
    "text in TIMESTAMP": (
        b'{"id": 1, "at": "2018-11-01"}',
        [],
        [(1, "at", "at is 2018-11-01, not epoch milliseconds")],
    ),
    "year 10000": (b'{"id": 1, "at": 253402300800000}', [], [(1, "at", "in the future")]),
    "no year at all": (b'{"id": 1, "at": 9223372036854775807}', [], [(1, "at", "in the future")]),
    "no such day": (b'{"id": 1, "day": "2018-02-30"}', [], [(1, "day", "not DATE")]),
    "time in DATE": (b'{"id": 1, "day": "2018-02-03 10:00"}', [], [(1, "day", "not DATE")]),
    "endless DATE": (b'{"id": 1, "day": "infinity"}', [], [(1, "day", "not DATE")]),
    "2 in BOOLEAN": (b'{"id": 1, "ok": 2}', [], [(1, "ok", "ok is 2, not BOOLEAN")]),
    "too long for VARCHAR": (
        b'{"id": 1, "name": "abcdefghijklmnopqrstu"}',
        [],
        [(1, "name", "name is 21 bytes long, more than VARCHAR(20)")],
    ),
    "too many bytes for VARCHAR": (
        '{"id": 1, "nickName": "äöüßé"}'.encode(),
        [],
        [(1, "nickname", "nickName is 10 bytes long, more than VARCHAR(8)")],
    ),
    "escaped NUL": (b'{"id": 1, "name": "a\\u0000b"}', [], [(1, "name", "NUL")]),
    "escaped NUL in INTEGER": (b'{"id": "1\\u0000"}', [], [(1, "id", "not INTEGER")]),
    "required key missing": (b'{"name": "x"}\n' + ONE, [{"id": 1}], [(1, "id", "id is missing")]),
    "required key null": (b'{"id": null}', [], [(1, "id", "id is missing")]),
    "required key empty": (b'{"id": ""}', [], [(1, "id", "id is missing")]),
    "key in other letters": (b'{"ID": 1, "name": "x"}', [], [(1, "id", "id is missing")]),
    "empty object": (b"{}\n" + ONE, [{"id": 1}], [(1, "id", "id is missing")]),
    # values that fit, oddly
    "every type": (
        b'{"id": -2147483648, "name": "x", "big": 9223372036854775807, "small": -32768, '
        b'"score": 1.5e300, "at": 1541105830796, "day": "2018-11-01", "ok": true}',
        [
            {
                "id": -2147483648,
                "name": "x",
                "big": 2**63 - 1,
                "small": -32768,
                "score": 1.5e300,
                "at": datetime(2018, 11, 1, 20, 57, 10, 796000),
                "day": date(2018, 11, 1),
                "ok": True,
            }
        ],
        [],
    ),
    "numbers as text": (
        b'{"id": "1", "big": "-5", "score": "1.5", "at": "94694400000"}',
        [{"id": 1, "big": -5, "score": 1.5, "at": datetime(1973, 1, 1)}],
        [],
    ),
    "whole numbers with a point": (
        b'{"id": 38.0, "big": 9007199254740991, "at": 1.541105830796E12}',
        [{"id": 38, "big": 2**53 - 1, "at": datetime(2018, 11, 1, 20, 57, 10, 796000)}],
        [],
    ),
    "numbers in text": (
        b'{"id": 1, "name": 112, "nickName": 9.10}\n{"id": 2, "name": false, "nickName": 1e18}\n'
        b'{"id": 3, "name": 9007199254740993.0, "nickName": -0.0}\n{"id": 4, "name": "4.60"}',
        [
            {"id": 1, "name": "112", "nickName": "9.10"},
            {"id": 2, "name": "false", "nickName": "1e18"},
            {"id": 3, "name": "9007199254740993.0", "nickName": "-0.0"},
            {"id": 4, "name": "4.60"},
        ],
        [],
    ),
    "empty text": (
        b'{"id": 1, "name": "", "big": "", "score": "", "at": "", "day": "", "ok": ""}',
        [{"id": 1, "name": ""}],
        [],
    ),
    "objects and arrays in text": (
        '{"id": 1, "name": {"ä": [1.0, null]}, "nickName": [1, "x"]}\n'
        '{"id": 2, "name": "[Untitled]", "nickName": "{}"}'.encode(),
        [
            {"id": 1, "name": '{"ä":[1.0,null]}', "nickName": '[1,"x"]'},
            {"id": 2, "name": "[Untitled]", "nickName": "{}"},
        ],
        [],
    ),
    "other order, other keys": (
        b'{"x": [1, {"id": 9}], "name": "x", "filename": "f", "the object": 3, "the record": 4, '
        b'"the json": {}, "the file": "g", "object_id": 99, "id": 1}',
        [{"id": 1, "name": "x"}],
        [],
    ),
    "the first of duplicate keys counts": (b'{"id": 1, "id": 2}', [{"id": 1}], []),
    "the first of duplicate keys does not fit": (
        b'{"id": "x", "id": 2}',
        [],
        [(1, "id", "id is x, not INTEGER")],
    ),
    "not line ends": (
        '{"id": 1, "name": "a\u2028b\u0085c\u2029d"}\n'.encode() + TWO,
        [{"id": 1, "name": "a\u2028b\u0085c\u2029d"}, {"id": 2}],
        [],
    ),
    "quotes of all kinds": (
        '{"id": 1, "name": "“a” \\"b\\" \'c\'"}\n{“id”: 2}\n'.encode(),
        [{"id": 1, "name": "“a” \"b\" 'c'"}],
        [(2, None, "not valid JSON")],
    ),
    "a comma too many": (
        b'{"id": 1,}\n' + TWO + b'\n{"id": 3, "x": [1, {"y": 2 , }]}\n{"id": 4, "x": [1,]}',
        [{"id": 2}],
        [
            (1, None, "not valid JSON"),
            (3, None, "not valid JSON"),
            (4, None, "not valid JSON"),
        ],
    ),
    "integer of 5,000 digits": (
        b'{"id": ' + b"9" * 5000 + b'}\n{"id": 1, "x": ' + b"9" * 5000 + b"}\n" + TWO,
        [{"id": 1}, {"id": 2}],
        [(1, "id", "not INTEGER")],
    ),
    "deep nesting": (
        b'{"id": 1, "x": ' + b"[" * 50_000 + b"]" * 50_000 + b"}\n" + TWO,
        [{"id": 2}],
        [(1, None, "nested too deeply")],
    ),
    "deep nesting, damaged": (
        b'{"id": 1, "x": ' + b"[" * 50_000 + b"]" * 49_999 + b"}\n" + TWO,
        [{"id": 2}],
        [(1, None, "not valid JSON")],
    ),
    # bytes that are not text
    "invalid UTF-8": (
        b'{"id": 1, "name": "\xff"}\n' + TWO,
        [{"id": 2}],
        [(1, None, "not UTF-8 text")],
    ),
    "invalid UTF-8 beside a sound record": (
        ONE + b" \xff\xfe\n" + TWO,
        [{"id": 1}, {"id": 2}],
        [(1, None, "not a JSON object")],
    ),
    "raw NUL": (b'{"id": 1, "name": "a\0b"}\n' + TWO, [{"id": 2}], [(1, None, "not valid JSON")]),
    "NULs at the end": (ONE + b"\n" + b"\0" * 99, [{"id": 1}], [(2, None, "not a JSON object")]),
    "raw tab in text": (b'{"id": 1, "name": "a\tb"}', [], [(1, None, "not valid JSON")]),
    "half a surrogate pair": (
        b'{"id": 1, "name": "\\ud800"}\n{"id": 2, "name": "\\ud83c\\udfb5"}',
        [{"id": 2, "name": "🎵"}],
        [(1, "name", "name holds half a character")],
    ),
    "UTF-16": (
        '{"id": 1}\n{"id": 2}\n'.encode("utf-16-le"),
        [],
        [(1, None, "seems to be UTF-16 text")],
    ),
    "UTF-16 with a mark": (
        b'\xff\xfe{\0"\0i\0d\0"\0:\0001\0}\0',
        [],
        [(1, None, "seems to be UTF-16 text")],
    ),
    # what is not an object
    "arrays": (
        b'[{"id": 1},\n{"id": 3}]\n[]\n[1, 2]\n' + TWO,
        [{"id": 1}, {"id": 2}, {"id": 3}],
        [(4, None, "not a JSON object")],
    ),
    "numbers": (
        b"42\n-1.5\n" + TWO,
        [{"id": 2}],
        [(1, None, "not a JSON"), (2, None, "not a JSON")],
    ),
    "strings": (b'"id"\n' + TWO, [{"id": 2}], [(1, None, "not a JSON object")]),
    "null": (b"null\n" + TWO, [{"id": 2}], [(1, None, "not a JSON object")]),
    "one array over many lines": (
        b'[\n{"id": 1},\n{"id": 2}\n]\n',
        [{"id": 1}, {"id": 2}],
        [],
    ),
    # more or less than an object on a line
    "concatenated": (ONE + TWO + b' {"id":3}', [{"id": 1}, {"id": 2}, {"id": 3}], []),
    "garbage between": (
        ONE + b" x " + TWO + b'\n{"id": 3}',
        [{"id": 1}, {"id": 2}, {"id": 3}],
        [(1, None, "not a JSON object")],
    ),
    "closed twice": (ONE + b"}\n" + TWO, [{"id": 1}, {"id": 2}], [(1, None, "not a JSON object")]),
    "pretty-printed": (
        b'{\n  "id": 1,\n  "name": "x y"\n}\n' + TWO,
        [{"id": 1, "name": "x y"}, {"id": 2}],
        [],
    ),
    "a value alone on its line": (
        b'{"id":\n1\n,"name":\n"x"\n,"score":\n2.5\n}\n' + TWO,
        [{"id": 1, "name": "x", "score": 2.5}, {"id": 2}],
        [],
    ),
    "pretty-printed and concatenated": (
        b'{\n "id": 1\n}{\n "id": 2\n}\n{\n "id": "x"\n}',
        [{"id": 1}, {"id": 2}],
        [(6, "id", "id is x, not INTEGER")],
    ),
    "pretty-printed and truncated": (
        b'{\n "id": 3,\n "x": {\n' + b'{\n "id": 1\n}\n' + b'}\n{\n "id": 2\n}\n',
        [{"id": 1}, {"id": 2}],
        [
            (1, None, "not valid JSON"),
            (2, None, "not a JSON object"),
            (3, None, "not a JSON object"),
            (7, None, "not a JSON object"),
        ],
    ),
}


def test_odd_inputs(
    way: int, things: Table, connection: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    """Rows and rejections are as they must be, and go to the object they come from."""
    contents = [content for content, _, _ in CASES.values()]
    for found, (case, (_, rows, rejected)) in zip(
        read_all(connection, things, tmp_path, contents, way), CASES.items(), strict=True
    ):
        assert found.rows == sorted(rows, key=lambda row: row["id"]), case
        assert [r[:2] for r in found.rejected] == [r[:2] for r in rejected], case
        for (_, _, reason, _), (_, _, part) in zip(found.rejected, rejected, strict=True):
            assert part in reason, case


def test_objects_of_both_ways_in_one_call(
    things: Table, connection: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    padding = b'{"id": 3, "name": "padding"}\n' * 1000
    cases = {name: case[0] for name, case in CASES.items() if "UTF-16" not in name}
    contents = [c for content in cases.values() for c in (content, padding + content)]
    found = read_all(connection, things, tmp_path, contents)
    for case, small, large in zip(cases, found[::2], found[1::2], strict=True):
        assert len(large.rows) == 1000 + len(small.rows), case
        assert [r for r in large.rows if r.get("name") != "padding"] == small.rows, case
        assert [(line - 1000, *rest) for line, *rest in large.rejected] == small.rejected, case


@pytest.mark.parametrize(
    "damaged",
    [b'{\n"id": 0,\n"name":\n}\n', b"{\n", b'{"id":\n', b"[\n", b'{"id": 0\n', b"}\n"],
)
def test_much_damage_costs_no_sound_record(
    damaged: bytes, things: Table, connection: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    contents = [
        b"".join(damaged + b'{\n"id": %d\n}\n' % number for number in range(3000)),
        damaged * 3000 + b'{\n"id": 0\n}\n',
    ]
    alternating, at_the_end = read_all(connection, things, tmp_path, contents)
    assert alternating.rows == [{"id": number} for number in range(3000)]
    assert at_the_end.rows == [{"id": 0}]


@pytest.mark.parametrize(
    ("content", "raw"),
    [
        (b'  {"id": "x"}  \r\n', '{"id": "x"}'),
        (b'{"id":\r\n "x"\r\n}\r\n', '{"id":\r\n "x"\r\n}'),
        (b"caf\xe9\n", "caf\\xe9"),
        (b'{"id": 1, "name": "\xc3\xa9\xe9"}\n', '{"id": 1, "name": "é\\xe9"}'),
        (b"a\0b\n", "a\\x00b"),
        (b'{"id": "\\u0000"}', '{"id": "\\u0000"}'),
        (b'{"id": "' + "é".encode() * 40_000 + b'"}', '{"id": "' + "é" * 32_496),
        (b"x" * (LIMIT + 5), "x" * 65_000),
        (b"\xff" * 65_000, "\\xff" * 16_250),
    ],
)
def test_raw_text(
    content: bytes,
    raw: str,
    way: int,
    things: Table,
    connection: duckdb.DuckDBPyConnection,
    tmp_path: Path,
) -> None:
    [found] = read_all(connection, things, tmp_path, [content], way)
    assert [r[3] for r in found.rejected] == [raw]


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"], ids=["cut", "LF", "CRLF"])
@pytest.mark.parametrize("length", [LIMIT - 1, LIMIT, LIMIT + 1, LIMIT + 2, 10_000_000])
@pytest.mark.parametrize("sound", [True, False])
def test_long_lines(
    length: int,
    end: bytes,
    sound: bool,
    way: int,
    things: Table,
    connection: duckdb.DuckDBPyConnection,
    tmp_path: Path,
) -> None:
    """Up to the limit a line is a record like others; above it is one rejection, cut."""
    line = b'{"id": 3, "x": "'
    line += b"y" * (length - len(line) - 2) + (b'"}' if sound else b"]]")
    content = ONE + b"\n" + line + end + (TWO if end else b"")
    [found] = read_all(connection, things, tmp_path, [content], way)
    others = [{"id": 1}, {"id": 2}] if end else [{"id": 1}]
    if sound and length <= LIMIT:
        assert found.rows == [*others, {"id": 3}]
        assert found.rejected == []
    else:
        assert found.rows == others
        [(number, column, reason, raw)] = found.rejected
        assert (number, column) == (2, None)
        assert ("longer than 4,194,304 bytes" in reason) == (length > LIMIT)
        assert raw == line[:65_000].decode()


def test_record_of_several_lines_is_bounded_too(
    way: int, things: Table, connection: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    def pretty(number: int, length: int) -> bytes:
        line = b'\n"x": "' + b"y" * 1000 + b'",'
        text = b'{"id": %d,' % number + line * (length // len(line) - 1)
        return text + b'\n"x":' + b" " * (length - len(text) - 7) + b"0}"

    contents = [pretty(1, LIMIT) + b"\n" + pretty(2, LIMIT + 1) + b"\n" + pretty(3, LIMIT)]
    assert [len(part) for part in contents] == [3 * LIMIT + 3]
    [found] = read_all(connection, things, tmp_path, contents, way)
    assert found.rows == [{"id": 1}, {"id": 3}]
    assert found.rejected
    assert all(raw.startswith(('{"id": 2,', '"x"')) for _, _, _, raw in found.rejected)


PAGE = '<!DOCTYPE html>\n<script>\n{"baseUrl": "/"}\n{ let x = 1; }\n</script>\n<p>\n</html>\n'
POINTER = (
    "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d2\n"
    "size 12345\n"
)
SOMETHING_ELSE: dict[str, tuple[bytes, str]] = {
    "a page": (PAGE.encode(), "an HTML or XML page. Download the raw file itself"),
    "a page, indented": (b"\xef\xbb\xbf\n  " + PAGE.encode(), "an HTML or XML page"),
    "a pointer": (POINTER.encode(), "a Git LFS pointer"),
    "CSV": (b"id,name\n1,x\n2,y\n3,z\n", "it holds no record: not a JSON object"),
    "Python": (b"{'id': 1}\n{'id': 2}\n", "it holds no record: not valid JSON: Expecting property"),
    "UTF-16": ('{"id": 1}\n{"id": 2}\n'.encode("utf-16"), "UTF-16 text. Save it as UTF-8"),
    "xz": (lzma.compress(ONE * 99), "compressed. Unpack it"),
    "Parquet": (b"PAR1\x15\x04" + b"\n{" * 99 + b"PAR1", "a Parquet file"),
}


def test_a_file_that_is_something_else_is_one_finding(
    things: Table, connection: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    """Whatever its size, and whatever is read beside it."""
    contents = [content for content, _ in SOMETHING_ELSE.values()]
    contents += [content + b"\n" * 20_000 for content in contents]
    contents.append(ONE)
    *found, sound = read_all(connection, things, tmp_path, contents)
    assert sound == Found(1, [{"id": 1}], [])
    for (_, reason), one, content in zip(
        [*SOMETHING_ELSE.values()] * 2, found, contents, strict=False
    ):
        assert (one.records, one.rows) == (1, [])
        [(line, column, said, raw)] = one.rejected
        assert (line, column) == (1, None)
        assert said.startswith("not JSON: ")
        assert reason in said
        assert content[:1] in b"\xef<vi{\xff\xfdP"
        assert raw


def test_page_around_a_record(
    way: int, things: Table, connection: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    [found] = read_all(connection, things, tmp_path, [PAGE.encode() + ONE], way)
    assert found.rows == [{"id": 1}]
    assert found.records == 1 + len(found.rejected)


def test_repeated_keys_are_counted(
    way: int, things: Table, connection: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    """Keys that no column takes, too; the usual keys in their usual order, and others."""
    usual = {column.key: None for column in things.columns} | {"id": 3}
    del usual["object_id"]
    lines = [
        json.dumps(usual).encode(),
        b'{"id": 1, "name": "a", "id": 2}',
        b'{"id": 2, "x": 1, "x": 2}',
        b'{"x": {"id": 3, "id": 4}, "id": 4}',
        json.dumps(usual).encode()[:-1] + b', "id": 4}',
    ]
    found = read(connection, things, tmp_path, [b"\n".join(lines), lines[0]], way)
    assert [one.with_repeated_keys for one in found] == [3, 0]
    assert [one.loaded for one in found] == [5, 1]


def test_rejections_of_one_file_are_bounded(
    things: Table,
    connection: duckdb.DuckDBPyConnection,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Beyond the bound they are one, whose size tells how much it is."""
    monkeypatch.setattr(findings, "MOST_KEPT_BYTES", 3 * findings.REJECTION_BYTES)
    content = ONE + b'\n{"id": "x"}' * 10
    [one] = read(connection, things, tmp_path, [content], CAREFUL)
    assert [(r.size, r.is_record) for r in one.rejections] == [(11, True), (11, True), (88, False)]
    assert (one.records, one.loaded) == (4, 1)


def test_table_without_required_columns(
    way: int, connection: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    columns = "a VARCHAR, number INTEGER, object_id INTEGER, at TIMESTAMP"
    table = table_of(tmp_path / "sql", f"CREATE TABLE loose ({columns})")
    content = b'{"a": "x"}\n{"number": 0}\n{}\n{"A": 1}\n[1]\n{"a"}\n'
    sound = b'{"number": 3}\n{"at": "2018-11-01T20:57Z"}'
    found, other = read_all(connection, table, tmp_path / "data", [content, sound], way)
    assert in_order(other.rows) == in_order([{"number": 3}, {"at": datetime(2018, 11, 1, 20, 57)}])
    assert found.records == 6
    assert in_order(found.rows) == in_order([{"a": "x"}, {"number": 0}])
    assert found.rejected[1][2] == "has no value for any column; its keys: A"
    assert [(line, reason.split(":")[0]) for line, _, reason, _ in found.rejected] == [
        (3, "has no value for any column; its keys"),
        (4, "has no value for any column; its keys"),
        (5, "not a JSON object"),
        (6, "not valid JSON"),
    ]


def test_odd_names_of_columns(
    way: int, connection: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    names = ["filename", "number", "problem", "value", "record", "json", "columns", "order", "o'k"]
    columns = ", ".join(f'"{name}" VARCHAR' for name in names)
    table = table_of(tmp_path / "sql", f"CREATE TABLE odd ({columns}, object_id INTEGER)")
    record = {name: name.upper() for name in names}
    content = json.dumps(record).encode() + b'\n{"order": "a\\u0000"}\n'
    [found] = read_all(connection, table, tmp_path / "data", [content], way)
    assert found.rows == [record]
    assert [r[:2] for r in found.rejected] == [(2, "order")]


def test_folder_for_temporary_files_with_an_odd_name(
    things: Table,
    connection: duckdb.DuckDBPyConnection,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    odd = tmp_path / "t*[m]?p"
    odd.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(odd))
    for way in (FAST, CAREFUL):
        [found] = read_all(connection, things, tmp_path / "data", [ONE + b"\n" + TWO], way)
        assert found.rows == [{"id": 1}, {"id": 2}]
    assert list(odd.iterdir()) == []


def test_text_of_any_length(
    way: int, things: Table, connection: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    lines = [json.dumps({"id": n, "note": "n" * n}).encode() for n in (65_535, 65_536)]
    [found] = read_all(connection, things, tmp_path, [b"\n".join(lines)], way)
    assert found.rows == [{"id": 65_535, "note": "n" * 65_535}]
    assert [r[:2] for r in found.rejected] == [(2, "note")]


@pytest.mark.parametrize(
    "piece",
    [b"{\n", b"[\n", b'{"a":\n', b"{,\n", b'{"\n', b",\n", b"{", b"[", b'{"a":', b'"', b"\\"],
)
def test_time_grows_with_the_size_alone(
    piece: bytes, things: Table, connection: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    """Quadratic time would be minutes."""
    content = piece * 30_000 + b"\n" + ONE
    started = time.process_time()  # of this process alone, however busy the machine is
    [found] = read_all(connection, things, tmp_path, [content])
    assert found.rows == [{"id": 1}]
    assert time.process_time() - started < 60


def test_many_records_on_one_line(
    things: Table, connection: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    content = b"".join(b'{"id":%d}' % number for number in range(100_000))
    started = time.process_time()
    [found] = read_all(connection, things, tmp_path, [content])
    assert found.rows == [{"id": number} for number in range(100_000)]
    assert time.process_time() - started < 60


# --- Made streams ----------------------------------------------------------------------------

EPOCH = datetime(1970, 1, 1)
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=5)
records = st.fixed_dictionaries(
    {"id": st.integers(-(2**31), 2**31 - 1)},
    optional={
        "name": texts,
        "big": st.none() | st.integers(-(2**63), 2**63 - 1),
        "score": st.floats(allow_nan=False, allow_infinity=False),
        "at": st.integers(94_694_400_000, 1_767_225_600_000),
        "ok": st.booleans(),
        "other": st.recursive(
            texts | st.integers(), lambda s: st.lists(s, max_size=2), max_leaves=4
        ),
    },
)
written = st.builds(
    lambda record, ascii_only, indent: (
        record,
        json.dumps(record, ensure_ascii=ascii_only, indent=indent).encode(),
    ),
    records,
    st.booleans(),
    st.sampled_from([None, None, 0, 2]),
)
NO_OBJECTS = [  # each is one rejected text, on a line of its own
    b'{"id": 2, "name": "cut',
    b'{"id": 2, "name":',
    b'{"id": 2,',
    b'{"id": 2',
    b"{",
    b"[1, 2]",
    b"42",
    b"null",
    b'"text"',
    b'{"id": }',
    b'{"id": 1,}',
    b"\0",
    b"// note",
]
MISFITS = [  # each is one rejected record
    b'{"id": true}',
    b'{"id": 4.5}',
    b'{"name": "no id"}',
    b'{"id": 1, "name": "\xff"}',
    b'{"id": 1, "name": "\\ud800"}',
    b'{"id": 1, "name": "' + b"long" * 9 + b'"}',
]
DAMAGED = NO_OBJECTS + MISFITS
broken = st.sampled_from(DAMAGED).map(lambda piece: (None, piece))
streams = st.lists(
    st.tuples(written | broken, st.sampled_from([b"\n", b"\n\n", b"\r\n", b" \n\t\n", b"", b" "])),
    max_size=12,
)


def as_row(record: Row) -> Row:
    row = {key: value for key, value in record.items() if key != "other" and value is not None}
    if "at" in row:
        row["at"] = EPOCH + timedelta(milliseconds=row["at"])
    return row


def in_order(rows: list[Row]) -> list[str]:
    return sorted(repr(sorted(row.items())) for row in rows)


@settings(max_examples=settings().max_examples // 7)
@given(made=st.lists(streams, min_size=5, max_size=40))
@example(made=[[((None, piece), b"\n"), (({"id": 1}, b'{\n"id": 1\n}'), b"")] for piece in DAMAGED])
def test_streams(
    made: list[list[tuple[tuple[Row | None, bytes], bytes]]],
    things: Table,
    connection: duckdb.DuckDBPyConnection,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Sound records are loaded value for value, and nothing but the damaged ones is rejected."""
    contents = []
    for stream in made:
        content = b""
        for number, ((record, piece), separator) in enumerate(stream):
            follower = stream[number + 1][0][0] if number + 1 < len(stream) else None
            glued = b"\n" not in separator and (record is None or follower is None)
            content += piece + (b"\n" if glued else separator)
        contents.append(content)
    folder = tmp_path_factory.mktemp("made")
    fast = read_all(connection, things, folder, contents, FAST)
    assert read_all(connection, things, folder, contents, CAREFUL) == fast
    for stream, found in zip(made, fast, strict=True):
        sound = [as_row(record) for (record, _), _ in stream if record is not None]
        pieces = [piece for (_, piece), _ in stream]
        is_json = any(piece not in NO_OBJECTS for piece in pieces)
        assert found.records == (len(pieces) if is_json else min(len(pieces), 1))
        assert in_order(found.rows) == in_order(sound)


edits = st.lists(
    st.tuples(
        st.sampled_from(["flip", "delete", "insert"]),
        st.integers(0, 10_000),
        st.integers(0, 255) | st.sampled_from(list(b'{}[]",:\\\n\r 0')),
    ),
    min_size=1,
    max_size=6,
)


@settings(max_examples=settings().max_examples // 7)
@given(
    made=st.lists(
        st.tuples(st.lists(records, min_size=1, max_size=8), edits), min_size=5, max_size=40
    )
)
def test_damaged_bytes(
    made: list[tuple[list[Row], list[tuple[str, int, int]]]],
    things: Table,
    connection: duckdb.DuckDBPyConnection,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Lines that stay whole are loaded, whatever became of the bytes of others."""
    contents = []
    for lines, changes in made:
        damaged = bytearray("\n".join(json.dumps(r, ensure_ascii=False) for r in lines).encode())
        for kind, place, byte in changes:
            at = place % (len(damaged) + 1)
            damaged[at : at + (kind != "insert")] = b"" if kind == "delete" else bytes([byte])
        assume(not damaged.startswith(b"\x1f\x8b"))
        contents.append(bytes(damaged))
    folder = tmp_path_factory.mktemp("damaged")
    fast = read_all(connection, things, folder, contents, FAST)
    assert read_all(connection, things, folder, contents, CAREFUL) == fast
    for (lines, _), content, found in zip(made, contents, fast, strict=True):
        whole = {json.dumps(r, ensure_ascii=False).encode(): r for r in lines}
        expected = [as_row(whole[line]) for line in content.split(b"\n") if line in whole]
        rows = in_order(found.rows)
        for row in in_order(expected):
            rows.remove(row)  # a row for each, equal ones too


@pytest.mark.parametrize("blank_line", [False, True])
def test_large_object(
    blank_line: bool,
    things: Table,
    connection: duckdb.DuckDBPyConnection,
    tmp_path: Path,
) -> None:
    """Three damaged records among 40,000 are rejected, and nothing else."""
    moment = datetime(2018, 11, 1, tzinfo=UTC)
    lines = [
        json.dumps(
            {"id": i, "name": f"n{i}", "at": int(moment.timestamp() * 1000) + i, "x": "y" * 220}
        )
        for i in range(40_000)
    ]
    lines[10] = lines[10][:-5]
    lines[20_000] = lines[20_000].replace('"id": ', '"id": 0.')
    lines[39_998] = "null"
    content = "\n".join(lines).encode() + (b"\n\n" if blank_line else b"")
    assert len(content) > 10_000_000
    started = time.monotonic()
    [found] = read_all(connection, things, tmp_path, [content])
    print(f"{len(content) / 1e6:.0f} MB in {time.monotonic() - started:.1f} s")
    start = moment.replace(tzinfo=None)
    assert [r[:2] for r in found.rejected] == [(11, None), (20_001, "id"), (39_999, None)]
    assert found.rows == [
        {"id": i, "name": f"n{i}", "at": start + timedelta(milliseconds=i)}
        for i in range(40_000)
        if i not in (10, 20_000, 39_998)
    ]
