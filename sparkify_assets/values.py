"""Turns JSON values into values of a staging table's columns: which fit, and why others do not.

Python judges any record, value by value. SQL recognizes records that are plainly sound, of which
nothing is lost on the way through DuckDB's own reader; what is not plain there, Python judges. So
there is one set of rules, told in the README: a value is kept exactly or its record is rejected.
"""

import json
import math
import re
import struct
import time
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import partial
from typing import NamedTuple

from sparkify_assets.catalog import Column, Table
from sparkify_assets.dialect import quote
from sparkify_assets.errors import SparkifyError
from sparkify_assets.records import SURROGATES, Members, Number

OBJECT_ID = "object_id"  # column of a staging table that names the object, not a key of the JSON
OBJECT = "the object"  # what that id is called among the keys of the JSON
NUMBER = r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?"
ISO = (  # date and time, to the microsecond, with or without a zone
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ]([01][0-9]|2[0-3]):[0-9]{2}(:[0-9]{2}([.][0-9]{1,6}0*)?)?"
    r"(Z|[+-][01][0-9]:?[0-5][0-9])?"
)
DAY = "[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]"
EARLIEST = 94_694_400_000  # milliseconds of 1973: as many seconds are of the year 4970
DAY_MS = 86_400_000
BOOLEANS = dict.fromkeys(("true", "t", "yes", "y", "1"), "true") | dict.fromkeys(
    ("false", "f", "no", "n", "0"), "false"
)  # as in Redshift


class Misfit(ValueError):
    """Why a record cannot become a row; `column` is None where it is not the fault of one."""

    def __init__(self, column: str | None, reason: str) -> None:
        super().__init__(reason)
        self.column = column


class _Reason(ValueError):
    """Why a value does not fit, in words that follow its key."""


class _Kind(NamedTuple):
    """How a type takes a value that is not empty, as text.

    `convert` gives text that `cast` turns into the value, or raises ValueError. `cast` and `plain`
    are SQL over the text `{0}`: the value, and whether it is plainly sound.
    """

    convert: Callable[[str], str]
    cast: str
    plain: str


def json_columns(table: Table) -> list[Column]:
    """The columns whose values come from the JSON."""
    return [column for column in table.columns if column.name != OBJECT_ID]


def verify_readable(table: Table) -> None:
    """Makes sure that JSON can be read into a staging table.

    Raises:
        SparkifyError: the column of the object's id is missing, or a type is none of these.
    """
    if OBJECT_ID not in (column.name for column in table.columns):
        raise SparkifyError(f"{table.path}: a table that is loaded declares a column {OBJECT_ID}")
    for column in json_columns(table):
        _kind(column)


def row_reader(table: Table) -> Callable[[Members], dict[str, str]]:
    """Makes rows of the table from records: text that `select_rows` casts, by key of the JSON.

    Of equal keys the first counts. What is returned raises Misfit for a record that is no row.
    """
    kinds = [(column, _kind(column)) for column in json_columns(table)]

    def row_of(members: Members) -> dict[str, str]:
        found = dict(reversed(members))
        row = {}
        for column, kind in kinds:
            text = json_text(found.get(column.key))
            if text is None or not (text or _is_text(column)):
                if not column.nullable:
                    raise Misfit(column.name, f"{column.key} is missing")
                continue
            try:
                row[column.key] = kind.convert(text)
            except (ValueError, ArithmeticError) as error:
                raise Misfit(column.name, f"{column.key} {_why(column, text, error)}") from None
        if not row and all(found.get(column.key) is None for column, _ in kinds):
            raise Misfit(None, "has no value for any column")
        return row

    return row_of


def select_rows(table: Table) -> str:
    """SELECT list of a row of the table, from its values as text by key, and `OBJECT`."""
    values = (
        quote(OBJECT)
        if column.name == OBJECT_ID
        else _kind(column).cast.format(
            quote(column.key) if _is_text(column) else f"NULLIF({quote(column.key)}, '')"
        )
        for column in table.columns
    )
    return f"SELECT {', '.join(values)} "


