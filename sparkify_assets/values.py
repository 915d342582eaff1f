"""Converts JSON values to the types of a staging table, or says why a value does not fit.

A value is kept exactly, or its record is rejected. Python decides this. SQL converts only records
that are clearly sound, with the same result, and leaves any doubtful record to Python.
"""

import json
import math
import re
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import NamedTuple

from sparkify_assets.dialect import quote
from sparkify_assets.errors import SparkifyError, printable
from sparkify_assets.records import MAX_RECORD_BYTES, Found, Members, Number
from sparkify_assets.tables import Column, Table

OBJECT_ID = "object_id"  # the one column of a staging table that is not in the JSON
DOUBTFUL = '"the record in doubt"'
NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")
ISO = re.compile(r"[0-9-]{8,10}[T ]\S+")  # perhaps a date and a time: Python decides
PLAIN_ISO = (  # read alike by DuckDB and Python
    "[0-9]{4}-[0-9]{2}-[0-9]{2}[T ]([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9]([.][0-9]{1,6})?)?"
    "(Z|[+-][01][0-9]:?[0-5][0-9])?"
)
LOOSE = r",\s*[}\]]"  # invalid JSON that DuckDB reads
DEEP = r"[\[{](?:[^\[\]{}]*[\[{]){19}"  # may be too deep for Python, whose limit is some hundreds
NO_TEXT = re.compile("[\0\ud800-\udfff]")
WANTED = {"TIMESTAMP": "epoch milliseconds or an ISO 8601 time"}
EPOCH, MILLISECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(milliseconds=1)
EARLIEST = 94_694_400_000  # 1973 in milliseconds; as seconds, the year 4970


class Misfit(ValueError):
    """Why a record cannot become a row; `column` is the column at fault, if any."""

    def __init__(self, reason: str, column: str | None = None) -> None:
        super().__init__(reason)
        self.column = column


class _Kind(NamedTuple):
    """How a column gets its value: `convert` makes it from text, or raises.

    The others are SQL on the struct `v`: the text, the value, and whether the value clearly fits.
    """

    convert: Callable[[str], object]
    given: str
    value: str
    is_plain: str


def json_columns(table: Table) -> list[Column]:
    """The columns whose values come from the JSON."""
    return [column for column in table.columns if column.name != OBJECT_ID]


def verify_readable(table: Table) -> None:
    """Raises SparkifyError if a staging table lacks `object_id` or has a type that JSON lacks."""
    if OBJECT_ID not in (column.name for column in table.columns):
        raise SparkifyError(f"{table.path}: a table that is loaded declares a column {OBJECT_ID}")
    for column in json_columns(table):
        _kind(column)


def row_reader(table: Table) -> Callable[[Found, int], list[object]]:
    """A function from a record and an object_id to a row; raises Misfit if the record does not fit.

    The first value of a repeated key counts.
    """
    kinds = [(c, c.key, _kind(c).convert) for c in json_columns(table)]
    id_at = [c.name for c in table.columns].index(OBJECT_ID)

    def row_of(found: Found, object_id: int) -> list[object]:
        if found.reason:
            raise Misfit(found.reason)
        members = dict(reversed(found.members))
        row: list[object] = []
        for column, key, convert in kinds:
            text = members.get(key)
            if text is None or (text == "" and not column.type.startswith("VARCHAR")):
                if not column.nullable:
                    raise Misfit(f"{key} is missing", column.name)
                row.append(None)
                continue
            text = text if isinstance(text, str) else json_text(text)
            try:
                row.append(convert(text))
            except Misfit as misfit:
                raise Misfit(f"{key} {misfit}", column.name) from None
            except (ValueError, ArithmeticError, LookupError):
                shown = json.dumps(text, ensure_ascii=False)[1:-1][:100]
                reason = f"{key} is {shown}, not {WANTED.get(column.type, column.type)}"
                raise Misfit(reason, column.name) from None
        if row.count(None) == len(row):
            keys = printable(", ".join(members)[:100])
            raise Misfit(f"has no value for any column; its keys: {keys or 'none'}")
        row.insert(id_at, object_id)
        return row

    return row_of


def structure(table: Table) -> str:
    """The structure for `json_transform`; the type JSON keeps strings distinct from numbers."""
    is_json = {c.key: c.type.startswith(("VARCHAR", "DOUBLE")) for c in json_columns(table)}
    return json.dumps({key: "JSON" if is_it else "VARCHAR" for key, is_it in is_json.items()})


def select_rows(table: Table) -> str:
    """SELECT list for a row of the table, plus the record itself if it is left to Python.

    It reads the columns `object_id`, `json` (the record) and `v` (the struct of its values).
    """
    kinds = {column.name: _kind(column) for column in json_columns(table)}
    values = [f"{kind.value} AS {quote(name)}" for name, kind in kinds.items()]
    tests = [
        f"strlen(json) <= {MAX_RECORD_BYTES} AND NOT regexp_matches(json, '{LOOSE}')",
        "NOT contains(json, 'Infinity')",
        f"CASE WHEN strlen(json) < 800 THEN true ELSE NOT regexp_matches(json, '{DEEP}') END",
        f"COALESCE({', '.join(kind.given for kind in kinds.values())}) IS NOT NULL",
        *(kind.is_plain for kind in kinds.values()),
    ]
    doubtful = f"CASE WHEN NOT ({' AND '.join(tests)}) THEN json END AS {DOUBTFUL}"
    return ", ".join([OBJECT_ID, *values, doubtful])


