"""Parses the Redshift SQL of `sql/` with sqlglot: statements, names, column types.

A statement keeps its text, which is what runs. A type gets one spelling, valid on both engines, so
that types compare as text. `table_files.py` turns statements into tables.
"""

import logging
import re
from collections.abc import Iterable
from difflib import get_close_matches
from functools import cache
from itertools import groupby
from pathlib import Path

import sqlglot
from sqlglot import exp
from sqlglot.errors import OptimizeError, SqlglotError
from sqlglot.lineage import lineage
from sqlglot.optimizer.annotate_types import annotate_types
from sqlglot.optimizer.qualify import qualify
from sqlglot.optimizer.scope import traverse_scope
from sqlglot.schema import MappingSchema

from sparkify_assets.errors import SparkifyError, warn_once

logging.getLogger("sqlglot").setLevel(logging.ERROR)  # we say ourselves what does not parse
DIALECT = "redshift"
CLOCKS = (exp.CurrentDate, exp.CurrentTime, exp.CurrentTimestamp, exp.Localtimestamp)
REDSHIFT = sqlglot.Dialect.get_or_raise(DIALECT)
IN_FULL = {  # Redshift's default and largest sizes
    "DECIMAL": "DECIMAL(18, 0)",
    "CHAR": "CHAR(1)",
    "CHAR(MAX)": "CHAR(4096)",
    "BPCHAR": "CHAR(256)",
    "VARCHAR": "VARCHAR(256)",
    "VARCHAR(MAX)": "VARCHAR(65535)",
}
PORTABLE = re.compile(
    r"SMALLINT|INTEGER|BIGINT|DECIMAL\(\d+, \d+\)|REAL|DOUBLE PRECISION|BOOLEAN"
    r"|(VAR)?CHAR\(\d+\)|DATE|TIME( WITH TIME ZONE)?|TIMESTAMP( WITH TIME ZONE)?"
)

FAMILIES = {  # types of different families cannot be compared
    kind: family
    for family, kinds in {
        "text": exp.DataType.TEXT_TYPES,
        "a number": exp.DataType.NUMERIC_TYPES,
        "a time": exp.DataType.TEMPORAL_TYPES,
        "a truth value": {exp.DataType.Type.BOOLEAN},
    }.items()
    for kind in kinds
}


def quote(identifier: str) -> str:
    """An identifier, safely quoted for SQL."""
    return '"' + identifier.replace('"', '""') + '"'


def wrong(path: Path, what: str, *places: exp.Expr) -> SparkifyError:
    """The error for a mistake in a file of `sql/`, with its path and the line of the places."""
    return SparkifyError(f"{_at(path, *places)} {what}")


def maybe(name: str, known: Iterable[str], alike: float = 0.6) -> str:
    """A guess at what a misspelled name means, to be put behind it; "" if nothing is alike."""
    swapped = [each for each in known if sorted(each) == sorted(name)]
    return "".join(f": maybe {m}" for m in swapped[:1] or get_close_matches(name, known, 1, alike))


def statements_of(path: Path, text: str) -> list[tuple[exp.Expr, str]]:
    """Each statement of a file: parsed, and as written.

    Raises:
        SparkifyError: the file does not parse; the message has its path and line.
    """
    try:
        return _statements_in(text)
    except SqlglotError as error:
        raise wrong(path, f"does not parse as Redshift SQL: {_plain(error)}") from None


@cache
def _statements_in(text: str) -> list[tuple[exp.Expr, str]]:
    tokens = REDSHIFT.tokenize(text)
    runs = groupby(tokens, lambda token: token.token_type.name == "SEMICOLON")
    parts = [list(run) for is_end, run in runs if not is_end]
    texts = [text[part[0].start : part[-1].end + 1] for part in parts]
    parsed = REDSHIFT.parser().parse(tokens, text)
    statements = [s for s in parsed if s and not isinstance(s, exp.Semicolon)]
    return list(zip(statements, texts, strict=True))