def is_plain(table: Table) -> str:
    """SQL for whether a record's values, as text by key, are plainly sound."""
    tests = []
    for column in json_columns(table):
        text = quote(column.key)
        test = _kind(column).plain.format(text)
        if column.nullable:
            test = f"{text} IS NULL OR {test}" + ("" if _is_text(column) else f" OR {text} = ''")
        tests.append(f"COALESCE({test}, false)")
    keys = ", ".join(quote(column.key) for column in json_columns(table))
    return " AND ".join([*tests, f"COALESCE({keys}) IS NOT NULL"])


def respelled(table: Table) -> dict[str, str]:
    """SQL, by key, for whether the text in a column may have been none in the JSON.

    DuckDB spells a number, NaN, an object or an array anew, and does not tell it from a text.
    """
    test = (  # most texts begin with another character, which is the quickest question
        "CASE WHEN {0} >= ':' AND {0}[1] NOT IN ('N', 'n', 'I', 'i', '[', '{{') THEN false ELSE "
        f"({{0}} < ':' AND regexp_full_match({{0}}, '{NUMBER}') AND {{0}} SIMILAR TO '.*[.eE].*') "
        "OR (strlen({0}) < 10 AND regexp_full_match({0}, '-?(?i:nan|inf|infinity)')) "
        "OR ((starts_with({0}, '{{') OR starts_with({0}, '[')) AND json_valid({0})) END"
    )
    texts = [column for column in json_columns(table) if _is_text(column)]
    return {column.key: test.format(quote(column.name)) for column in texts}


def other_than_text(keys: Iterable[str]) -> re.Pattern[bytes]:
    """Finds in JSON a number, NaN, an object or an array as the value of one of the keys."""
    pattern = rf'"(?:{"|".join(map(re.escape, keys))})"\s*:\s*(?:[-0-9NIi{{\[]|na)'
    return re.compile(pattern.encode())


def _is_text(column: Column) -> bool:
    return column.type.startswith("VARCHAR")


def _why(column: Column, text: str, error: Exception) -> str:
    if isinstance(error, _Reason):
        return str(error)
    is_time = column.type == "TIMESTAMP"
    kind = "epoch milliseconds and no ISO 8601 time" if is_time else column.type
    return f"is {json.dumps(text, ensure_ascii=False)[1:-1][:100]}, not {kind}"


def json_text(value: object) -> str | None:
    """A JSON value as text: numbers as in the file, objects and arrays as JSON, like COPY."""
    return value if value is None or isinstance(value, str) else _spelled(value)


def _spelled(value: object) -> str:
    if isinstance(value, Members):
        return "{" + ",".join(f"{_spelled(k)}:{_spelled(v)}" for k, v in value) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_spelled, value)) + "]"
    if isinstance(value, Number):
        return str(value)
    return json.dumps(value, ensure_ascii=False)


def _kind(column: Column) -> _Kind:
    name, _, size = column.type.partition("(")
    cast = f"CAST({{0}} AS {name})"
    alike = f"CAST(TRY_{cast} AS VARCHAR) = {{0}}"
    match name:
        case "VARCHAR":
            plain = f"strlen({{0}}) <= {int(size[:-1])} AND NOT contains({{0}}, chr(0))"
            return _Kind(partial(_text, column.type, int(size[:-1])), "{0}", plain)
        case "SMALLINT" | "INTEGER" | "BIGINT":
            bits = {"SMALLINT": 15, "INTEGER": 31, "BIGINT": 63}[name]
            return _Kind(partial(_whole_number, bits), cast, alike)
        case "DOUBLE PRECISION" | "REAL":
            # of what is 0 it cannot be told whether it was 1e-400
            plain = (
                f"regexp_full_match({{0}}, '{NUMBER}') AND isfinite(TRY_{cast}) "
                f"AND (TRY_{cast} <> 0 OR {{0}} = '0')"
            )
            return _Kind(partial(_number, "f" if name == "REAL" else "d"), cast, plain)
        case "TIMESTAMP":
            return _moment(int(time.time() * 1000) + DAY_MS)
        case "DATE":  # longer ones are years after 9999 or before Christ, shorter ones are endless
            return _Kind(_day, cast, f"{alike} AND strlen({{0}}) = 10")
        case "BOOLEAN":
            return _Kind(_boolean, cast, alike)
    raise SparkifyError(
        f"column {column.name}: type {column.type} is not one that JSON is read into: "
        "VARCHAR, SMALLINT, INTEGER, BIGINT, REAL, DOUBLE PRECISION, TIMESTAMP, BOOLEAN, DATE"
    )