def json_text(value: object) -> str:
    """A JSON value as text: numbers as in the file, objects and arrays as JSON, like COPY."""
    return value if isinstance(value, str) else _spelled(value)


def _spelled(value: object) -> str:
    if isinstance(value, Members):
        return "{" + ",".join(f"{_spelled(k)}:{_spelled(v)}" for k, v in value) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_spelled, value)) + "]"
    return str(value) if isinstance(value, Number) else json.dumps(value, ensure_ascii=False)


def _kind(column: Column) -> _Kind:
    name, _, size = column.type.partition("(")
    key = f"v.{quote(column.key)}"
    given = f"NULLIF({key}, '')"
    value = f"TRY_CAST({given} AS {name})"
    is_plain = f"CAST({value} AS VARCHAR) = {given}"
    convert: Callable[[str], object]
    match name:
        case "VARCHAR":
            given, value, limit = f"CAST({key} AS VARCHAR)", f"({key} ->> '$')", int(size[:-1])
            convert = partial(_text, column.type, limit)
            is_plain = (
                f"starts_with({given}, '\"') AND strlen({given}) <= {limit + 2} "
                f"AND NOT contains({given}, '\\u0000')"
            )
        case "SMALLINT" | "INTEGER" | "BIGINT":
            convert = partial(_whole_number, {"SMALLINT": 15, "INTEGER": 31, "BIGINT": 63}[name])
        case "DOUBLE PRECISION":
            given, convert = f"NULLIF(CAST({key} AS VARCHAR), '\"\"')", _number
            value = f"TRY_CAST({given} AS DOUBLE)"
            # a 0 may have been 1e-400
            is_plain = f"isfinite({value}) AND ({value} <> 0 OR {given} = '0')"
        case "TIMESTAMP":
            latest = int(time.time() + 86_400) * 1000
            convert = partial(_time, latest)
            moment = f"TRY_CAST({given} AS TIMESTAMPTZ)"  # `epoch_ms` would round it
            epoch = (
                f"CASE WHEN contains({given}, ':') THEN epoch_us({moment}) // 1000 "
                f"WHEN strlen({given}) < 16 THEN TRY_CAST({given} AS BIGINT) END"
            )
            value = f"make_timestamp_ms({epoch})"
            is_plain = (
                f"{epoch} BETWEEN {EARLIEST} AND {latest} AND "
                f"regexp_full_match({given}, '[0-9]+|{PLAIN_ISO}')"
            )
        case "DATE":
            convert, is_plain = date.fromisoformat, f"{is_plain} AND strlen({given}) = 10"
        case "BOOLEAN":
            convert = {"true": True, "false": False}.__getitem__
        case _:
            raise SparkifyError(
                f"column {column.name}: type {column.type} is not one that JSON is read into: "
                "VARCHAR, SMALLINT, INTEGER, BIGINT, DOUBLE PRECISION, TIMESTAMP, DATE, BOOLEAN"
            )
    is_plain = f"COALESCE({is_plain}, {given} IS NULL AND {column.nullable})"
    return _Kind(convert, given, value, is_plain)


def _text(declared: str, limit: int, text: str) -> str:
    if NO_TEXT.search(text):
        raise Misfit("holds half a character or NUL: an escape such as \\ud800 or \\u0000")
    if (size := len(text.encode())) > limit:
        raise Misfit(f"is {size:,} bytes long, more than {declared}")
    return text


def _decimal(text: str) -> Decimal:
    if not NUMBER.fullmatch(text):
        raise ValueError
    return Decimal(text)


def _whole_number(bits: int, text: str) -> int:
    number = _decimal(text)
    if not -(2**bits) <= number < 2**bits or number != int(number):
        raise ValueError
    return int(number)


def _number(text: str) -> float:
    exact, number = _decimal(text), float(text)
    if not math.isfinite(number) or (exact and not number):
        raise ValueError
    return number


def _time(latest: int, text: str) -> datetime:
    """Epoch milliseconds or an ISO 8601 time, which is UTC if it has no zone.

    A time before 1973 or after `latest` is probably a number in another unit.
    """
    if ISO.fullmatch(text):
        moment = datetime.fromisoformat(text)
        number = (moment.replace(tzinfo=moment.tzinfo or UTC) - EPOCH) // MILLISECOND
    else:
        number = _whole_number(63, text)
    if number < EARLIEST:
        raise Misfit(f"is {text[:40]}, before 1973: are these seconds? Milliseconds are expected")
    if number > latest:
        raise Misfit(f"is {text[:40]}, more than a day in the future: are these milliseconds?")
    return (EPOCH + number * MILLISECOND).replace(tzinfo=None)