def ties_in(
    text: str, path: Path
) -> tuple[str | None, dict[str, str], dict[str, tuple[str, str, str]]]:
    """Parses `-- maintained by: day = CAST(events.ts AS DATE) AND ...` into key, ties and ways.

    See `Table` for these. Raises SparkifyError if it is not such a condition.
    """
    keys, ties, ways = set[str](), dict[str, str](), dict[str, tuple[str, str, str]]()
    try:
        condition = sqlglot.parse_one(text, read=DIALECT) if text else exp.And()
    except SqlglotError as error:
        raise wrong(path, f"{text!r} does not parse as a condition: {_plain(error)}") from None
    for part in condition.flatten() if isinstance(condition, exp.And) else [condition]:
        sides = [part.this, part.expression] if isinstance(part, exp.EQ) else [part]
        named = [(side, {c.table.lower() for c in side.find_all(exp.Column)}) for side in sides]
        own = [side for side, tables in named if tables == {""} and isinstance(side, exp.Column)]
        keys.update(side.name.lower() for side in own)
        tied = [(t.pop(), side.sql(DIALECT)) for side, t in named if len(t) == 1 and t != {""}]
        if len(tied) == 2:
            (way, to), (name, its_own) = tied
            ways[name] = (way, to, its_own)
        is_twice = len(tied) == 1 and tied[0][0] in ties
        ties |= dict(tied) if len(tied) == 1 else {}
        if len(own) + len(tied) != len(sides) or len(keys) > 1 or is_twice:
            raise wrong(path, f"maintained by: expected column = table.column, not {part.sql()}")
    return next(iter(keys), None), ties, ways


def tables_read(query: exp.Expr) -> list[exp.Table]:
    """The tables that a query reads: no CTE, no subquery."""
    sources = (source for scope in traverse_scope(query) for source in scope.sources.values())
    return [source for source in sources if isinstance(source, exp.Table)]


def on_tables(statement: str, others: dict[str, str]) -> str:
    """A SELECT or INSERT with some tables replaced by others, otherwise as written."""
    [(tree, _)] = _statements_in(statement)
    target = tree.find(exp.Table) if isinstance(tree, exp.Insert) else None
    tables = [table for table in [*tables_read(tree), target] if table]
    places = {t.this.meta["start"]: t for t in tables if t.name.lower() in others}
    for start, table in sorted(places.items(), reverse=True):
        name, end = table.name.lower(), table.this.meta["end"] + 1
        alias = "" if table.alias or table is target else f" AS {quote(name)}"
        statement = f"{statement[:start]}{quote(others[name])}{alias}{statement[end:]}"
    return statement


def names_in(statement: str) -> set[str]:
    """The names of all columns in a SELECT or INSERT, and "*" if it selects that."""
    [(tree, _)] = _statements_in(statement)
    stars = (star for star in tree.find_all(exp.Star) if not isinstance(star.parent, exp.Count))
    return {column.name.lower() for column in tree.find_all(exp.Column)} | {"*" for _ in stars}