def _moment(latest: int) -> _Kind:
    iso = ISO.replace("{", "{{").replace("}", "}}")
    return _Kind(
        partial(_time, latest),
        "CASE WHEN contains({0}, ':') THEN make_timestamp_ms(epoch_ms(CAST({0} AS TIMESTAMPTZ))) "
        "ELSE make_timestamp_ms(CAST({0} AS BIGINT)) END",
        f"CASE WHEN contains({{0}}, ':') THEN regexp_full_match({{0}}, '{iso}') "
        f"AND epoch_us(TRY_CAST({{0}} AS TIMESTAMPTZ)) BETWEEN {EARLIEST}000 AND {latest}000 "
        "ELSE regexp_full_match({0}, '[0-9]+') "
        f"AND TRY_CAST({{0}} AS BIGINT) BETWEEN {EARLIEST} AND {latest} END",
    )


def _text(declared: str, limit: int, text: str) -> str:
    if "\0" in text:
        raise _Reason("holds the character NUL")
    if SURROGATES.search(text):
        raise _Reason("holds half a character: an escape such as \\ud800 alone")
    if (size := len(text.encode())) > limit:
        raise _Reason(f"is {size:,} bytes long, more than {declared}")
    return text


def _decimal(text: str) -> Decimal:
    if not re.fullmatch(NUMBER, text):
        raise ValueError
    return Decimal(text)


def _whole_number(bits: int, text: str) -> str:
    number = _decimal(text)
    if not -(2**bits) <= number < 2**bits or number != number.to_integral_value():
        raise ValueError
    return str(int(number))


def _number(code: str, text: str) -> str:
    exact = _decimal(text)
    (kept,) = struct.unpack(code, struct.pack(code, float(text)))
    if not math.isfinite(kept) or (not kept and exact):
        raise ValueError
    return text


def _time(latest: int, text: str) -> str:
    """Epoch milliseconds, or a time of ISO 8601 that is of UTC where it has no zone.

    What is before 1973 or after `latest` was not logged then: it is counted in another unit.
    """
    if is_iso := re.fullmatch(ISO, text):
        moment = datetime.fromisoformat(text)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    number = Decimal(moment.timestamp()) * 1000 if is_iso else _decimal(text)
    if not is_iso and number != number.to_integral_value():
        raise ValueError
    if number < EARLIEST:
        raise _Reason(f"is {text[:40]}, before 1973: are these seconds? Milliseconds are expected")
    if number > latest:
        raise _Reason(f"is {text[:40]}, more than a day in the future: are these milliseconds?")
    if is_iso:  # an event is known by its time in milliseconds, however it was written
        return moment.astimezone(UTC).isoformat(" ", timespec="milliseconds")
    return str(int(number))


def _day(text: str) -> str:
    if not re.fullmatch(DAY, text):
        raise ValueError
    return date.fromisoformat(text).isoformat()


def _boolean(text: str) -> str:
    if text.lower() not in BOOLEANS:
        raise ValueError
    return BOOLEANS[text.lower()]