def verify_query(
    query: exp.Query, path: Path, schema: MappingSchema, declared: dict[str, str]
) -> None:
    """Checks the column names and types of a file's query, without data.

    `schema` has the columns of all tables, `declared` the types of those that the query fills.

    Raises:
        SparkifyError: a column is unknown or ambiguous, or values of different families are
            compared or inserted. The message has path and line.
    """
    try:
        tree = qualify(query.copy(), schema=schema, dialect=DIALECT, quote_identifiers=False)
    except OptimizeError as error:
        name = "".join(re.findall(r"(?i)column:? '?(\w+)", str(error))[:1])
        tables = [set(schema.column_names(table)) for table in query.find_all(exp.Table)]
        named = {n for select in query.find_all(exp.Select) for n in select.named_selects}
        places = [c for c in query.find_all(exp.Column) if c.name.lower() == name]
        known = {s.lower() for scope in traverse_scope(query) for s in scope.sources}
        if astray := [c.table for c in places if c.table and c.table.lower() not in known]:
            said = f"{astray[0]}.{name}: there is no table {astray[0]} in this query"
        elif any(c.this.quoted for c in places):
            said = f'"{name}" would be a column: put text in single quotes'
        elif "for table" not in str(error) and sum(name in columns for columns in tables) > 1:
            said = f"several tables have a column {name}: put the table's name before it"
        else:
            said = str(error).partition(" Line:")[0].rstrip(".")
            said += maybe(name, named.union(*tables) - {name})
        raise wrong(path, said, *places) from None
    for clock in query.find_all(*CLOCKS):
        what = f"{clock.sql(DIALECT)}: tables and checks must not depend on the current time"
        raise wrong(path, what, clock.parent or clock)
    for call in query.find_all(exp.Anonymous):  # known to the engine, or misspelled
        if guess := maybe(call.name.upper(), REDSHIFT.parser_class.FUNCTIONS, 0.85):
            warn_once(f"{_at(path, call.parent or call)} unknown function {call.name}{guess}")
    tree = annotate_types(tree, schema=schema, dialect=DIALECT)
    for node in tree.find_all(exp.Predicate):
        sides = [node.args.get(n) for n in ("expression", "low", "high")]
        for other in filter(None, [*node.expressions, *sides]):
            if node.this.is_string or other.is_string:  # such as a date
                continue
            kind, other_kind = _family(node.this), _family(other)
            if kind and other_kind and kind != other_kind:
                what = f"compares {kind} with {other_kind}: {node.sql(DIALECT, comments=False)}"
                raise wrong(path, what, node)
    for value, (column, kind) in zip(tree.selects, declared.items(), strict=False):
        given, wanted = _family(value), FAMILIES.get(exp.DataType.build(kind, dialect=DIALECT).this)
        if given and given != wanted:
            what = f"the column {column} is {wanted}, but the query returns {given}"
            raise wrong(path, what, value)


def _family(value: exp.Expr) -> str | None:
    kind = value.type
    return FAMILIES.get(kind.this) if kind else None


def _at(path: Path, *places: exp.Expr) -> str:
    """The path, and the line of the first name in these places that has one."""
    names = (name for place in places for name in place.find_all(exp.Identifier))
    lines = (f"{name.meta['line']}:" for name in names if "line" in name.meta)
    return f"{path}:{next(lines, '')}"


@cache
def lineage_of(
    statement: str, columns: tuple[tuple[str, str, str], ...]
) -> dict[str, list[tuple[str, str]]]:
    """For each column of a SELECT or INSERT, the (table, column) pairs that it is made from.

    `columns` are (table, name, type) of all columns that it may read. Columns used only to count,
    join, order or filter are left out.
    """
    types: dict[str, dict[str, str]] = {}
    for table, name, kind in columns:
        types.setdefault(table, {})[name] = kind
    tree = sqlglot.parse_one(statement, read=DIALECT)
    query = tree.expression if isinstance(tree, exp.Insert) else tree
    # without trimming, which is slow and only shortens what nodes show of the query
    found = lineage(None, query, types, dialect=DIALECT, copy=False, trim_selects=False)
    made_from = {}
    for name, root in found.items():
        leaves = (n for n in root.walk() if isinstance(n.expression, exp.Table))
        made_from[name] = sorted({(n.expression.name, n.name.rpartition(".")[2]) for n in leaves})
    return made_from


def spelled(kind: exp.DataType) -> str | None:
    """The one spelling of a type; None if an engine lacks it."""
    text = "VARCHAR" if kind.sql() == "TEXT" else kind.sql(DIALECT)
    text = re.sub(r"^DECIMAL\((\d+)\)$", r"DECIMAL(\1, 0)", IN_FULL.get(text, text))
    return text if PORTABLE.fullmatch(text) else None


def type_named(text: str) -> str:
    """The one spelling of a type that an engine names, or that name if `sql/` cannot use it."""
    return spelled(exp.DataType.build(text, dialect=DIALECT, udt=True)) or text


def _plain(error: SqlglotError) -> str:
    details = getattr(error, "errors", None)
    if not details:
        return str(error).splitlines()[0]
    first = details[0]
    where = f"line {first['line']}, column {first['col']}: {first['description']}"
    return f"{where}, near {first['highlight']!r}. Is a comma missing, or a word misspelled?"
